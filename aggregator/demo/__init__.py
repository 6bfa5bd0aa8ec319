"""`mcp-aggregator demo`: everything at once on this computer, without an account.

Reading order: `identity_provider` and `upstreams` (what an organisation already
has), `stage` (all of it put together), `forms` and `walk` (``--check``: the way
a client goes). This file owns the words for the person who tries it.
"""

from __future__ import annotations

import json
import shlex
import sys
import warnings

import trio
from mcp.shared.exceptions import MCPDeprecationWarning

from ..serving import run_until_signalled
from .stage import DRAIN, listen_for_demo, open_demo
from .walk import StepFailed, walk_all

CHECK_DEADLINE = 30.0  # seconds for all of ``--check``; it takes about one


def run(check: bool = False, port: int | None = None) -> int:
    """Serve the demo until ^C, or with `check` walk through it once; the exit code.

    0 when stopped or when every step went well, 1 when one did not, 75 when `port` cannot be had.
    """
    # Log messages are deprecated since 2026-07-28, and still what clients show; `slow` sends some.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    failures: list[str] = []

    async def main(shutdown: trio.Event) -> None:
        if check:
            failures.extend(await _check(port))
        else:
            await _serve(port, shutdown)

    exit_code = run_until_signalled(main, drain=DRAIN)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return exit_code or (1 if failures else 0)


async def _serve(port: int | None, shutdown: trio.Event) -> None:
    begun = trio.current_time()
    async with open_demo(listen_for_demo(port), shutdown=shutdown) as url:
        print(welcome(url, trio.current_time() - begun), flush=True)
        await shutdown.wait()


async def _check(port: int | None) -> list[str]:
    """Why it did not go all the way; nothing when it did. Without `port` it takes any free one: it is nobody's demo."""
    begun = trio.current_time()
    with trio.move_on_after(CHECK_DEADLINE):
        async with open_demo(listen_for_demo(port or 0)) as url:
            print(f"     {url} is ready after {(trio.current_time() - begun) * 1000:.0f} ms", flush=True)
            try:
                await walk_all(url, lambda line: print(line, flush=True))
            except StepFailed as error:
                return [str(error)]
        print(f"     all of it in {trio.current_time() - begun:.1f} s", flush=True)
        return []
    return [f"not done after {CHECK_DEADLINE:g} s; the step after the last one above does not end"]


def welcome(url: str, seconds: float) -> str:
    """What the demo prints when it is ready: one line to copy per client."""
    endpoint = f"{url}/mcp"
    code = shlex.quote(json.dumps({"name": "demo", "type": "http", "url": endpoint}))
    return f"""\
Ready in {seconds:.1f} s:  {endpoint}
DEMO: anyone on this computer can sign in, as Alice or as Bob, without a password.

  Claude Code   claude mcp add --transport http demo {endpoint}
                then in it: /mcp, demo, Authenticate
  Codex         codex mcp add demo --url {endpoint}
                codex mcp login demo
  VS Code       code --add-mcp {code}
  Inspector     npx @modelcontextprotocol/inspector --transport http --server-url {endpoint}

Tools: demo__echo, demo__add, demo__now, demo__slow, demo__fail, notes__add_note, notes__list_notes.
Everything is in memory and gone at the end. ^C ends it."""
