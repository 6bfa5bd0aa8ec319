"""People's connections begin and end, and are waited for."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import ConnectNeeded, StoreUnavailable
from aggregator.protocol.brokering import IssuedTokens
from aggregator.store import Connection
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.connections import Connections
from aggregator.upstream.accounts.refreshing import REVOKE_DEADLINE

from ...store.samples import ADA, NOW
from ..token_server import (
    ISSUER,
    LIFETIME,
    FailingStore,
    TokenServer,
    Wall,
    beginning,
    expired,
    instance,
    row,
    stored,
    token_of,
)


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


# Being used


async def test_the_use_of_a_connection_is_noted_once_a_day(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(expires_at=None, used_at=None))
    async with instance(store, server, wall) as (_, credentials):
        for _ in range(5):
            await token_of(credentials)
        await trio.sleep(1)
        assert (await stored(store)).used_at == NOW
        await trio.sleep(86_000)
        await token_of(credentials)
        await trio.sleep(1)
        assert (await stored(store)).used_at == NOW
        store.away.add("note_use")
        await trio.sleep(400)
        assert await token_of(credentials) == "access-0"  # it goes on without
        await trio.sleep(1)
        store.away.clear()
        await token_of(credentials)
        await trio.sleep(1)
        assert (await stored(store)).used_at == wall() - 1


async def test_a_connection_that_needs_a_login_is_not_used(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(state="needs_login", access_token=None, refresh_token=None, used_at=None))
    async with instance(store, server, wall) as (_, credentials):
        with pytest.raises(ConnectNeeded):
            await credentials.current(ADA)
        await trio.sleep(1)
        assert (await stored(store)).used_at is None
