"""People's connections: refreshed once for all who ask, kept whatever happens, ended by a clear no alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.config.model import Secret, Upstream
from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import Ended, IssuedTokens, Postponed
from aggregator.store import UNREADABLE, Connection
from aggregator.store.memory import MemoryStore
from aggregator.upstream.connection_life import LAPSED
from aggregator.upstream.connections import CLOSING, EARLY_PATIENCE, PATIENCE, Connections
from aggregator.upstream.credentials import SHARED, Credential, Standing
from aggregator.upstream.known_connections import BELIEVED
from aggregator.upstream.personal_credentials import PersonalCredentials
from aggregator.upstream.refreshing import LEASE, OTHERS_PATIENCE, REFRESH_DEADLINE, REVOKE_DEADLINE

from ..store.samples import ADA, BOB, NOW
from .token_server import (
    GMAIL,
    ISSUER,
    LIFETIME,
    FailingStore,
    TokenServer,
    Wall,
    beginning,
    expired,
    instance,
    near_its_end,
    row,
    token_of,
)

ASKS = "it asks for a login"
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


async def gather(count: int, ask: Callable[[int], Awaitable[Any]]) -> list[Any]:
    answers: list[Any] = []

    async def one(number: int) -> None:
        answers.append(await ask(number))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return answers


async def stored(store: FailingStore) -> Connection:
    found = await store.find_connection(ADA, "gmail")
    assert isinstance(found, Connection)
    return found


# What a request carries


async def test_a_person_without_a_connection_is_sent_as_they_are(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    upstream = Upstream("gmail", GMAIL.url, "gmail", headers=(("X-Team", Secret("a")),))
    anonymous = Credential(headers=((b"x-team", b"a"),))
    async with instance(store, server, wall, upstream) as (_, credentials):
        assert await credentials.current(ADA) == anonymous
        assert await credentials.current(None) == anonymous
        assert await credentials.standing(ADA) == SHARED
        await store.save_connection(row(principal=BOB))
        assert await credentials.current(None) == anonymous


async def test_a_connected_person_sends_their_own_token_and_what_goes_with_every_request(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    headers = (("X-Team", Secret("a")), ("Authorization", Secret("Basic of-the-operator")))
    upstream = Upstream("gmail", GMAIL.url, "gmail", headers=headers)
    await store.save_connection(row())
    await store.save_connection(row(principal=BOB, id="c2", access_token="access-of-bob"))
    async with instance(store, server, wall, upstream) as (_, credentials):
        ada, bob = [await credentials.current(who) for who in (ADA, BOB)]
        assert ada.headers == ((b"x-team", b"a"), (b"authorization", b"Bearer access-0"))
        assert bob.headers == ((b"x-team", b"a"), (b"authorization", b"Bearer access-of-bob"))
        assert len({ada.owner, bob.owner, Credential().owner}) == 3
        assert await credentials.standing(ADA) == Standing(ada.owner, "connected", account="ada@gmail.example")
    assert server.asked == []


async def test_rows_are_believed_for_a_moment_and_what_this_process_changes_is_seen_at_once(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    async with instance(store, server, wall) as (connections, credentials):
        assert credentials.standing_at_hand(ADA) is None
        assert await token_of(credentials) == ""
        assert credentials.standing_at_hand(ADA) == SHARED
        await store.save_connection(row())  # another process
        assert await token_of(credentials) == ""
        assert store.reads == 1
        await trio.sleep(BELIEVED + 0.01)
        assert credentials.standing_at_hand(ADA) is None
        assert await token_of(credentials) == "access-0"
        await connections.save(ADA, "gmail", beginning(), IssuedTokens("access-9", None, "Bearer", None, None))
        assert credentials.standing_at_hand(ADA) is None
        assert await token_of(credentials) == "access-9"
        assert await connections.disconnect(ADA, "gmail")
        assert await token_of(credentials) == ""


async def test_a_connection_that_needs_a_login_is_not_tried(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(state="needs_login", access_token=None, refresh_token=None, reason=UNREADABLE))
    async with instance(store, server, wall) as (_, credentials):
        with pytest.raises(ConnectNeeded, match=UNREADABLE):
            await credentials.current(ADA)
        assert (await credentials.standing(ADA)).state == "needs_login"


@pytest.mark.requirement("UP5")
@pytest.mark.parametrize("changes", [{"refresh_token": None}, {"issuer": "", "client_id": ""}])
async def test_a_token_that_nobody_can_renew_is_used_until_it_ends_and_then_a_login_is_asked_for(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, changes: dict[str, Any]
) -> None:
    await store.save_connection(row(**changes))
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(LIFETIME - 1)
        assert await token_of(credentials) == "access-0"
        await trio.sleep(1)
        with pytest.raises(ConnectNeeded, match=LAPSED):
            await credentials.current(ADA)
    assert server.asked == []


async def test_a_store_that_is_away_is_said_so(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("connections_of")
    async with instance(store, server, wall) as (_, credentials):
        with pytest.raises(StoreUnavailable):
            await credentials.current(ADA)
        with pytest.raises(StoreUnavailable):
            await credentials.standing(ADA)


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


async def either(credentials: PersonalCredentials) -> str:
    try:
        return await token_of(credentials)
    except UpstreamLost as exc:
        return str(exc)


async def test_a_lease_outlasts_every_exchange() -> None:
    assert LEASE >= REFRESH_DEADLINE + 5


# Cancellation (F12), and a server that stops


@pytest.mark.parametrize("patience", [0.0, 0.5, 1.0, 1.5, 2.0])
async def test_what_was_rotated_is_kept_although_the_client_is_gone(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, patience: float
) -> None:
    server.takes = 1.0
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        with trio.move_on_after(patience):
            await credentials.current(ADA)
        await trio.sleep(5)
        assert await token_of(credentials) == "access-1"
        assert (await stored(store)).refresh_token == "refresh-1"
    assert len(server.asked) == 1


@pytest.mark.parametrize("steps", range(12))
async def test_a_call_cancelled_anywhere_leaves_a_connection_that_works(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, steps: int
) -> None:
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(credentials.current, ADA)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert await token_of(credentials) == "access-1"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("takes", "kept"), [(CLOSING / 2 - 0.1, True), (CLOSING, False)])
async def test_a_refresh_under_way_gets_a_moment_when_the_server_stops(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, takes: float, kept: bool
) -> None:
    server.takes = takes
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        with trio.move_on_after(0.01):
            await credentials.current(ADA)
        begun = trio.current_time()
    assert trio.current_time() - begun <= CLOSING + 0.01
    assert (await stored(store)).generation == int(kept)


# A store that is away (F10)


async def test_without_a_lease_nobody_is_asked(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("take_refresh")
    await store.save_connection(expired())
    await store.save_connection(near_its_end(principal=BOB))
    async with instance(store, server, wall) as (_, credentials):
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await credentials.current(ADA)
        assert await token_of(credentials, BOB) == "access-0"  # it is still good
        assert server.asked == []
        store.away.clear()
        assert await token_of(credentials) == "access-1"


async def test_what_was_rotated_is_served_from_memory_until_the_store_takes_it(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    store.away.add("renew_connection")
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials):
        for _ in range(10):
            assert await token_of(credentials) == "access-1"
            assert connections.is_behind
            assert (
                repr(connections)
                == "<Connections <KnownConnections of 1 people>, <Refreshes 0 under way, 1 wait for the store>>"
            )
            await trio.sleep(10)
        store.away.clear()
        await trio.sleep(31)
        assert not connections.is_behind
        assert await token_of(credentials) == "access-1"
        assert (await stored(store)).refresh_token == "refresh-1"
    assert len(server.asked) == 1
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]
    assert "access-1" not in caplog.text
    assert "refresh-1" not in caplog.text


async def test_what_could_not_be_stored_in_the_end_is_said(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    store.away.add("renew_connection")
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        assert await token_of(credentials) == "access-1"
    assert "could not be stored before this process ended" in caplog.records[-1].getMessage()


async def test_an_end_that_cannot_be_noted_is_one_all_the_same(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("end_connection")
    server.good = "another"
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials):
        for _ in range(3):
            with pytest.raises(ConnectNeeded, match="withdrawn"):
                await credentials.current(ADA)
            await trio.sleep(LEASE)
        assert len(server.asked) == 1
        await connections.save(ADA, "gmail", beginning(), IssuedTokens("access-9", "refresh-9", "Bearer", None, 60.0))
        assert await token_of(credentials) == "access-9"


async def test_a_pause_that_cannot_be_noted_is_kept_all_the_same(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("postpone_refresh")
    server.script = [Postponed("it is busy", 60.0)]
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials):
        for _ in range(5):
            with pytest.raises(UpstreamLost, match="it is busy"):
                await credentials.current(ADA)
            await trio.sleep(10)
        assert len(server.asked) == 1
        assert (await connections.standing(ADA))["gmail"].state == "retrying"
        await trio.sleep(20)
        assert await token_of(credentials) == "access-1"


# Refused by the upstream


async def test_a_refused_token_is_renewed_once_for_all_who_were_refused(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(100)
        refused = await credentials.current(ADA)
        renewed = await gather(20, lambda _: credentials.renewed(ADA, refused, 401, "Bearer"))
        assert {credential.headers for credential in renewed} == {((b"authorization", b"Bearer access-1"),)}
        assert {credential.owner for credential in renewed} == {refused.owner}
    assert len(server.asked) == 1


async def test_a_refused_token_that_another_instance_has_renewed_is_not_renewed_again(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, one), instance(store, server, wall) as (_, two):
        await trio.sleep(100)
        refused = await one.current(ADA)
        assert await two.current(ADA) == refused
        renewed = await two.renewed(ADA, refused, 401, "")
        assert await one.renewed(ADA, refused, 401, "") == renewed
    assert len(server.asked) == 1


@pytest.mark.requirement("UP11")
async def test_a_token_refused_just_after_it_was_renewed_asks_the_person_and_neither_loops_nor_logs_out(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (connections, credentials):
        await trio.sleep(100)
        for _ in range(5):
            sent = await credentials.current(ADA)
            try:
                sent = await credentials.renewed(ADA, sent, 401, "") or sent
            except ConnectNeeded:
                continue
            with pytest.raises(ConnectNeeded, match="although it was just renewed"):
                await credentials.renewed(ADA, sent, 401, "")
        assert len(server.asked) == 1
        assert (await stored(store)).state == "connected"
        with trio.move_on_after(5) as waiting:
            await connections.wait_connected(ADA, "gmail")
        assert waiting.cancelled_caught  # this connection is not what the person is asked for


async def test_a_token_refused_just_after_the_login_is_the_upstreams_own_refusal(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, credentials):
        assert await credentials.renewed(ADA, await credentials.current(ADA), 401, "") is None
    assert server.asked == []


async def test_a_refused_token_that_cannot_be_renewed_ends_the_connection(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(refresh_token=None))
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(100)
        with pytest.raises(ConnectNeeded, match="no longer accepted"):
            await credentials.renewed(ADA, await credentials.current(ADA), 401, "")
        assert (await stored(store)).state == "needs_login"


async def test_a_refused_token_whose_server_is_busy_is_not_used_again_and_not_given_up(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.script = [Postponed("it is busy", 60.0)]
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, credentials):
        await trio.sleep(100)
        for _ in range(2):
            with pytest.raises(UpstreamLost, match="it is busy") as raised:
                await credentials.renewed(ADA, await credentials.current(ADA), 401, "")
            assert not raised.value.executed
        assert len(server.asked) == 1
        assert (await stored(store)).state == "connected"


@pytest.mark.parametrize("status", [401, 403])
async def test_somebody_who_never_connected_is_asked_to(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, status: int
) -> None:
    challenge = 'Bearer error="insufficient_scope", scope="mail.send"' if status == 403 else ""
    async with instance(store, server, wall) as (_, credentials):
        with pytest.raises(ConnectNeeded, match=ASKS):
            await credentials.renewed(ADA, await credentials.current(ADA), status, challenge)


async def test_a_request_on_nobodys_behalf_asks_whoever_it_is_to_connect_if_that_can_help(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    async with instance(store, server, wall) as (_, credentials):
        sent = await credentials.current(None)
        with pytest.raises(ConnectNeeded, match=ASKS):
            await credentials.renewed(None, sent, 401, "")
        assert await credentials.renewed(None, sent, 403, 'Bearer error="insufficient_scope", scope="x"') is None


async def test_somebody_who_has_connected_elsewhere_in_this_moment_goes_on(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    async with instance(store, server, wall) as (_, credentials):
        refused = await credentials.current(ADA)
        await store.save_connection(row())
        renewed = await credentials.renewed(ADA, refused, 401, "")
        assert renewed is not None
        assert dict(renewed.headers)[b"authorization"] == b"Bearer access-0"


async def test_somebody_who_has_disconnected_in_this_moment_is_asked_again(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (_, credentials):
        refused = await credentials.current(ADA)
        await store.forget_connection(ADA, "gmail")
        with pytest.raises(ConnectNeeded, match=ASKS):
            await credentials.renewed(ADA, refused, 401, "")


@pytest.mark.requirement("UP11")
async def test_more_scope_is_asked_for_once_as_the_union_and_the_token_stays(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    challenge = 'Bearer error="insufficient_scope", scope="mail.send"'
    async with instance(store, server, wall) as (connections, credentials):
        sent = await credentials.current(ADA)
        with pytest.raises(ConnectNeeded, match=r"allow more: mail\.send"):
            await credentials.renewed(ADA, sent, 403, challenge)
        assert (await stored(store)).wanted_scope == "mail.read mail.send"
        assert await credentials.current(ADA) == sent
        with pytest.raises(ConnectNeeded, match=r"allow more: mail\.purge"):
            await credentials.renewed(ADA, sent, 403, challenge.replace("send", "purge"))
        wanted = (await stored(store)).wanted_scope
        assert wanted == "mail.read mail.send mail.purge"
        assert await credentials.renewed(ADA, sent, 403, "") is None  # a no of another kind
        assert await credentials.renewed(ADA, sent, 403, 'Bearer error="insufficient_scope"') is None
        issued = IssuedTokens("access-9", None, "Bearer", None, None)
        await connections.save(ADA, "gmail", beginning(scope=wanted), issued)
        assert await credentials.renewed(ADA, await credentials.current(ADA), 403, challenge) is None  # it has that now


# Connecting and disconnecting


async def test_a_login_becomes_a_connection_with_what_was_agreed(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    issued = IssuedTokens("a", "r", "bearer", None, 60.0, "ada@gmail.example")
    async with instance(store, server, wall) as (connections, credentials):
        await connections.save(ADA, "gmail", beginning(), issued)
        kept = await stored(store)
        assert kept == row(id=kept.id, access_token="a", refresh_token="r", token_type="bearer", expires_at=NOW + 60)
        first = (await credentials.current(ADA)).owner
        await connections.save(ADA, "gmail", beginning(), issued)
        assert (await credentials.current(ADA)).owner != first
    assert server.revoked == []  # the old tokens: servers may take the new ones with them


async def test_a_login_that_cannot_be_remembered_is_said_so(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("save_connection")
    async with instance(store, server, wall) as (connections, _):
        with pytest.raises(StoreUnavailable):
            await connections.save(ADA, "gmail", beginning(), IssuedTokens("a", "r", "bearer", None, 60.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(ISSUER, "refresh-0", "refresh_token")]),
        ({"refresh_token": None}, [(ISSUER, "access-0", "access_token")]),
        ({"issuer": ""}, []),
        ({"state": "needs_login", "access_token": None, "refresh_token": None}, []),
    ],
    ids=["refreshable", "access token only", "unknown issuer", "ended"],
)
async def test_disconnecting_deletes_and_then_revokes_where_the_tokens_came_from(
    autojump_clock: MockClock,
    store: FailingStore,
    server: TokenServer,
    wall: Wall,
    changes: dict[str, Any],
    expected: list[tuple[str, str, str]],
) -> None:
    await store.save_connection(row(**changes))
    async with instance(store, server, wall) as (connections, _):
        assert await connections.disconnect(ADA, "gmail")
        assert not await connections.disconnect(ADA, "gmail")
    assert server.revoked == expected
    assert await store.find_connection(ADA, "gmail") is None


async def test_a_server_that_hangs_at_revoking_keeps_nobody_and_the_connection_is_gone(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.revoking_hangs = True
    await store.save_connection(row())
    async with instance(store, server, wall) as (connections, credentials):
        begun = trio.current_time()
        assert await connections.disconnect(ADA, "gmail")
        assert trio.current_time() - begun <= REVOKE_DEADLINE + 0.01
        assert await token_of(credentials) == ""


async def test_disconnecting_goes_on_when_the_client_is_gone(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    async with instance(store, server, wall) as (connections, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await connections.disconnect(ADA, "gmail")
        assert await store.find_connection(ADA, "gmail") is None
        await trio.sleep(1)
    assert len(server.revoked) == 1


async def test_a_connection_that_is_ended_while_it_is_refreshed_leaves_no_token_behind(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.takes = 2.0
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials), trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ConnectNeeded, match="disconnected"):
                await credentials.current(ADA)

        nursery.start_soon(call)
        await trio.sleep(1)
        assert await connections.disconnect(ADA, "gmail")
    assert [token for _, token, _ in server.revoked] == ["refresh-0", "refresh-1"]
    assert await store.find_connection(ADA, "gmail") is None


async def test_a_connection_made_anew_while_the_old_one_is_refreshed_is_the_one_that_counts(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    server.takes = 2.0
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials), trio.open_nursery() as nursery:

        async def call() -> None:
            assert await token_of(credentials) == "access-9"

        nursery.start_soon(call)
        await trio.sleep(1)
        await connections.save(ADA, "gmail", beginning(), IssuedTokens("access-9", "r9", "Bearer", None, LIFETIME))
    assert server.revoked == []
    assert (await stored(store)).refresh_token == "r9"


async def test_what_only_memory_holds_is_what_is_revoked(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("renew_connection")
    await store.save_connection(expired())
    async with instance(store, server, wall) as (connections, credentials):
        assert await token_of(credentials) == "access-1"
        assert await connections.disconnect(ADA, "gmail")
        assert server.revoked[0] == (ISSUER, "refresh-1", "refresh_token")
        assert await token_of(credentials) == ""
        store.away.clear()
        await trio.sleep(60)
        assert await store.find_connection(ADA, "gmail") is None


# Waiting for a person


async def wait(connections: Connections, begun: float, done: list[float]) -> None:
    await connections.wait_connected(ADA, "gmail")
    done.append(trio.current_time() - begun)


@pytest.mark.parametrize(
    "before",
    [
        None,
        row(state="needs_login", access_token=None, refresh_token=None),
        row(wanted_scope="mail.send"),
        row(expires_at=NOW, refresh_token=None),
    ],
    ids=["never connected", "ended", "too narrow", "lapsed"],
)
async def test_who_waits_for_a_person_goes_on_at_once_here_and_within_a_second_elsewhere(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, before: Connection | None
) -> None:
    if before is not None:
        await store.save_connection(before)
    here: list[float] = []
    elsewhere: list[float] = []
    async with instance(store, server, wall) as (one, _), instance(store, server, wall) as (two, _):
        async with trio.open_nursery() as nursery:
            begun = trio.current_time()
            for _ in range(3):
                nursery.start_soon(wait, one, begun, here)
                nursery.start_soon(wait, two, begun, elsewhere)
            await trio.sleep(4.5)
            assert here == elsewhere == []
            await one.save(ADA, "gmail", beginning(), IssuedTokens("a", None, "Bearer", None, None))
        assert here == [pytest.approx(4.5)] * 3
        assert all(4.5 <= seen <= 5.5 for seen in elsewhere)
        assert len(elsewhere) == 3
        assert one._news == {}


async def test_who_waits_goes_on_waiting_while_the_store_is_away(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row())
    store.away.add("connections_of")
    done: list[float] = []
    async with instance(store, server, wall) as (connections, _), trio.open_nursery() as nursery:
        nursery.start_soon(wait, connections, trio.current_time(), done)
        await trio.sleep(2.5)
        store.away.clear()
    assert done == [pytest.approx(3.0)]


def test_no_text_holds_a_token(wall: Wall) -> None:
    assert "access" not in repr(Ended("x")) + repr(IssuedTokens("access", "access", "Bearer", None, None))
