"""What a process knows of revoked grants, and how old that may become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from aggregator.errors import Refusal, StoreUnavailable
from aggregator.store import Grant
from aggregator.store.memory import MemoryStore
from aggregator.web.oauth.revocations import PROMISED_WITHIN, Revocations

from ..deployment import ANNA


def now() -> float:
    return 1_790_000_000.0 + trio.current_time()


def grant(id: str) -> Grant:
    return Grant(id, ANNA.principal, "anna", "reg-1", "Tester", "https://c.example/cb", "s", "r", now(), now() + 9e5)


@dataclass
class Away(MemoryStore):
    """A memory store that can be away, and counts what it is asked."""

    clock: Callable[[], float]
    away: bool = False
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(clock=self.clock)

    async def revoked_since(self, since: float) -> frozenset[str]:
        self.asked.append(since)
        if self.away:
            raise StoreUnavailable("the disk is gone")
        return await super().revoked_since(since)


def is_fresh(revocations: Revocations) -> bool:
    try:
        revocations.require_fresh()
    except Refusal as exc:
        return exc.status != 503
    return True


@pytest.mark.requirement("TK8")
async def test_what_another_process_revokes_counts_within_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    store = Away(now)
    revocations = Revocations(900, clock=now, monotonic=trio.current_time)
    await store.add_grant(grant("g1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(revocations.watch, store)
        await trio.sleep(12)
        assert "g1" not in revocations
        await store.revoke_grant("g1", now=now())
        await trio.sleep(10)
        assert "g1" in revocations
        assert "g2" not in revocations
        nursery.cancel_scope.cancel()
    assert store.asked[0] < now() - 900


async def test_what_is_revoked_here_counts_at_once_and_until_no_token_can_live(
    autojump_clock: trio.testing.MockClock,
) -> None:
    revocations = Revocations(900, clock=now, monotonic=trio.current_time)
    revocations.add("g1")
    assert "g1" in revocations
    async with trio.open_nursery() as nursery:
        nursery.start_soon(revocations.watch, Away(now))
        await trio.sleep(901)
        assert "g1" in revocations
        await trio.sleep(300)
        assert "g1" not in revocations
        nursery.cancel_scope.cancel()


async def test_the_watch_survives_an_absent_store_and_says_so_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = Away(now)
    revocations = Revocations(900, clock=now, monotonic=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(revocations.watch, store)
        await trio.sleep(1)
        store.away = True
        await trio.sleep(55)
        assert is_fresh(revocations)
        await trio.sleep(10)
        assert not is_fresh(revocations)
        store.away = False
        await trio.sleep(5)
        assert is_fresh(revocations)
        nursery.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_store_that_hangs_counts_as_silent(autojump_clock: trio.testing.MockClock) -> None:
    class Hanging(Away):
        async def revoked_since(self, since: float) -> frozenset[str]:
            await trio.sleep_forever()
            raise AssertionError

    revocations = Revocations(900, clock=now, monotonic=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(revocations.watch, Hanging(now))
        await trio.sleep(61)
        assert not is_fresh(revocations)
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("TK8")
async def test_whoever_waits_for_a_revocation_learns_of_it_wherever_it_was_made(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Away(now)
    revocations = Revocations(900, clock=now, monotonic=trio.current_time)
    for id in ("here", "elsewhere", "never"):
        await store.add_grant(grant(id))
    learned: dict[str, float] = {}

    async def learn(id: str) -> None:
        await revocations.wait_for(id)
        learned[id] = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(revocations.watch, store)
        for id in ("here", "elsewhere", "never"):
            nursery.start_soon(learn, id)
        await trio.sleep(100)
        assert learned == {}
        revocations.add("here")
        await store.revoke_grant("elsewhere", now=now())
        await trio.sleep(PROMISED_WITHIN)
        assert learned["here"] == 100
        assert learned["elsewhere"] <= 100 + PROMISED_WITHIN
        assert "never" not in learned
        await revocations.wait_for("here")  # at once for what is known
        nursery.cancel_scope.cancel()
