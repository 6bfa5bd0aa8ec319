from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.errors import UpstreamLost, UpstreamRefused
from aggregator.protocol.jsonrpc import Failure, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.http.sessions import FAREWELL
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.peers import MAX_ITEMS, MAX_PAGES, Answered, Outgoing

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Raw, Speaking, ToolFailure

Json = dict[str, Any]


@asynccontextmanager
async def behind(revision: str, **more: Any) -> AsyncIterator[tuple[FakeServer, HttpUpstream]]:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, revision, **more)
        server.tool("t")
        upstream = HttpUpstream("up", server, {"name": "us", "version": "1"}, nursery)
        yield server, upstream
        nursery.cancel_scope.cancel()


async def call(upstream: HttpUpstream, owner: str = "alice", **more: Any) -> Answered:
    async def ignore(notice: Notice) -> None:
        pass

    envelope = Envelope(MODERN, {}, more.pop("token", None), more.pop("level", None))
    params = {"name": more.pop("name", "t"), "arguments": {}}
    return await upstream.request(Outgoing("tools/call", params, envelope, owner), ignore)


def canned(status: int, body: Json | bytes = b"", kind: str = "application/json", id: Any = ...) -> Any:
    """`id`: ... repeats the request's."""

    async def script(incoming: Incoming) -> Raw:
        if isinstance(body, bytes):
            return Raw(status, {"content-type": kind}, [body])
        message = {"jsonrpc": "2.0", "id": incoming.message["id"] if id is ... else id, **body}
        return Raw(status, {"content-type": kind}, [json.dumps(message).encode()])

    return script


def error(code: int, message: str = "no") -> Json:
    return {"error": {"code": code, "message": message}}


OLDER = {
    "no such path": canned(404, b"<h1>", "text/html"),
    "wants a session, without id": canned(400, error(-32000, "No valid session ID provided"), id=None),
    "wants a session, with id": canned(400, error(-32000, "Server not initialized")),
    "does not know the method": canned(200, error(-32601)),
    "cannot read the parameters": canned(200, error(-32602)),
    "does not speak this revision": canned(400, error(-32022)),
    "does not take it": canned(405, b"", "text/plain"),
    "does not accept it": canned(406, error(-32600), id=None),
    "not implemented": canned(501),
    "speaks others": canned(200, {"result": {"supportedVersions": ["2025-11-25"]}}),
    "speaks nonsense": canned(200, {"result": {"supportedVersions": 7}}),
    "says nothing": canned(200, {"result": {}}),
}


@pytest.mark.parametrize("case", OLDER)
async def test_an_answer_that_says_i_am_older_leads_to_the_handshake(case: str) -> None:
    async with behind(LEGACY) as (server, upstream):
        server.scripts["server/discover"] = OLDER[case]
        peer = await upstream.meet()
        assert (peer.revision, peer.server["name"]) == (LEGACY, "fake")
        assert [request.method for request in server.requests] == [
            "server/discover",
            "initialize",
            "notifications/initialized",
        ]


NOT_NOW = {
    "overloaded": canned(503, b"", "text/html"),
    "overloaded in JSON": canned(503, error(-32000, "busy"), id=None),
    "overloaded in JSON with id": canned(503, error(-32603, "busy")),
    "broken": canned(500, b"oops", "text/plain"),
    "broken in JSON": canned(500, error(-32603, "Internal server error"), id=None),
    "behind a broken proxy": canned(502, b"<h1>", "text/html"),
    "throttled": canned(429),
    "unauthorized": canned(401, error(-32600), id=None),
    "forbidden": canned(403),
    "a redirect": canned(307),
    "a login page": canned(200, b"<h1>", "text/html"),
    "garbage": canned(200, b"{"),
}


@pytest.mark.parametrize("case", NOT_NOW)
async def test_an_answer_that_says_nothing_about_the_revision_never_downgrades_it(case: str) -> None:
    async with behind(MODERN) as (server, upstream):
        server.scripts["server/discover"] = NOT_NOW[case]
        with pytest.raises((UpstreamLost, UpstreamRefused)):
            await upstream.meet()
        assert upstream.peer is None
        assert not server.calls("initialize")
        server.scripts.clear()
        assert (await upstream.meet()).revision == MODERN


