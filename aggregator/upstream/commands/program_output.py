"""What a program prints that is run for one secret: a token, a client's id or secret.

The program is the operator's, its output is not trusted to be a header: one line
of visible ASCII, or an error that quotes nothing of it. This file must not know
what the secret is for.
"""

from __future__ import annotations

import re

import trio

from ...errors import UpstreamLost
from .child import Command, Running, StartChild, open_child
from .child_log import ChildLog

HELPER_DEADLINE = 30.0  # seconds; some ask a person for a touch, or a cloud for a role
MAX_OUTPUT = 64 * 2**10  # bytes

_TOKEN = re.compile(rb"[\x21-\x7e]+(?: [\x21-\x7e]+)*")  # what a header can hold: no CR, LF, NUL, nothing beyond ASCII


async def printed_by(command: Command, what: str, *, start: StartChild = open_child) -> bytes:
    """What `command` printed, checked; the log has its stderr, under the name `what`. It ends when this is cancelled.

    Raises:
        UpstreamLost: without a subject: "failed with exit code 1". Never with anything that was printed.
    """
    with trio.move_on_after(HELPER_DEADLINE):
        async with start(command) as child:
            output = await _collect(child, ChildLog(what))
            code = child.code
        return checked(output, code)
    raise UpstreamLost(f"printed nothing within {HELPER_DEADLINE:g} s and was stopped", executed=False)


async def _collect(child: Running, words: ChildLog) -> bytes:
    """What the program prints until it ends, or prints too much."""
    output = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(words.drain, child.stderr)
        nursery.start_soon(child.watch)
        await child.stdin.aclose()  # it is asked nothing
        try:
            while len(output) <= MAX_OUTPUT and (chunk := await child.stdout.receive_some(MAX_OUTPUT)):
                output += chunk
            if len(output) <= MAX_OUTPUT:
                await child.exited.wait()
        finally:
            await child.end(gently=False)
        nursery.cancel_scope.cancel()
    return output


def checked(output: bytes, code: int | None) -> bytes:
    """The text in `output`, of a program that ended with `code`.

    Raises:
        UpstreamLost: if there is none.
    """
    if len(output) > MAX_OUTPUT:
        raise UpstreamLost(f"printed more than {MAX_OUTPUT} bytes", executed=False)
    if code is None:
        raise UpstreamLost("was lost with its guard", executed=False)
    if code != 0:
        how = f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        raise UpstreamLost(f"{how}; the log has what it wrote to stderr", executed=False)
    text = output.strip(b" \t\r\n")
    if not text:
        raise UpstreamLost("printed nothing", executed=False)
    # git CVE-2020-5260, CVE-2024-52006: what follows a line end within would be another field.
    if _TOKEN.fullmatch(text) is None:
        raise UpstreamLost("printed more than one line, or characters that no header can hold", executed=False)
    return text
