from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.errors import UpstreamLost, UpstreamRefused
from aggregator.protocol.jsonrpc import Notice
from aggregator.upstream.credentials import EVERYONE
from aggregator.upstream.http.sessions import FAREWELL, IDLE, LOOK_AGAIN, PER_PERSON, SPARED, Ticket, Tickets
from aggregator.upstream.peers import SessionKey

from ...fakes.mcp_server import LEGACY, FakeServer, Incoming, Raw

Json = dict[str, Any]


@asynccontextmanager
async def kept(**more: Any) -> AsyncIterator[tuple[FakeServer, Tickets]]:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, LEGACY, **more)
        yield server, Tickets(server, {"name": "us", "version": "1"})
        nursery.cancel_scope.cancel()


async def slow(incoming: Incoming) -> None:
    await trio.sleep(1)


async def test_one_person_gets_one_session_however_many_ask_at_once(autojump_clock: trio.testing.MockClock) -> None:
    got: list[tuple[str, str | None]] = []

    async with kept() as (server, tickets):
        server.before = slow

        async def ask(owner: str) -> None:
            got.append((owner, (await tickets.ticket(SessionKey(owner, EVERYONE))).session_id))

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(ask, "alice" if i % 2 else "bob")
        assert len(set(got)) == 2
        assert len({session for _, session in got}) == 2
        assert len(server.calls("initialize")) == 2
        assert len(server.calls("notifications/initialized")) == 2
        assert trio.current_time() == pytest.approx(2), "two people do not wait for each other"


async def test_a_ticket_carries_what_was_agreed_on() -> None:
    async with kept() as (server, tickets):
        ticket = await tickets.ticket(SessionKey("alice", EVERYONE))
        assert (ticket.revision, ticket.session_id, ticket.server["name"]) == (LEGACY, "s1", "fake")
        assert dict(ticket.headers())[b"mcp-protocol-version"] == LEGACY.encode()
        (hello,) = server.calls("initialize")
        assert hello.params["clientInfo"] == {"name": "us", "version": "1"}
        assert "mcp-session-id" not in hello.headers
        assert server.calls("notifications/initialized")[0].headers["mcp-session-id"] == "s1"


async def test_an_upstream_without_sessions_is_never_sent_one() -> None:
    async with kept(sessions=False) as (server, tickets):
        ticket = await tickets.ticket(SessionKey("alice", EVERYONE))
        assert ticket.session_id is None
        assert b"mcp-session-id" not in dict(ticket.headers())
        await tickets.close()
        assert not server.calls("DELETE")


async def test_when_the_opener_is_cancelled_the_next_one_opens(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as (server, tickets):
        server.before = slow
        opened: list[float] = []

        async def first() -> None:
            with trio.move_on_after(0.5):
                await tickets.ticket(SessionKey("alice", EVERYONE))

        async def second() -> None:
            await tickets.ticket(SessionKey("alice", EVERYONE))
            opened.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.sleep(0.1)
            for _ in range(3):
                nursery.start_soon(second)
        assert opened == pytest.approx([2.5] * 3)
        assert len(server.calls("initialize")) == 2


async def test_cancelling_anywhere_leaves_the_tickets_usable_and_no_second_session_for_anybody() -> None:
    for checkpoints in range(30):
        async with kept() as (server, tickets):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(scope: trio.CancelScope = scope, checkpoints: int = checkpoints) -> None:
                        for _ in range(checkpoints):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    nursery.start_soon(tickets.ticket, SessionKey("alice", EVERYONE))
                    nursery.start_soon(tickets.ticket, SessionKey("alice", EVERYONE))
            ticket = await tickets.ticket(SessionKey("alice", EVERYONE))
            assert ticket is await tickets.ticket(SessionKey("alice", EVERYONE))
            assert len(tickets) == 1
            assert not tickets._opening
            await trio.testing.wait_all_tasks_blocked()
            assert not server.open
            await tickets.close()
            assert len(tickets) == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": {"code": -32600, "message": "go away"}}, "go away"),
        ({"result": {"protocolVersion": "1999-01-01"}}, "'1999-01-01', which is not supported"),
        ({"result": {"protocolVersion": "2024-10-07"}}, "not supported"),
        ({"result": {"protocolVersion": ["2025-11-25"]}}, "not supported"),
        ({"result": {}}, "not supported"),
    ],
)
async def test_a_handshake_that_fails_is_tried_again_by_the_next_one(answer: Json, words: str) -> None:
    async def script(incoming: Incoming) -> Raw:
        body = json.dumps({"jsonrpc": "2.0", "id": incoming.message["id"], **answer}).encode()
        return Raw(200, {"content-type": "application/json", "mcp-session-id": "orphan"}, [body])

    async with kept() as (server, tickets):
        server.scripts["initialize"] = script
        with pytest.raises(UpstreamLost, match=words) as lost:
            await tickets.ticket(SessionKey("alice", EVERYONE))
        assert not lost.value.executed
        server.scripts.clear()
        assert (await tickets.ticket(SessionKey("alice", EVERYONE))).session_id == "s1"


