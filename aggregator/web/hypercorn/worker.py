"""What the connections of one Hypercorn worker share: writes that end; and the timer that each has.

Part of `guard`, which installs it. This file must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import EventWrapper, TrioSingleTask, WorkerContext
from hypercorn.typing import Event as SharedEvent
from hypercorn.typing import TaskGroup

FIRST_REQUEST = 2.0  # when the server stops, for one that was let in and has asked nothing yet; nobody waits longer
WRITE_TIMEOUT = 20.0  # no byte taken for so long: the client has stopped reading; serving.py's TCP_USER_TIMEOUT, too


class IdleTimer(TrioSingleTask):
    """Closes a connection that has been idle for `patience` seconds, or is idle when the server stops. One on which
    nothing was asked yet has `FIRST_REQUEST` then: its client, unlike another (RFC 9112 9.3.1), does not ask again.

    Hypercorn starts a task for the time between two requests, each time: a twentieth of what a request costs us. This
    is one task for a connection's life, whose deadline moves.
    """

    def __init__(self, terminated: SharedEvent, patience: float) -> None:
        super().__init__()
        self._terminated = terminated
        self._patience = patience
        self._scope: trio.CancelScope | None = None
        self._asked = trio.Event()
        self._ended = False

    async def restart(self, task_group: TaskGroup, action: Callable[..., Awaitable[Any]]) -> None:
        """The connection is idle from now on."""
        if self._scope is None:
            self._scope = trio.CancelScope()
            task_group.spawn(self._run, self._scope, action)
        self._scope.deadline = trio.current_time() + self._patience

    async def stop(self) -> None:
        """The connection has something to do."""
        self._asked.set()
        if self._scope is not None:
            self._scope.deadline = inf

    def end(self) -> None:
        """The connection is gone."""
        self._ended = True
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: trio.CancelScope, action: Callable[..., Awaitable[Any]]) -> None:
        with scope:
            await self._terminated.wait()
            with trio.move_on_after(FIRST_REQUEST):
                await self._asked.wait()
        # When the server stops, one that is busy closes by itself behind its answer.
        if not self._ended and scope.deadline < inf:
            with trio.CancelScope(shield=True):
                await action()


class Worker(WorkerContext):
    """H2: knows the writes that are under way, so that the end of the graceful time ends them too."""

    config: Config

    def __init__(self, max_requests: int | None) -> None:
        super().__init__(max_requests)
        self.terminated = _Terminated(self)
        self._writes: set[trio.CancelScope] = set()
        self._writes_until = inf

    async def write(self, stream: trio.abc.SendStream, data: bytes) -> bool:
        """Send all of `data`; False when the client did not take it in time, and the stream is broken.

        Shielded, as in Hypercorn, because half of a piece would corrupt the connection for the next one.
        """
        deadline = min(trio.current_time() + WRITE_TIMEOUT, self._writes_until)
        with trio.CancelScope(shield=True, deadline=deadline) as writing:
            self._writes.add(writing)
            try:
                await stream.send_all(data)
            finally:
                self._writes.discard(writing)
        return not writing.cancelled_caught

    def limit_writes(self) -> None:
        self._writes_until = trio.current_time() + self.config.graceful_timeout
        for writing in self._writes:
            writing.deadline = min(writing.deadline, self._writes_until)


class _Terminated(EventWrapper):
    """Hypercorn sets it in the moment its graceful time begins."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    async def set(self) -> None:
        if hasattr(self._worker, "config"):  # there has been a connection
            self._worker.limit_writes()
        await super().set()
