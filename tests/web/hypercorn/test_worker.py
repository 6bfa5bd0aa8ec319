"""What connections of a worker share: when an idle one is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import EventWrapper
from trio.testing import MockClock

from aggregator.web.hypercorn.worker import FIRST_REQUEST, IdleTimer

PATIENCE = 75.0


class Watched:
    def __init__(self) -> None:
        self.terminated = EventWrapper()
        self.timer = IdleTimer(self.terminated, PATIENCE)
        self.closed_at: float | None = None
        self.tasks = TaskGroup()

    async def close(self) -> None:
        self.closed_at = trio.current_time()


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """A connection from its beginning, and until long after."""
    connection = Watched()
    async with connection.tasks:
        await connection.timer.restart(connection.tasks, connection.close)
        yield connection
        await trio.sleep(1000)
        connection.timer.end()


async def test_one_that_nobody_uses_is_closed_after_a_while(autojump_clock: MockClock) -> None:
    async with watched() as connection:
        began = trio.current_time()
    assert connection.closed_at == pytest.approx(began + PATIENCE)


async def test_at_the_end_one_that_has_served_is_closed_at_once(autojump_clock: MockClock) -> None:
    async with watched() as connection:
        await connection.timer.stop()
        await connection.timer.restart(connection.tasks, connection.close)
        await trio.sleep(1)
        ended = trio.current_time()
        await connection.terminated.set()
    assert connection.closed_at == pytest.approx(ended)


async def test_at_the_end_one_that_has_asked_nothing_yet_may(autojump_clock: MockClock) -> None:
    async with watched() as connection:
        await trio.sleep(1)
        ended = trio.current_time()
        await connection.terminated.set()
    assert connection.closed_at == pytest.approx(ended + FIRST_REQUEST)


async def test_what_is_asked_then_is_not_cut_off(autojump_clock: MockClock) -> None:
    async with watched() as connection:
        await connection.terminated.set()
        await trio.sleep(FIRST_REQUEST / 2)
        await connection.timer.stop()
    assert connection.closed_at is None, "it closes by itself behind its answer"