@pytest.mark.parametrize("revision", ["2025-11-25", "2025-06-18", "2025-03-26"])
async def test_revisions_that_share_the_transport_are_spoken(revision: str) -> None:
    async def script(incoming: Incoming) -> Raw:
        result = {"protocolVersion": revision, "capabilities": [], "serverInfo": "x"}
        body = json.dumps({"jsonrpc": "2.0", "id": incoming.message["id"], "result": result}).encode()
        return Raw(200, {"content-type": "application/json"}, [body])

    async with kept(sessions=False) as (server, tickets):
        server.scripts["initialize"] = script
        server.scripts["notifications/initialized"] = lambda incoming: accepted()
        ticket = await tickets.ticket(SessionKey("alice", EVERYONE))
        assert (ticket.revision, ticket.capabilities, ticket.server) == (revision, {}, {})


async def accepted() -> Raw:
    await trio.lowlevel.checkpoint()
    return Raw(202, {})


async def test_a_session_whose_beginning_fails_is_ended() -> None:
    async def refuse(incoming: Incoming) -> Raw:
        return Raw(500, {})

    async with kept() as (server, tickets):
        server.scripts["notifications/initialized"] = refuse
        with pytest.raises(UpstreamRefused):
            await tickets.ticket(SessionKey("alice", EVERYONE))
        assert [request.headers["mcp-session-id"] for request in server.calls("DELETE")] == ["s1"]
        assert not server.sessions


async def test_what_is_said_on_the_side_is_bounded_and_fails_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as (server, tickets):
        ticket = await tickets.ticket(SessionKey("alice", EVERYONE))
        server.dead = "gone"
        await tickets.say(ticket, Notice("notifications/cancelled", {"requestId": "x"}))
        server.dead, server.hung = None, True
        started = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()  # it is said although whoever wanted it said is cancelled
            await tickets.say(ticket, Notice("notifications/cancelled", {"requestId": "x"}))
        assert trio.current_time() - started == pytest.approx(FAREWELL)
        assert len(server.calls("notifications/cancelled")) == 1