async def test_a_broken_connection_at_the_probe_says_nothing_either() -> None:
    async with behind(MODERN) as (server, upstream):
        server.dead = "cannot connect"
        with pytest.raises(UpstreamLost):
            await upstream.meet()
        server.dead = None
        assert (await upstream.meet()).revision == MODERN


async def test_many_who_ask_at_once_meet_the_upstream_once() -> None:
    async with behind(LEGACY) as (server, upstream), trio.open_nursery() as nursery:
        for i in range(20):
            nursery.start_soon(call, upstream, f"p{i % 4}")
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.calls("server/discover")) == 1
        assert len(server.calls("initialize")) == 4, "one for each person"
        assert len(server.calls()) == 20


@pytest.mark.parametrize(
    "lost",
    [
        None,  # as the fake does: 404
        canned(404, b"Not Found", "text/plain"),
        canned(404, error(-32001, "Session not found"), id=None),
        canned(404, error(-32001, "Session not found")),
        canned(400, error(-32000, "Bad Request: No valid session ID provided"), id=None),
        canned(400, error(-32600, "Bad Request: Unknown session")),
        canned(400, error(-32000, "Bad Request: Server not initialized"), id=None),
        canned(400, b"Invalid id", "text/plain"),
        canned(401, b"Unauthorized: Session not found", "text/plain"),
        canned(410, b"Gone", "text/plain"),
    ],
)
async def test_a_lost_session_heals_once_and_the_call_is_made_again(lost: Any) -> None:
    async with behind(LEGACY) as (server, upstream):
        await call(upstream)
        server.restart()

        async def once(incoming: Incoming) -> Raw:
            del server.scripts["tools/call"]
            raw: Raw = await lost(incoming)
            return raw

        if lost is not None:
            server.scripts["tools/call"] = once
        answered = await call(upstream)
        assert isinstance(answered.outcome, Success)
        first, refused, again = server.calls()
        assert first.headers["mcp-session-id"] == refused.headers["mcp-session-id"] != again.headers["mcp-session-id"]


async def test_a_session_that_is_lost_again_at_once_is_an_error_and_not_a_loop() -> None:
    async with behind(LEGACY) as (server, upstream):
        server.scripts["tools/call"] = canned(404)
        with pytest.raises(UpstreamRefused):
            await call(upstream)
        assert len(server.calls()) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        canned(400, b"Bad Request", "text/plain"),
        canned(400, error(-32000, "too long"), id=None),
        canned(401, b"who are you?", "text/plain"),
        canned(413, b"Too large", "text/plain"),
    ],
)
async def test_a_request_that_is_refused_for_its_own_sake_costs_no_session(refusal: Any) -> None:
    async with behind(LEGACY) as (server, upstream):
        await call(upstream)
        server.scripts["tools/call"] = refusal
        with contextlib.suppress(UpstreamRefused):
            assert isinstance((await call(upstream)).outcome, Failure)
        del server.scripts["tools/call"]
        assert isinstance((await call(upstream)).outcome, Success)
        assert len(server.calls()) == 3, "and it is not sent again"
        assert len({made.headers["mcp-session-id"] for made in server.calls()}) == 1


async def test_a_401_with_a_challenge_is_about_the_credential() -> None:
    async def challenge(incoming: Incoming) -> Raw:
        return Raw(401, {"www-authenticate": "Bearer"})

    async with behind(LEGACY) as (server, upstream):
        await call(upstream)
        server.restart()
        server.scripts["tools/call"] = challenge
        with pytest.raises(UpstreamRefused):
            await call(upstream)
        assert not server.calls("ping")


async def test_what_was_perhaps_executed_is_not_sent_again() -> None:
    async def breaks(incoming: Incoming) -> Raw:
        return Raw(200, {"content-type": "text/event-stream"}, [b": hello\n\n"], breaks=True)

    for revision in (MODERN, LEGACY):
        async with behind(revision) as (server, upstream):
            server.scripts["tools/call"] = breaks
            with pytest.raises(UpstreamLost) as lost:
                await call(upstream)
            assert lost.value.executed
            assert len(server.calls()) == 1


