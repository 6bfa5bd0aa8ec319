"""What the requests of a person with an account of their own carry, and what follows when it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.config.model import Secret, Upstream
from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import IssuedTokens, Postponed
from aggregator.store import UNREADABLE
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.connection_life import LAPSED, MOVED
from aggregator.upstream.accounts.known_connections import BELIEVED
from aggregator.upstream.credentials import SHARED, Credential, Standing

from ...store.samples import ADA, BOB, NOW
from ..token_server import (
    GMAIL,
    LIFETIME,
    FailingStore,
    TokenServer,
    Wall,
    beginning,
    gather,
    instance,
    row,
    stored,
    token_of,
)

ASKS = "it asks for a login"


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


@pytest.mark.parametrize(
    ("resource", "goes"),
    [
        (None, True),
        (GMAIL.url, True),
        (GMAIL.url + "/", True),
        (GMAIL.url.rpartition("/")[0], True),
        ("https://elsewhere.example/mcp", False),
        (GMAIL.url + "/below", False),
        (GMAIL.url.replace("https://", "http://"), False),
    ],
)
async def test_a_token_is_shown_to_no_other_server_than_the_one_it_was_issued_for(
    resource: str | None, goes: bool, autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    """An upstream may have got another URL under the same name."""
    await store.save_connection(row(resource=resource))
    async with instance(store, server, wall) as (_, credentials):
        if goes:
            assert await token_of(credentials) == "access-0"
            return
        assert (await credentials.standing(ADA)).state == "needs_login"
        with pytest.raises(ConnectNeeded, match=MOVED):
            await credentials.current(ADA)
    assert server.asked == []


async def test_another_configuration_is_heeded_at_once(
    autojump_clock: MockClock, store: FailingStore, server: TokenServer, wall: Wall
) -> None:
    await store.save_connection(row(resource=GMAIL.url))
    async with instance(store, server, wall) as (connections, credentials):
        assert await token_of(credentials) == "access-0"
        connections.know([replace(GMAIL, url="https://elsewhere.example/mcp")])
        with pytest.raises(ConnectNeeded, match=MOVED):
            await credentials.current(ADA)
        connections.know([GMAIL])
        assert await token_of(credentials) == "access-0", "it was changed back"


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
        refused = await credentials.current(ADA)
        with pytest.raises(UpstreamLost, match="it refuses the login although it was just made") as caught:
            await credentials.renewed(ADA, refused, 401, "")
    assert not caught.value.executed
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
