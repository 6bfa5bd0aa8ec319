"""Streams of older upstreams that end before the answer, and are taken up again (2025-11-25, resumability)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.errors import UpstreamLost
from aggregator.protocol.jsonrpc import Success
from aggregator.upstream.http.streams import FUTILE

from ...fakes.mcp_server import LEGACY, FakeServer, Incoming, Raw
from .test_upstream import behind, call

STREAM = {"content-type": "text/event-stream"}


def event(id: str, message: Any = None) -> bytes:
    data = b"" if message is None else json.dumps(message).encode()
    return b"id: " + id.encode() + b"\ndata: " + data + b"\n\n"


class Polling:
    """A server that closes the stream of a call at once, and has `rest` for whoever comes back, a piece each time."""

    def __init__(self, server: FakeServer, *rest: Any, first: bytes = b"retry: 500\n") -> None:
        self.asked: list[tuple[float, str]] = []
        self._id: Any = None
        self._first = first
        self._rest = list(rest)
        server.scripts["tools/call"] = self.begin
        server.scripts["GET"] = self.go_on

    async def begin(self, incoming: Incoming) -> Raw:
        self._id = incoming.message["id"]
        return Raw(200, STREAM, [self._first + event("e0")])

    async def go_on(self, incoming: Incoming) -> Raw:
        self.asked.append((trio.current_time(), incoming.headers["last-event-id"]))
        piece = self._rest.pop(0) if self._rest else None
        match piece:
            case int():
                return Raw(piece, {"content-type": "text/plain"})
            case Raw():
                return piece
            case None:
                return Raw(200, STREAM, [b": nothing new\n\n"])
            case _:
                shown = {**piece, "id": self._id} if "result" in piece else piece
                return Raw(200, STREAM, [event(f"e{len(self.asked)}", {"jsonrpc": "2.0", **shown})])


ANSWER: dict[str, Any] = {"result": {"content": []}}
LOGGED: dict[str, Any] = {"method": "notifications/message", "params": {"level": "info", "data": "on it"}}


async def test_a_call_whose_stream_was_closed_is_taken_up_where_it_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        polling = Polling(server, LOGGED, LOGGED, ANSWER)
        answered = await call(upstream, level="info")
        assert isinstance(answered.outcome, Success)
        assert answered.outcome.result == {"content": []}
        times, ids = zip(*polling.asked, strict=True)
        assert ids == ("e0", "e1", "e2")
        assert times[0] == pytest.approx(0.5), "it waits as long as the server wants"
        assert len(server.calls()) == 1
        assert server.calls("GET")[0].headers["mcp-session-id"] == server.calls()[0].headers["mcp-session-id"]


# What servers of the TypeScript SDK 1.x answer whose session is no more: an error without an id.
NO_SESSION = b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "Bad Request: No valid session ID"}}'


@pytest.mark.parametrize("answer", [400, 404, 405, *(Raw(status, chunks=[NO_SESSION]) for status in (400, 404))])
async def test_a_server_that_cannot_take_it_up_has_lost_the_call_which_may_have_run(
    answer: int | Raw, autojump_clock: trio.testing.MockClock
) -> None:
    async with behind(LEGACY) as (server, upstream):
        Polling(server, answer)
        with pytest.raises(UpstreamLost, match="ended the stream without an answer") as lost:
            await call(upstream)
        assert lost.value.executed
        assert len(server.calls()) == 1, "and it is not sent again"


async def test_a_server_that_has_nothing_new_to_say_is_not_asked_without_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        polling = Polling(server, first=b"retry: 0\n")
        with pytest.raises(UpstreamLost):
            await call(upstream)
        assert len(polling.asked) == FUTILE
        assert trio.current_time() >= 0.5, "nor in a hurry"


async def test_a_stream_without_ids_is_not_taken_up(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):

        async def script(incoming: Incoming) -> Raw:
            return Raw(200, STREAM, [b"data: \n\n"])

        server.scripts["tools/call"] = script
        with pytest.raises(UpstreamLost):
            await call(upstream)
        assert not server.calls("GET")


async def test_an_id_that_could_not_stand_in_a_header_is_none(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):

        async def script(incoming: Incoming) -> Raw:
            return Raw(200, STREAM, ["id: é\r\nid:\x00\nid: ".encode() + b"x" * 5000 + b"\ndata: \n\n"])

        server.scripts["tools/call"] = script
        with pytest.raises(UpstreamLost):
            await call(upstream)
        assert not server.calls("GET")


async def test_a_call_that_is_cancelled_while_it_waits_to_be_taken_up_is_cancelled_at_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        Polling(server, first=b"retry: 20000\n")
        with trio.move_on_after(5):
            await call(upstream)
        await trio.testing.wait_all_tasks_blocked()
        (told,) = server.calls("notifications/cancelled")
        assert told.params["requestId"] == server.calls()[0].message["id"]
