"""A sign of life on every answer that keeps its client waiting, so that nobody on the way takes silence for the end.

One task looks at all open answers; a request costs an entry in a set. A comment
means nothing to a client (SSE), and its first one turns an answer into a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

SILENCE = 15.0  # seconds; what stands between, load balancers for one, gives up after 60 and more
BEAT = 1.0  # seconds between two looks; silence lasts so much longer at most
STALLED = 10.0  # seconds for a client to take one comment; its connection is somebody else's to end


class Beating(Protocol):
    """An answer under way. `due_at` is when its client shall hear something, in trio's time; what goes out moves it."""

    due_at: float

    async def keep_alive(self) -> None: ...


class Pulse:
    """Keeps open answers alive; `run` is a task of the app's nursery."""

    def __init__(self) -> None:
        self._open: set[Beating] = set()
        self._busy: set[Beating] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def keeping(self, answer: Beating) -> Iterator[None]:
        self._open.add(answer)
        try:
            yield
        finally:
            self._open.discard(answer)

    async def run(self) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(BEAT)
                now = trio.current_time()
                for answer in self._open - self._busy:
                    if answer.due_at <= now:
                        self._busy.add(answer)
                        nursery.start_soon(self._beat, answer)

    async def _beat(self, answer: Beating) -> None:
        try:
            with trio.move_on_after(STALLED):
                await answer.keep_alive()
        finally:
            self._busy.discard(answer)
