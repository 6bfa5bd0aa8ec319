"""A refresh whose caller leaves, whose process stops or whose store is away loses nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import IssuedTokens, Postponed
from aggregator.store import Connection
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.connections import CLOSING, PATIENCE
from aggregator.upstream.accounts.refreshing import LEASE

from ...store.samples import ADA, BOB, NOW
from ..token_server import (
    FailingStore,
    TokenServer,
    Wall,
    beginning,
    either,
    expired,
    instance,
    near_its_end,
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


# Cancellation (F12), and a server that stops


@pytest.mark.requirement("AF12")
@pytest.mark.parametrize("patience", [0.0, 0.2, 0.4, 0.6, 0.8])
async def test_what_was_rotated_is_kept_although_the_client_is_gone(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall, patience: float
) -> None:
    server.takes = 0.4
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        with trio.move_on_after(patience):
            await credentials.current(ADA)
        await trio.sleep(1.9 - patience)
        assert patience == 0.8 or credentials.standing_at_hand(ADA) is None  # to be read anew
        assert await token_of(credentials) == "access-1"
        assert (await stored(store)).refresh_token == "refresh-1"
    assert len(server.asked) == 1


@pytest.mark.requirement("AF12")
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


class CancelsAtTheWrite:
    """A store before whose one write everything is cancelled."""

    def __init__(self, store: FailingStore) -> None:
        self._store = store
        self.scope = trio.CancelScope()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew_connection(self, connection: Connection, **given: Any) -> bool:
        self.scope.cancel()
        return bool(await self._store.renew_connection(connection, **given))


async def test_what_was_rotated_is_stored_even_if_the_process_is_being_stopped_that_moment(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(expired())
    stopping = CancelsAtTheWrite(store)
    with stopping.scope:
        async with instance(stopping, server, wall) as (_, credentials):
            await credentials.current(ADA)
    assert stopping.scope.cancelled_caught
    assert (await stored(store)).refresh_token == "refresh-1"


# A store that is away (F10)


@pytest.mark.requirement("AF10")
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


@pytest.mark.requirement("AF10")
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
        assert credentials.standing_at_hand(ADA) is None  # to be read anew
        assert await token_of(credentials) == "access-1"
        assert (await stored(store)).refresh_token == "refresh-1"
    assert len(server.asked) == 1
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]
    assert "access-1" not in caplog.text
    assert "refresh-1" not in caplog.text


async def test_a_token_that_only_memory_holds_is_not_renewed_and_nothing_spins(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    store.away.add("renew_connection")
    server.lifetime = 60.0
    await store.save_connection(expired())
    async with instance(store, server, wall) as (_, credentials):
        assert await token_of(credentials) == "access-1"
        await trio.sleep(60)
        reads, begun = store.reads, trio.current_time()
        assert "takes longer than usual" in await either(credentials)
        assert trio.current_time() - begun == pytest.approx(PATIENCE)
        assert store.reads - reads <= PATIENCE * 5 + 1
        store.away.clear()
        await trio.sleep(1)
        assert await token_of(credentials) == "access-2"
    assert len(server.asked) == 2


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
