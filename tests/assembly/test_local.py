"""Local mode put together: several processes of one person, which share a store."""

from __future__ import annotations

from aggregator.assembly.local import TOGETHER, is_first
from aggregator.store.memory import MemoryStore

from ..upstream.token_server import FailingStore

NOW = 1_800_000_030.0


async def test_of_several_processes_that_start_together_one_opens_the_window() -> None:
    store = MemoryStore(clock=lambda: NOW)
    ours, theirs = "http://localhost:4001/connect/mail", "http://localhost:4002/connect/mail"
    assert await is_first(store, ours, now=NOW)
    assert not await is_first(store, theirs, now=NOW)
    assert not await is_first(store, theirs, now=NOW + TOGETHER)
    assert await is_first(store, "http://localhost:4002/connect/notes", now=NOW)
    assert await is_first(store, theirs, now=NOW + 3 * TOGETHER)


async def test_a_store_that_is_away_keeps_no_window_shut() -> None:
    store = FailingStore(MemoryStore(clock=lambda: NOW))
    store.away = {"is_consumed", "consume"}
    assert await is_first(store, "http://localhost:4001/connect/mail", now=NOW)
