"""Two processes on one store with different secrets: the younger notices, and the older goes on (F27)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import product
from pathlib import Path

import pytest

from aggregator.errors import StoreUnavailable
from aggregator.keys.agreement import ANNOUNCE_INTERVAL, KeyAgreement
from aggregator.protocol.sealing import KeyRing, key_id
from aggregator.store import WORD_LASTS, Store
from aggregator.store.sealing_word import NAME
from aggregator.store.sqlite import open_sqlite_store

NOW = 1_800_000_000.0
K1, K2 = (bytes([number]) * 32 for number in (1, 2))
RINGS = ((K1,), (K1, K2), (K2, K1), (K2,))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def processes(path: Path, clock: Clock, *rings: Sequence[bytes]) -> AsyncIterator[list[KeyAgreement]]:
    async with AsyncExitStack() as stack:
        found = []
        for ring in rings:
            keys = KeyRing(list(ring))
            store = await stack.enter_async_context(open_sqlite_store(str(path), keys, clock=clock))
            found.append(KeyAgreement(store, keys, clock))
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.mark.requirement("AF27")
@pytest.mark.parametrize(("older", "younger"), list(product(RINGS, repeat=2)))
async def test_somebody_is_red_exactly_where_one_seals_what_the_other_cannot_open(
    path: Path, older: Sequence[bytes], younger: Sequence[bytes]
) -> None:
    clock = Clock()
    async with processes(path, clock, older, younger) as (one, other):
        await one.announce()
        for _ in range(3):
            await other.announce()
            clock.now += ANNOUNCE_INTERVAL
            await one.announce()
        understood = older[0] in younger and younger[0] in older
        assert (one.is_broken or other.is_broken) is not understood
        if older[0] not in younger:
            assert not one.is_broken  # the one that served before goes on, and the roll-out stands still


async def test_a_process_with_another_secret_says_so_once_and_is_ready_when_the_others_are_gone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    caplog.set_level(logging.INFO)
    async with processes(path, clock, [K1], [K2]) as (old, new):
        await old.announce()
        for _ in range(5):
            await new.announce()
            assert new.is_broken
            clock.now += ANNOUNCE_INTERVAL
            await old.announce()
            assert not old.is_broken
        clock.now += WORD_LASTS
        await new.announce()
        assert not new.is_broken
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert key_id(K2) in caplog.text
    assert K2.hex() not in caplog.text
    assert repr(new) == "<KeyAgreement kept>"


@pytest.mark.parametrize("rubbish", ["", "{}", "[]", '{"at": "x", "sealed": ""}', '{"at": 1, "sealed": "ä"}'])
async def test_a_word_that_is_none_is_replaced(path: Path, rubbish: str) -> None:
    clock = Clock()
    async with processes(path, clock, [K1]) as (process,):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("REPLACE INTO meta VALUES (?, ?)", (NAME, rubbish))
        await process.announce()
        assert not process.is_broken


async def test_a_word_from_a_clock_that_is_far_ahead_does_not_last_for_ever(path: Path) -> None:
    clock = Clock()
    async with processes(path, clock, [K1], [K2]) as (one, other):
        clock.now = NOW + 86400
        await one.announce()
        clock.now = NOW
        await other.announce()
        assert not other.is_broken


async def test_a_store_that_is_away_says_nothing_about_keys() -> None:
    class Away:
        async def announce_key(self, *, now: float) -> bool:
            raise StoreUnavailable("gone")

    store: Store = Away()  # type: ignore[assignment]
    agreement = KeyAgreement(store, KeyRing([K1]), Clock())
    await agreement.announce()
    assert not agreement.is_broken
