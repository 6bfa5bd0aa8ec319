"""Standard input and output of this process, for messages alone.

Both are read and written by threads: to make them non-blocking would make them so
for everybody who shares them, a terminal's shell for one. This file must not know
what a line means.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import trio

from ..protocol.lines import LineReader, Overlong

CHUNK = 64 * 2**10  # bytes; what a pipe holds
MAX_LINE = 16 * 2**20  # bytes; the endpoint's own limit on a message is lower, and says so


class Pipes:
    """Takes both over: from here on whoever prints in this process prints to stderr, and whoever reads gets nothing."""

    def __init__(self) -> None:
        self._input, self._output = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._writing = trio.Lock()
        self._threads = trio.CapacityLimiter(2)
        self._is_gone = False

    async def lines(self) -> AsyncIterator[bytes]:
        """Each line of the input, until it ends. A line beyond `MAX_LINE` becomes one that nobody can read."""
        reader = LineReader(MAX_LINE)
        while chunk := await trio.to_thread.run_sync(
            os.read, self._input, CHUNK, abandon_on_cancel=True, limiter=self._threads
        ):
            for line in reader.feed(chunk):
                yield line.head if isinstance(line, Overlong) else line
        if reader.pending:
            for line in reader.feed(b"\n"):
                yield line.head if isinstance(line, Overlong) else line

    async def write(self, message: bytes) -> None:
        """Write one message as a line. Once nobody reads any more it is lost, and so are all later ones."""
        async with self._writing:
            if self._is_gone:
                return
            try:
                await trio.to_thread.run_sync(
                    self._write_all, message + b"\n", abandon_on_cancel=True, limiter=self._threads
                )
            except BrokenPipeError:
                self._is_gone = True

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._output, rest) :]
