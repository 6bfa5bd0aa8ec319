"""A command as a child process: no shell, a group of its own, a guard that outlives us, an end that is bounded.

This file owns starting, the exit code and ending. It must not know what is said
over the pipes, nor why the command runs: upstreams and credential helpers both use it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from ...errors import UpstreamLost
from .guard import AFTER_KILL, GRACE

GUARD = str(Path(__file__).with_name("guard.py"))
GUARD_START = 10.0  # seconds; it takes hundredths, on a machine that does not swap
CLOSED_STDIN = 2.0  # seconds for a command to end by itself once its stdin has ended (MCP, stdio shutdown)
TERMINATED = 2.0  # seconds to heed SIGTERM
KILLED = GRACE + AFTER_KILL + 1.0  # seconds for the guard to see the group end


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `env` is its whole environment; the values in `secrets` are not to be logged."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"<Command {self.name}>"  # arguments may hold what is nobody's business

    @property
    def name(self) -> str:
        return os.path.basename(self.argv[0])


class Running(Protocol):
    """A running command. `code` is negative for a signal, None while it runs or if nobody knows."""

    @property
    def stdin(self) -> trio.abc.SendStream: ...

    @property
    def stdout(self) -> trio.abc.ReceiveStream: ...

    @property
    def stderr(self) -> trio.abc.ReceiveStream: ...

    @property
    def code(self) -> int | None: ...

    @property
    def exited(self) -> trio.Event: ...

    async def watch(self) -> None:
        """Take in the exit code; returns once the command has ended. One task at a time."""
        ...

    async def end(self, *, gently: bool = True) -> None:
        """End the command and its group: stdin closed, SIGTERM, SIGKILL, each with its time. Shielded and bounded.

        Needs `watch` to run, and somebody to read stdout and stderr: who cannot write cannot end.
        """
        ...


StartChild = Callable[[Command], AbstractAsyncContextManager[Running]]


class Child:
    """A command run by the system. Opened by `open_child`, which ends it."""

    def __init__(self, guard: trio.Process, control: trio.SocketStream) -> None:
        assert guard.stdin is not None
        assert guard.stdout is not None
        assert guard.stderr is not None
        self.stdin: trio.abc.SendStream = guard.stdin
        self.stdout: trio.abc.ReceiveStream = guard.stdout
        self.stderr: trio.abc.ReceiveStream = guard.stderr
        self.pid = 0  # the command's own, and that of its group; 0 before it has started
        self.code: int | None = None
        self.exited = trio.Event()
        self._guard = guard
        self._control = control
        self._said = b""

    def __repr__(self) -> str:
        return f"<Child {self.pid}{'' if self.code is None else f' exited {self.code}'}>"

    async def watch(self) -> None:
        """See `Running.watch`."""
        while not self.exited.is_set():
            word, number = await self._hear()
            if word == "exited":
                self.code = number
            if word != "started":
                self.exited.set()

    async def end(self, *, gently: bool = True) -> None:
        """See `Running.end`."""
        with trio.CancelScope(shield=True):
            await _aclose(self.stdin)
            if gently:
                await self._wait_exited(CLOSED_STDIN)
                if not self.exited.is_set():
                    await self._order(b"T")
                    await self._wait_exited(TERMINATED)
            if not self.exited.is_set():
                await self._order(b"K")

    async def _started(self, command: Command) -> None:
        """Raises:
        UpstreamLost: if it cannot be started.
        """
        with trio.move_on_after(GUARD_START):
            word, number = await self._hear()
            if word == "started":
                self.pid = number
                return
            if word == "failed":
                raise UpstreamLost(f"cannot be started: {_why_not(command, number)}", executed=False)
            raise UpstreamLost("cannot be started: its guard ended", executed=False)
        raise UpstreamLost(f"cannot be started: its guard said nothing within {GUARD_START:g} s", executed=False)

    async def _hear(self) -> tuple[str, int]:
        """What the guard says next; ("", 0) when it says nothing any more."""
        while b"\n" not in self._said:
            try:
                chunk = await self._control.receive_some(1024)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                chunk = b""
            if not chunk:
                return "", 0
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        word, _, number = line.decode("ascii", "replace").partition(" ")
        return word, int(number)

    async def _order(self, order: bytes) -> None:
        try:
            await self._control.send_all(order)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the guard has ended, see `_bury`

    async def _wait_exited(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.exited.wait()

    async def _bury(self) -> None:
        """Let go of everything; the guard ends the group when the socket closes."""
        with trio.CancelScope(shield=True):
            for stream in (self.stdin, self.stdout, self.stderr, self._control):
                await _aclose(stream)
            with trio.move_on_after(KILLED):
                await self._guard.wait()
            if self._guard.poll() is None:
                self._guard.kill()
                await self._guard.wait()
            # A guard that was killed itself could do nothing. The number may belong to nobody, but not yet to others.
            if self._guard.returncode not in (0, 127) and self.pid and self.code is None:
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass


@asynccontextmanager
async def open_child(command: Command) -> AsyncIterator[Child]:
    """The command, started. Whatever is left of its group is ended on exit, within `KILLED` seconds.

    Raises:
        UpstreamLost: if it cannot be started; the text has no subject, and nothing of the arguments.
    """
    try:
        guard, ours = await _start_guard(command)
    except (OSError, ValueError) as exc:
        where = f" (cwd {command.cwd})" if command.cwd and getattr(exc, "filename", None) == command.cwd else ""
        words = exc.strerror if isinstance(exc, OSError) else "a NUL, or half of a surrogate pair, in a text"
        raise UpstreamLost(f"cannot be started{where}: {words}", executed=False) from exc
    control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    child = Child(guard, control)
    try:
        await child._started(command)
        yield child
    finally:
        await child._bury()


def _why_not(command: Command, number: int) -> str:
    """What keeps it from being started, and what helps; `number` is the errno."""
    program = command.argv[0]
    match number:
        case errno.ENOENT if "/" not in program:
            return "there is no such program on the PATH; install it, or name its whole path"
        case errno.ENOENT if os.path.exists(os.path.join(command.cwd or "", program)):
            return "the interpreter in its first line is not there; install that, or begin the command with another"
        case errno.ENOENT:
            return "there is no such file; correct its path, which counts from 'cwd' or our own folder"
        case errno.EACCES:
            return "it may not be executed; chmod +x it, or begin the command with its interpreter"
        case errno.ENOEXEC:
            return "it is no program; begin the command with its interpreter"
    return os.strerror(number)


async def _start_guard(command: Command) -> tuple[trio.Process, socket.socket]:
    """The guard, which starts `command`, and our end of the socket between us.

    Raises:
        OSError, ValueError: see `subprocess.Popen`.
    """
    ours, theirs = socket.socketpair()
    try:
        guard = await trio.lowlevel.open_process(
            [sys.executable, "-I", "-S", GUARD, str(theirs.fileno()), *command.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
            pass_fds=(theirs.fileno(),),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return guard, ours


async def _aclose(stream: trio.abc.AsyncResource) -> None:
    with trio.CancelScope(shield=True):
        try:
            await stream.aclose()
        except trio.BrokenResourceError:
            pass