async def test_idle_sessions_are_ended_and_busy_ones_are_not(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as (server, tickets), trio.open_nursery() as nursery:
        nursery.start_soon(tickets.reap)
        busy = await tickets.ticket(SessionKey("alice", EVERYONE))
        busy.calls += 1
        await tickets.ticket(SessionKey("bob", EVERYONE))
        await trio.sleep(IDLE * 2)
        assert list(server.sessions) == ["s1"]
        busy.calls -= 1
        await trio.sleep(IDLE)
        assert not server.sessions
        assert len(tickets) == 0
        assert (await tickets.ticket(SessionKey("alice", EVERYONE))).session_id == "s3"
        nursery.cancel_scope.cancel()


async def test_closing_ends_all_sessions_together_and_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as (server, tickets):
        for i in range(10):
            await tickets.ticket(SessionKey(f"p{i}", EVERYONE))
        server.hung = True
        started = trio.current_time()
        await tickets.close()
        assert trio.current_time() - started == pytest.approx(FAREWELL)
        assert len(server.calls("DELETE")) == 10


async def test_a_ticket_is_dropped_once_and_a_newer_one_stays() -> None:
    async with kept() as (_, tickets):
        old = await tickets.ticket(SessionKey("alice", EVERYONE))
        tickets.drop(old)
        new = await tickets.ticket(SessionKey("alice", EVERYONE))
        tickets.drop(old)
        assert old.lost
        assert await tickets.ticket(SessionKey("alice", EVERYONE)) is new


def session_of(client: str, owner: str = "alice") -> SessionKey:
    return SessionKey(owner, EVERYONE, '{"roots":{}}', client)


async def test_each_client_that_can_be_asked_has_a_session_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as (server, tickets):
        one, other = [await tickets.ticket(session_of(client)) for client in ("one", "other")]
        assert one is not other
        assert one is await tickets.ticket(session_of("one"))
        assert [hello.params["capabilities"]["roots"] for hello in server.calls("initialize")] == [{}, {}]


async def test_a_person_has_a_limited_number_of_sessions(autojump_clock: trio.testing.MockClock) -> None:
    """The one that was not used for longest makes room. Who finds none has one together with others."""
    async with kept() as (server, tickets), reaped(tickets):
        held = []
        for number in range(PER_PERSON):
            held.append(await tickets.ticket(session_of(str(number))))
            await trio.sleep(0.1)
        shared = await tickets.ticket(session_of("too soon"))
        assert shared.key.client == "", "clients that take turns do not take each other's"
        await trio.sleep(SPARED)
        held[0].calls += 1
        newest = await tickets.ticket(session_of("newest"))
        assert newest.key.client == "newest"
        assert (held[0].lost, held[1].lost, held[2].lost) == (False, True, False)
        assert len(tickets) == PER_PERSON + 1, "the shared one does not count"
        await tickets.ticket(session_of("0", owner="bob"))
        await trio.sleep(LOOK_AGAIN + 1)
        assert [call.headers["mcp-session-id"] for call in server.calls("DELETE")] == [held[1].session_id]
        for ticket in (*held, newest):
            ticket.calls += 1
        assert shared is await tickets.ticket(session_of("another"))


async def test_whoever_wants_to_be_alone_gets_the_first_session_that_nobody_uses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as (server, tickets):
        server.before = slow
        together: list[Ticket] = []

        async def use() -> None:
            ticket = await tickets.ticket(session_of(""), alone=True)
            assert not ticket.calls
            ticket.calls += 1
            together.append(ticket)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(use)
        assert len({id(ticket) for ticket in together}) == 5
        free = next(ticket for ticket in together if ticket.key.client == "")
        free.calls = 0
        assert await tickets.ticket(session_of(""), alone=True) is free
        for _ in range(PER_PERSON - 3):
            await use()
        assert len(tickets) == PER_PERSON + 1, "the shared one does not count"
        assert (await tickets.ticket(session_of(""), alone=True)).key.client == "", "no room: shared"


async def test_the_sessions_of_a_client_that_ended_its_own_are_ended_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as (server, tickets), reaped(tickets):
        gone, other = [await tickets.ticket(session_of(client)) for client in ("gone", "other")]
        gone.calls += 1
        tickets.forget("gone")
        await trio.sleep(LOOK_AGAIN * 2)
        assert not server.calls("DELETE"), "a call is running in it"
        gone.calls -= 1
        await trio.sleep(LOOK_AGAIN + 1)
        assert [call.headers["mcp-session-id"] for call in server.calls("DELETE")] == [gone.session_id]
        assert (gone.lost, other.lost) == (True, False)
        await tickets.ticket(SessionKey("bob", EVERYONE))
        assert tickets._in_place == {"alice": 1}


@asynccontextmanager
async def reaped(tickets: Tickets) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tickets.reap)
        yield
        nursery.cancel_scope.cancel()
