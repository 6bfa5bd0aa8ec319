"""A foreign process for the length of a block: its own group, its output kept, gone at the end; ports, and patience.

This file does not know what runs.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import IO

import trio

# Seconds. Only what hangs takes so long, on the slowest machine: tests judge states, and bound their waits with this.
PATIENCE = 120.0
LOOK_AGAIN = 0.05  # seconds
# Below 32768, from where Linux lends ports to whoever connects, or binds to 0: such a one could be lent to somebody
# else between our choice and the server's start.
PORTS = range(20_000, 32_000)
BLOCK = 250  # of them for each process that runs tests: a run needs less, and then begins anew


class ProcessFailed(AssertionError):
    """The process ended or stayed silent; the text ends with what it wrote."""


class Running:
    """A started process."""

    def __init__(self, name: str, process: trio.Process, output: IO[bytes]) -> None:
        self.name = name
        self.process = process
        self._output = output

    def output(self) -> str:
        """Everything it wrote to stdout and stderr so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    async def wait_output(self, pattern: str, *, within: float = PATIENCE) -> re.Match[str]:
        """The first match of `pattern` in the lines of the output that are complete.

        Raises:
            ProcessFailed: if the process ends, or the time does, without one.
        """
        with trio.move_on_after(within):
            while True:
                ended = self.process.poll() is not None  # asked first: its last words come before its end
                output = self.output()
                if (found := re.search(pattern, output if ended else output[: output.rfind("\n") + 1])) is not None:
                    return found
                self._check_alive()
                await trio.sleep(LOOK_AGAIN)
        raise ProcessFailed(f"{self.name} did not write {pattern!r} within {within:g} s:\n{self.output()[-4000:]}")

    async def wait_listening(self, port: int, *, within: float = PATIENCE) -> None:
        """Until something accepts connections on the loopback port.

        Raises:
            ProcessFailed: if the process ends, or the time does, before.
        """
        with trio.move_on_after(within):
            while True:
                self._check_alive()
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
                except OSError:
                    await trio.sleep(LOOK_AGAIN)
                else:
                    await stream.aclose()
                    return
        raise ProcessFailed(f"{self.name} does not listen on {port} after {within:g} s:\n{self.output()[-4000:]}")

    def _check_alive(self) -> None:
        if (code := self.process.poll()) is not None:
            raise ProcessFailed(f"{self.name} ended with {code}:\n{self.output()[-4000:]}")


@asynccontextmanager
async def open_process(
    name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """`command` as the leader of a process group that is ended, children and all, when the block is left."""
    with tempfile.TemporaryFile() as output:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=None,
            stdout=output.fileno(),
            stderr=output.fileno(),
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            yield Running(name, process, output)
        finally:
            with trio.CancelScope(shield=True):
                _signal_group(process.pid, signal.SIGTERM)
                with trio.move_on_after(3):
                    await process.wait()
                _signal_group(process.pid, signal.SIGKILL)
                with trio.move_on_after(PATIENCE):  # one in the middle of a slow disk's write, say
                    await process.wait()


async def wait_until(is_so: Callable[[], bool]) -> None:
    """Looks again and again: what happens elsewhere sets no event of ours."""
    with trio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN)


def free_port() -> int:
    """A loopback port nobody listens on now, for servers that cannot choose one themselves.

    No other process that runs tests is given it meanwhile, and nobody connects from it.
    """
    for port in itertools.islice(_own_ports(), BLOCK):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"all of {BLOCK} loopback ports are taken")


@cache
def _own_ports() -> Iterator[int]:
    """A block of `PORTS`, claimed for as long as this process lives, again and again."""
    blocks = [PORTS[start : start + BLOCK] for start in range(0, len(PORTS), BLOCK)]
    random.shuffle(blocks)
    for block in blocks:
        if _claim(f"\0tests of mcp-aggregator, ports from {block.start}"):
            return itertools.cycle(block)
    raise AssertionError(f"{len(blocks)} processes run tests on this machine already")


_CLAIMS: list[socket.socket] = []


def _claim(name: str) -> bool:
    """A name of the machine's, as only Linux has them; where there are none, chance has to do."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(name)
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass
