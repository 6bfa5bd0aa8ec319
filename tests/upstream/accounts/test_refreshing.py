"""One refresh for all who ask, kept whatever happens; a clear no alone ends a connection."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import Postponed
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.connections import EARLY_PATIENCE, PATIENCE
from aggregator.upstream.accounts.personal_credentials import PersonalCredentials
from aggregator.upstream.accounts.refreshing import DOUBTED, LEASE, OTHERS_PATIENCE, REFRESH_DEADLINE

from ...store.samples import ADA, NOW
from ..token_server import (
    GMAIL,
    ISSUER,
    LIFETIME,
    FailingStore,
    TokenServer,
    Wall,
    either,
    expired,
    gather,
    instance,
    near_its_end,
    row,
    stored,
    token_of,
)

BUSY = Postponed("it is busy")


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def store(wall: Wall) -> FailingStore:
    assert wall() == NOW  # from here on
    return FailingStore(MemoryStore(clock=wall))


@pytest.fixture
def server() -> TokenServer:
    return TokenServer()


# Refreshing


@pytest.mark.requirement("UP3", "UP5")
async def test_a_token_near_its_end_is_refreshed_at_the_issuer_recorded_and_used_at_once(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(LIFETIME - 121)
        assert await token_of(credentials) == "access-0"
        await trio.sleep(61)
        assert await token_of(credentials) == "access-1"
        kept = await stored(store)
        assert (kept.generation, kept.access_token, kept.refresh_token) == (1, "access-1", "refresh-1")
        assert (kept.issued_at, kept.expires_at) == (wall(), wall() + LIFETIME)
        assert kept.lease_until is None
    assert server.asked == [
        {
            "upstream": "gmail",
            "issuer": ISSUER,
            "client_id": "our-id",
            "resource": GMAIL.url,
            "scope": "mail.read",
            "refresh_token": "refresh-0",
            "patient": True,
        }
    ]


async def test_a_connection_lives_through_any_number_of_refreshes_by_two_instances(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, one), instance(store, server, wall) as (_, two):
        for _ in range(200):
            assert await token_of(one) == await token_of(two)
            await trio.sleep(500)
    assert server.number == len(server.asked)
    assert 24 <= server.number <= 29


async def test_a_refresh_token_that_is_not_given_anew_stays_good(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.rotates = False
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        for number in range(1, 4):
            assert await token_of(credentials) == f"access-{number}"
            await trio.sleep(LIFETIME)
    assert {asked["refresh_token"] for asked in server.asked} == {"refresh-0"}


async def test_a_token_without_an_end_is_used_until_it_is_refused(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(expires_at=None))
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(LIFETIME * 1000)
        sent = await credentials.current(ADA)
        assert server.asked == []
        renewed = await credentials.renewed(ADA, sent, 401, "")
        assert renewed is not None
        assert renewed == await credentials.current(ADA)
        assert len(server.asked) == 1


@pytest.mark.requirement("AF13")
@pytest.mark.parametrize("takes", [0.0, 0.05, 3.0])
async def test_of_fifty_calls_of_two_instances_at_once_one_asks_and_all_go_on(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, takes: float
) -> None:
    server.takes = takes
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, one), instance(store, server, wall) as (_, two):
        answers = await gather(50, lambda number: token_of((one, two)[number % 2]))
    assert answers == ["access-1"] * 50
    assert len(server.asked) == 1


FAULTS: list[list[Postponed | float | Exception]] = [
    [Postponed("it answered 429", 3.0)],
    [Postponed("it answered 503")],
    [Postponed("it answered with HTML, and we read JSON")] * 3,
    [UpstreamLost("no route to host")],
    [StoreUnavailable("the registration cannot be read")],
    [REFRESH_DEADLINE + 1],
]


@pytest.mark.parametrize("script", FAULTS, ids=["429", "503", "HTML", "unreachable", "no registration", "hanging"])
async def test_a_server_in_trouble_logs_nobody_out(
    autojump_clock: MockClock,
    store: FailingStore,
    server: TokenServer,
    wall: Wall,
    script: list[Postponed | float | Exception],
) -> None:
    server.script = list(script)
    await store.save_connection(expired())

    told: list[tuple[bool, bool]] = []

    async def call(credentials: PersonalCredentials) -> str:
        while True:
            try:
                return await token_of(credentials)
            except UpstreamLost as exc:
                told.append((exc.executed, "call again" in str(exc).lower()))
                await trio.sleep(1)

    async with instance(store, server, wall) as (_, one), instance(store, server, wall) as (_, two):
        with trio.fail_after(60):
            answers = await gather(50, lambda number: call((one, two)[number % 2]))
        assert answers == ["access-1"] * 50
        assert set(told) <= {(False, True)}
        assert len(server.asked) == len(script) + 1
        kept = await stored(store)
        assert (kept.failures, kept.next_try_at, kept.reason) == (0, None, None)


async def test_while_the_old_token_is_good_trouble_is_not_felt(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.script = [BUSY, Postponed("it is busy", 20.0)]
    await store.save_connection(near_its_end())
    async with instance(store, server, wall) as (connections, credentials):
        begun = trio.current_time()
        assert await token_of(credentials) == "access-0"
        assert trio.current_time() == begun
        standing = (await connections.standing(ADA))["gmail"]
        assert (standing.state, standing.reason) == ("retrying", "it is busy")
        assert standing.next_try_at is not None
        assert 1 <= standing.next_try_at - wall() <= 1.25
        assert await token_of(credentials) == "access-0"
        assert len(server.asked) == 1
        await trio.sleep(2)
        assert await token_of(credentials) == "access-0"
        assert len(server.asked) == 2
        await trio.sleep(19)
        assert await token_of(credentials) == "access-0"
        assert len(server.asked) == 2  # Retry-After
        await trio.sleep(2)
        assert await token_of(credentials) == "access-1"
        assert (await connections.standing(ADA))["gmail"].state == "connected"


async def test_a_slow_server_delays_a_call_with_a_good_token_by_a_moment_only(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.takes = 5.0
    await store.save_connection(near_its_end())
    async with instance(store, server, wall) as (_, credentials):
        begun = trio.current_time()
        assert await token_of(credentials) == "access-0"
        assert trio.current_time() - begun == pytest.approx(EARLY_PATIENCE)
        await trio.sleep(10)
        assert await token_of(credentials) == "access-1"
    assert len(server.asked) == 1


async def test_an_expired_token_is_waited_for_within_bounds_and_the_refresh_goes_on(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.takes = PATIENCE / 2 + 1
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        begun = trio.current_time()
        with pytest.raises(UpstreamLost, match="takes longer than usual"):
            await credentials.current(ADA)
        assert trio.current_time() - begun == pytest.approx(PATIENCE)
        await trio.sleep(PATIENCE)
        assert await token_of(credentials) == "access-1"
    assert len(server.asked) == 1


async def test_a_next_try_that_is_far_away_is_said_at_once(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(expired(failures=3, reason="it answered 503", next_try_at=NOW + 100))
    async with instance(store, server, wall) as (_, credentials):
        begun = trio.current_time()
        with pytest.raises(UpstreamLost, match=r"it answered 503; it is tried again in 100 s"):
            await credentials.current(ADA)
        assert trio.current_time() == begun
    assert server.asked == []


async def test_an_outage_of_hours_is_asked_about_ever_less_and_ends_well(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.script = [BUSY] * 24
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        lost = 0
        for _ in range(3 * 60):
            try:
                await token_of(credentials)
            except UpstreamLost:
                lost += 1
            await trio.sleep(60)
        assert 60 <= lost <= 120
        assert (await stored(store)).generation >= 1
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]
    assert "access-" not in caplog.text
    assert "refresh-" not in caplog.text


@pytest.mark.requirement("UP5")
async def test_a_clear_no_ends_the_connection_with_its_reason_and_asks_nobody_again(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.good = "something else"
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials):
        for _ in range(3):
            with pytest.raises(ConnectNeeded, match="the login was withdrawn") as raised:
                await credentials.current(ADA)
            assert raised.value.upstream == "gmail"
        kept = await stored(store)
        assert (kept.state, kept.access_token, kept.refresh_token) == ("needs_login", None, None)
        standing = (await connections.standing(ADA))["gmail"]
        assert (standing.state, standing.reason) == ("needs_login", "the login was withdrawn")
    assert len(server.asked) == 1
    assert "has ended: the login was withdrawn" in caplog.text


async def test_a_server_that_does_not_know_us_is_doubted_for_half_a_minute(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    """It is asked to be patient as long as that lasts, and then to decide."""
    server.script = [Postponed("invalid_client")] * DOUBTED
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        while len(server.asked) <= DOUBTED:
            await either(credentials)
            await trio.sleep(1)
        assert [asked["patient"] for asked in server.asked] == [*[True] * DOUBTED, False]
        assert 30 < trio.current_time() < 60


async def test_a_no_to_a_token_that_another_instance_has_renewed_ends_nothing(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    """A process that was stopped for longer than the lease comes back with an answer to a token that is void."""
    await store.save_connection(expired())
    stopped = TokenServer()
    stopped.script, stopped.good = [REFRESH_DEADLINE - 0.1], "another"
    async with instance(store, stopped, wall) as (_, slow), instance(store, server, wall) as (_, quick):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_lost, slow)
            await trio.sleep(1)
            taken = await stored(store)
            await store.save_connection(expired(lease_owner=taken.lease_owner, lease_until=wall()))  # it ran out
            assert await token_of(quick) == "access-1"
        await trio.sleep(LEASE)
        assert await token_of(slow) == "access-1"
    assert (await stored(store)).state == "connected"


async def expect_lost(credentials: PersonalCredentials) -> None:
    with pytest.raises(UpstreamLost):
        await credentials.current(ADA)


@pytest.mark.parametrize("takes", [OTHERS_PATIENCE / 2 + 1, REFRESH_DEADLINE])
async def test_another_instance_that_takes_long_is_waited_for_within_bounds(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, takes: float
) -> None:
    await store.save_connection(expired(lease_owner="another", lease_until=NOW + takes))
    async with instance(store, server, wall) as (_, credentials):
        begun = trio.current_time()
        answer = await either(credentials)
        assert answer == "access-1" if takes < PATIENCE else "takes longer than usual" in answer
        assert trio.current_time() - begun <= PATIENCE + 0.01
        await trio.sleep(takes)
        assert await token_of(credentials) == "access-1"  # whoever had the lease is gone
    assert len(server.asked) == 1


async def test_a_lease_outlasts_every_exchange() -> None:
    assert LEASE >= REFRESH_DEADLINE + 5


async def test_a_good_token_that_ends_while_its_successor_is_waited_for_is_not_used(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.takes = 5.0
    await store.save_connection(near_its_end(expires_at=NOW + 1))
    async with instance(store, server, wall) as (_, credentials):
        assert "takes longer than usual" in await either(credentials)