async def test_a_tools_own_words_about_sessions_are_not_taken_for_a_lost_one() -> None:
    async def run(speaking: Speaking) -> Json:
        raise ToolFailure({"code": -32000, "message": "the database session has expired"})

    async with behind(LEGACY) as (server, upstream):
        server.tool("sql", run)
        assert isinstance((await call(upstream, name="sql")).outcome, Failure)
        assert len(server.calls()) == 1


@pytest.mark.parametrize("sessions", [True, False])
async def test_an_upgrade_behind_our_back_is_noticed(sessions: bool) -> None:
    async with behind(LEGACY, sessions=sessions) as (server, upstream):
        assert (await call(upstream)).revision == LEGACY

        async def modern_fault(incoming: Incoming) -> Raw:
            """A server of 2026-07-28 checks the version header first."""
            if incoming.headers.get("mcp-protocol-version") == MODERN:
                del server.scripts["tools/call"]
                return Raw(200, {"content-type": "application/json"}, [ok(incoming)])
            raw: Raw = await canned(400, error(-32022))(incoming)
            return raw

        server.restart(MODERN)
        server.scripts["tools/call"] = modern_fault
        assert (await call(upstream)).revision == MODERN
        assert upstream.peer is not None
        assert upstream.peer.revision == MODERN


def ok(incoming: Incoming) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": incoming.message["id"], "result": {}}).encode()


async def test_a_downgrade_is_noticed_when_the_upstream_says_so() -> None:
    async with behind(MODERN) as (server, upstream):
        await call(upstream)
        server.restart(LEGACY)

        async def once(incoming: Incoming) -> Raw:
            del server.scripts["tools/call"]
            raw: Raw = await canned(400, error(-32022))(incoming)
            return raw

        server.scripts["tools/call"] = once
        answered = await call(upstream)
        assert isinstance(answered.outcome, Success)
        assert answered.revision == LEGACY


async def test_an_upstream_in_doubt_is_asked_anew_what_it_speaks() -> None:
    async with behind(MODERN) as (server, upstream):
        await call(upstream)
        await call(upstream)
        assert len(server.calls("server/discover")) == 1
        server.restart(LEGACY)
        upstream.doubt()
        tools, _ = await upstream.list_all("tools/list", "tools")
        assert [tool["name"] for tool in tools] == ["t"]
        assert (await call(upstream)).revision == LEGACY
        assert len(server.calls("server/discover")) == 2


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_messages_for_others_are_dropped(revision: str) -> None:
    heard: list[Notice] = []

    async def run(speaking: Speaking) -> Json:
        await speaking.notify("notifications/progress", progressToken="another's", progress=1)
        await speaking.notify("notifications/progress", progress=1)
        await speaking.notify("notifications/tools/list_changed")
        await speaking.notify("notifications/cancelled", requestId=speaking.incoming.message["id"])
        await speaking.send({"jsonrpc": "2.0", "id": "foreign", "result": {"stolen": True}})
        await speaking.send({"jsonrpc": "2.0", "id": 1, "result": {"stolen": True}})
        await speaking.send({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "stolen"}})
        await speaking.notify("notifications/of-tomorrow", a=1)
        return {"content": []}

    async def hear(notice: Notice) -> None:
        heard.append(notice)

    async with behind(revision) as (server, upstream):
        server.tool("run", run)
        outgoing = Outgoing("tools/call", {"name": "run"}, Envelope(MODERN, {}, "mine", "debug"), "alice")
        answered = await upstream.request(outgoing, hear)
        assert isinstance(answered.outcome, Success)
        assert "stolen" not in answered.outcome.result
        # What a session is told of changes is passed on, to `AuthorizedUpstream`, which knows who listens.
        changed = [Notice("notifications/tools/list_changed", {})] if revision == LEGACY else []
        assert heard == [*changed, Notice("notifications/of-tomorrow", {"a": 1})]


