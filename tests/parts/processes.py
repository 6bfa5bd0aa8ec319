"""A foreign process for the length of a block: its own group, its output kept, gone at the end.

This file does not know what runs.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import IO

import trio

START_DEADLINE = 30.0  # seconds; node on a busy two-core machine takes five
LOOK_AGAIN = 0.05  # seconds


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

    async def wait_output(self, pattern: str, *, within: float = START_DEADLINE) -> re.Match[str]:
        """The first match of `pattern` in the output.

        Raises:
            ProcessFailed: if the process ends, or the time does, without one.
        """
        with trio.move_on_after(within):
            while (found := re.search(pattern, self.output())) is None:
                self._check_alive()
                await trio.sleep(LOOK_AGAIN)
            return found
        raise ProcessFailed(f"{self.name} did not write {pattern!r} within {within:g} s:\n{self.output()[-4000:]}")

    async def wait_listening(self, port: int, *, within: float = START_DEADLINE) -> None:
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
                with trio.move_on_after(3):
                    await process.wait()


def free_port() -> int:
    """A loopback port nobody listens on now, for servers that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass
