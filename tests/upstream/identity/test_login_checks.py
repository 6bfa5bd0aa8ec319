"""Checks of logins: one at a time, kept whatever happens to the client, and only a clear no ends a grant."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import IdentityProviderUnavailable, LoginRefused, StoreUnavailable
from aggregator.protocol.oidc import Refreshed, Withdrawn
from aggregator.protocol.principal import Principal
from aggregator.store import LoginToken, Store
from aggregator.store.memory import MemoryStore
from aggregator.upstream.identity.login_checks import CHECK_INTERVAL, CLOSING, PATIENCE, LoginChecks, open_login_checks
from aggregator.upstream.identity.provider import DEADLINE

from ...store.samples import ADA, DAY, NOW, grant

GRANT = grant(expires_at=NOW + 30 * DAY)


_BEGUN: list[float] = []


def wall() -> float:
    """Wall time that goes with trio's."""
    return NOW + trio.current_time() - _BEGUN[0]


class Provider:
    """Rotates, as strict providers do: each token is good once, and a second use ends the login there."""

    def __init__(self) -> None:
        self.good = "refresh-0"
        self.used: list[str] = []
        self.takes = 0.0  # seconds before it acts, and again before it answers
        self.unavailable = False
        self.left = False
        self.keeps_out: str | None = None

    async def refresh(self, refresh_token: str, principal: Principal) -> Refreshed | Withdrawn:
        assert principal == ADA
        await trio.sleep(self.takes)
        self.used.append(refresh_token)
        if self.unavailable:
            raise IdentityProviderUnavailable("https://idp.example answered 503")
        if self.left or refresh_token != self.good:
            return Withdrawn("Session not active")
        self.good = f"refresh-{len(self.used)}"
        renewed = self.good
        await trio.sleep(self.takes)
        return Refreshed(refresh_token=renewed)

    async def readmit(self, refreshed: Refreshed, principal: Principal) -> None:
        await trio.lowlevel.checkpoint()
        assert principal == ADA
        if self.keeps_out is not None:
            raise LoginRefused(self.keeps_out)


class Failing:
    """A store that is away for the methods named."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away: set[str] = set()

    def __getattr__(self, name: str) -> object:
        if name in self.away:
            return self._fail
        return getattr(self._store, name)

    async def _fail(self, *args: object, **more: object) -> object:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("the disk is full")


@pytest.fixture
async def store() -> Store:
    _BEGUN[:] = [trio.current_time()]
    made = MemoryStore(clock=wall)
    await made.add_grant(GRANT)
    await made.keep_login_token(GRANT.id, "refresh-0", next_check_at=NOW, kept_until=NOW)
    return made


@pytest.fixture
def provider() -> Provider:
    return Provider()


async def gather(count: int, ask: Callable[[int], object]) -> list[object]:
    answers: list[object] = []

    async def one(number: int) -> None:
        answers.append(await ask(number))  # type: ignore[misc]

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return answers


async def is_live(store: Store) -> bool:
    return bool(await store.grants_of(ADA))


async def test_a_person_is_checked_once_in_five_minutes_however_often_their_client_refreshes(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    async with open_login_checks(store, provider, clock=wall) as checks:
        for _ in range(60):
            assert await checks.may_go_on(GRANT)
            await trio.sleep(30)
    assert provider.used == [f"refresh-{number}" for number in range(6)]


async def test_many_refreshes_in_many_processes_make_one_check_and_all_of_one_process_wait_for_it(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    provider.takes = 1.0
    async with (
        open_login_checks(store, provider, clock=wall) as one,
        open_login_checks(store, provider, clock=wall) as two,
    ):
        instances = [one, two]
        answers = await gather(40, lambda number: instances[number % 2].may_go_on(GRANT))
    assert answers == [True] * 40
    assert provider.used == ["refresh-0"]


async def test_a_login_without_a_token_is_not_checked(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    other = replace(GRANT, id="g2")
    await store.add_grant(other)
    async with open_login_checks(store, provider, clock=wall) as checks:
        assert await checks.may_go_on(other)
    assert provider.used == []


@pytest.mark.requirement("TK8")
async def test_a_clear_no_ends_the_grant(
    autojump_clock: MockClock, store: Store, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    provider.left = True
    async with open_login_checks(store, provider, clock=wall) as checks:
        assert not await checks.may_go_on(GRANT)
        assert not await is_live(store)
        assert await store.revoked_since(NOW) == {GRANT.id}
    assert "grant g1 of " in caplog.text
    assert "Session not active" in caplog.text
    assert "refresh-0" not in caplog.text


@pytest.mark.requirement("TK8")
async def test_a_person_whom_our_own_rule_keeps_out_by_now_is_out(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    provider.keeps_out = "this account is not allowed in"
    async with open_login_checks(store, provider, clock=wall) as checks:
        assert not await checks.may_go_on(GRANT)
    assert not await is_live(store)


async def test_an_outage_ends_nothing_is_told_once_and_is_asked_again_later(
    autojump_clock: MockClock, store: Store, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.unavailable = True
    caplog.set_level(logging.INFO)
    async with open_login_checks(store, provider, clock=wall) as checks:
        for _ in range(3):
            assert await checks.may_go_on(GRANT)
            await trio.sleep(CHECK_INTERVAL)
        provider.unavailable = False
        assert await checks.may_go_on(GRANT)
    assert await is_live(store)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "answered 503" in caplog.text


async def test_a_slow_provider_keeps_no_client_waiting_and_its_answer_counts_when_it_comes(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    provider.takes, provider.left = PATIENCE + 1, True
    async with open_login_checks(store, provider, clock=wall) as checks:
        begun = trio.current_time()
        assert await checks.may_go_on(GRANT)
        assert trio.current_time() - begun == pytest.approx(PATIENCE)
        assert await is_live(store)
        await trio.sleep(2)
        assert not await is_live(store)


@pytest.mark.parametrize("patience", [0.0, 0.5, 1.0, 1.5, 2.0])
async def test_what_the_provider_rotated_is_kept_although_the_client_is_gone(
    autojump_clock: MockClock, store: Store, provider: Provider, patience: float
) -> None:
    provider.takes = 1.0
    async with open_login_checks(store, provider, clock=wall) as checks:
        with trio.move_on_after(patience):
            await checks.may_go_on(GRANT)
        await trio.sleep(CHECK_INTERVAL)
        assert await checks.may_go_on(GRANT)
        assert provider.used in (["refresh-0"], ["refresh-0", "refresh-1"])
        await trio.sleep(CHECK_INTERVAL)
        assert await checks.may_go_on(GRANT)
    assert await is_live(store)


async def test_what_the_provider_rotated_waits_for_a_store_that_is_away(
    autojump_clock: MockClock, store: Store, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(store)
    failing.away.add("renew_login_token")
    async with open_login_checks(failing, provider, clock=wall) as checks:  # type: ignore[arg-type]
        assert await checks.may_go_on(GRANT)
        await trio.sleep(60)
        failing.away.clear()
        await trio.sleep(60)
        assert await store.take_login_check(GRANT.id, now=NOW + DAY, next_check_at=NOW) == LoginToken(
            GRANT.id, "refresh-1", 1
        )
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "refresh-1" not in caplog.text


async def test_a_no_that_cannot_be_written_is_a_no_all_the_same(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    provider.left = True
    failing = Failing(store)
    failing.away.add("end_login")
    async with open_login_checks(failing, provider, clock=wall) as checks:  # type: ignore[arg-type]
        assert not await checks.may_go_on(GRANT)
        failing.away.clear()
        await trio.sleep(CHECK_INTERVAL)
        assert not await checks.may_go_on(GRANT)
    assert not await is_live(store)


async def test_a_no_to_a_token_that_another_process_has_renewed_meanwhile_ends_nothing(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    """A process that was stopped for longer than the lease comes back with a token that is void by now."""
    provider.takes = CHECK_INTERVAL + 1
    async with open_login_checks(store, provider, clock=wall) as stopped:
        assert await stopped.may_go_on(GRANT)  # after its patience; the check goes on
        await trio.sleep(CHECK_INTERVAL - PATIENCE)
        quick = Provider()
        async with open_login_checks(store, quick, clock=wall) as checks:
            assert await checks.may_go_on(GRANT)
        provider.good = quick.good
        await trio.sleep(10)
        assert provider.used == ["refresh-0"]
        assert await is_live(store)
        taken = await store.take_login_check(GRANT.id, now=NOW + DAY, next_check_at=NOW)
        assert taken == LoginToken(GRANT.id, "refresh-1", 1)


async def test_a_store_that_is_away_is_the_callers_matter(
    autojump_clock: MockClock, store: Store, provider: Provider
) -> None:
    failing = Failing(store)
    failing.away.add("take_login_check")
    async with open_login_checks(failing, provider, clock=wall) as checks:  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable):
            await checks.may_go_on(GRANT)


@pytest.mark.parametrize(("takes", "kept"), [(CLOSING / 2 - 0.1, True), (CLOSING, False)])
async def test_a_check_under_way_gets_a_moment_when_the_server_stops(
    autojump_clock: MockClock, store: Store, provider: Provider, takes: float, kept: bool
) -> None:
    provider.takes = takes
    async with trio.open_nursery() as nursery:

        async def one_request(checks: LoginChecks) -> None:
            await checks.may_go_on(GRANT)

        async with open_login_checks(store, provider, clock=wall) as checks:
            nursery.start_soon(one_request, checks)
            await trio.sleep(0.01)
            begun = trio.current_time()
        assert trio.current_time() - begun <= CLOSING + 0.01
    token = await store.take_login_check(GRANT.id, now=NOW + DAY, next_check_at=NOW)
    assert token == LoginToken(GRANT.id, "refresh-1" if kept else "refresh-0", int(kept))


async def test_its_text_tells_what_is_under_way(autojump_clock: MockClock, store: Store, provider: Provider) -> None:
    provider.takes = 1
    async with open_login_checks(store, provider, clock=wall) as checks:
        with trio.move_on_after(0.5):
            await checks.may_go_on(GRANT)
        assert repr(checks) == "<LoginChecks 1 under way>"


def test_the_lease_outlasts_every_exchange() -> None:
    assert CHECK_INTERVAL > 3 * DEADLINE