async def test_what_a_handshake_upstream_asks_of_us_is_answered_and_the_call_goes_on() -> None:
    async def run(speaking: Speaking) -> Json:
        await speaking.send({"jsonrpc": "2.0", "id": "p1", "method": "ping"})
        await speaking.send({"jsonrpc": "2.0", "id": 2, "method": "roots/list", "params": {}})
        await trio.testing.wait_all_tasks_blocked()
        return {"content": []}

    async with behind(LEGACY) as (server, upstream):
        server.tool("run", run)
        assert isinstance((await call(upstream, name="run")).outcome, Success)
        answers = [request.message for request in server.requests if "method" not in request.message]
        assert answers[0] == {"jsonrpc": "2.0", "id": "p1", "result": {}}
        assert (answers[1]["id"], answers[1]["error"]["code"]) == (2, -32601)


async def test_a_cancelled_call_that_the_upstream_hears_of_too_late_is_given_up_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def run(speaking: Speaking) -> Json:
        server.hung = True
        await trio.sleep_forever()
        raise AssertionError

    async with behind(LEGACY) as (server, upstream):
        server.tool("run", run)
        with trio.move_on_after(1) as scope:
            await call(upstream, name="run")
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(1), "nobody waits for the farewell"
        await trio.sleep(FAREWELL + 0.1)
        assert not server.open
        assert len(server.calls("notifications/cancelled")) == 1


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_call_can_be_cancelled_anywhere_and_the_next_one_works(revision: str) -> None:
    """Cancelled after every number of checkpoints that a cold call takes."""
    for checkpoints in range(60):
        async with behind(revision) as (server, upstream):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(scope: trio.CancelScope = scope, checkpoints: int = checkpoints) -> None:
                        for _ in range(checkpoints):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    await call(upstream, level="info")
            answered = await call(upstream, level="info")
            assert isinstance(answered.outcome, Success)
            await trio.testing.wait_all_tasks_blocked()
            assert not server.open
            if revision == LEGACY and checkpoints < 60:
                assert server.calls("logging/setLevel"), "the level is set, whoever was cancelled before"


async def pages(server: FakeServer, answer: Any) -> None:
    async def script(incoming: Incoming) -> Raw:
        return Raw(
            200,
            {"content-type": "application/json"},
            [json.dumps({"jsonrpc": "2.0", "id": incoming.message["id"], "result": answer(incoming)}).encode()],
        )

    server.scripts["tools/list"] = script


async def test_a_listing_has_an_end() -> None:
    async with behind(MODERN) as (server, upstream):
        await pages(server, lambda incoming: {"tools": [], "nextCursor": "again"})
        with pytest.raises(UpstreamLost, match="same cursor"):
            await upstream.list_all("tools/list", "tools")
        await pages(server, lambda incoming: {"tools": [], "nextCursor": str(len(server.requests))})
        with pytest.raises(UpstreamLost, match=f"more than {MAX_PAGES} pages"):
            await upstream.list_all("tools/list", "tools")
        await pages(server, lambda incoming: {"tools": [{}] * 5000, "nextCursor": str(len(server.requests))})
        with pytest.raises(UpstreamLost, match=f"more than {MAX_ITEMS} tools"):
            await upstream.list_all("tools/list", "tools")
        await pages(server, lambda incoming: {"tools": None})
        with pytest.raises(UpstreamLost, match="without 'tools'"):
            await upstream.list_all("tools/list", "tools")
        server.scripts["tools/list"] = canned(200, error(-32000, "sorry"))
        with pytest.raises(UpstreamLost, match="sorry"):
            await upstream.list_all("tools/list", "tools")


async def test_an_upstream_without_tools_has_an_empty_list() -> None:
    async with behind(MODERN) as (server, upstream):
        server.scripts["tools/list"] = canned(404, error(-32601))
        assert await upstream.list_all("tools/list", "tools") == ([], None)


async def test_the_shortest_time_to_live_of_all_pages_counts() -> None:
    async with behind(MODERN) as (server, upstream):
        lives: Json = {"0": True, "1": -5, "2": "x", "3": 7000.0, "4": 9000}
        await pages(
            server,
            lambda incoming: {
                "tools": [{"name": "a"}, "not a tool"],
                "ttlMs": lives[incoming.params.get("cursor", "0")],
                "nextCursor": str(int(incoming.params.get("cursor", "0")) + 1)
                if len(server.calls("tools/list")) < 5
                else "",
            },
        )
        assert await upstream.list_all("tools/list", "tools") == ([{"name": "a"}] * 5, 7.0)
