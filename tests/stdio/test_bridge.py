"""The bridge between a client's lines and an endpoint: what it repeats, what it never repeats, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from aggregator.stdio.bridge import LAST_WORDS, PATIENCE, Bridge
from aggregator.stdio.endpoint import Answer, EndpointLost

Json = dict[str, Any]

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
BEGIN: Json = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
READY: Json = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call(id: Any, method: str = "tools/call", **params: Any) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def result(id: Any, **content: Any) -> Json:
    return {"jsonrpc": "2.0", "id": id, "result": content}


@dataclass
class Said:
    """An answer of `FakeEndpoint`. Messages make an event stream; `after` is waited for before the last of them."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[Json, ...] = ()
    body: bytes | None = None
    after: trio.Event | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        await trio.lowlevel.checkpoint()
        if self.body is not None:
            yield self.body
            return
        for message in self.messages[:-1]:
            yield b"data: " + json.dumps(message).encode() + b"\n\n"
        if self.after is not None:
            await self.after.wait()
        for message in self.messages[-1:]:
            yield b"data: " + json.dumps(message).encode() + b"\n\n"


def stream(*messages: Json, after: trio.Event | None = None, **headers: str) -> Said:
    return Said(200, {"content-type": "text/event-stream", **headers}, messages, after=after)


def whole(message: Json, status: int = 200, session: str | None = None) -> Said:
    headers = {"content-type": "application/json", **({} if session is None else {"mcp-session-id": session})}
    return Said(status, headers, body=json.dumps(message, indent=2).encode())


class FakeEndpoint:
    """Answers by method of the message, the last answer again and again; keeps what it was sent."""

    def __init__(self, **answers: list[Said | EndpointLost]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, dict[str, str], Json]] = []
        self.open = 0

    @property
    def methods(self) -> list[str]:
        return [message.get("method", http) for http, _, message in self.seen]

    @asynccontextmanager
    async def send(self, method: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        await trio.lowlevel.checkpoint()
        message = json.loads(body) if body else {}
        self.seen.append((method, dict(headers), message))
        known = self.answers.get(message.get("method", method).replace("/", "_"))
        if known is None:
            yield Said(405 if method == "GET" else 202, body=b"")
            return
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, EndpointLost):
            raise answer
        self.open += 1
        try:
            yield answer
        finally:
            self.open -= 1


class Client:
    """What stands at the other end of the lines."""

    def __init__(self) -> None:
        self.read: list[Json] = []
        self._sender, self._lines = trio.open_memory_channel[bytes](100)

    def say(self, *messages: Json | bytes) -> None:
        for message in messages:
            self._sender.send_nowait(message if isinstance(message, bytes) else json.dumps(message).encode())

    def end(self) -> None:
        self._sender.close()

    async def lines(self) -> AsyncIterator[bytes]:
        async for line in self._lines:
            yield line

    async def write(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        assert b"\n" not in message
        self.read.append(json.loads(message))


async def converse(endpoint: FakeEndpoint, *messages: Json | bytes) -> list[Json]:
    """Everything that a client is told that says all this and then ends."""
    client = Client()
    client.say(*messages)
    client.end()
    await Bridge(endpoint, client.write).run(client.lines())
    return client.read


async def test_an_answer_passes_as_it_came_on_one_line(autojump_clock: MockClock) -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
    endpoint = FakeEndpoint(
        tools_call=[stream(progress, result(1, content=[], unknown="kept"))], ping=[whole(result("two", x="a\nb"))]
    )
    told = await converse(endpoint, call(1, name="x"), call("two", "ping"))
    assert [message for message in told if message.get("id") != "two"] == [
        progress,
        result(1, content=[], unknown="kept"),
    ]
    assert result("two", x="a\nb") in told


async def test_a_stateless_request_has_the_headers_of_its_revision(autojump_clock: MockClock) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    tools = result(1, tools=[{"name": "x", "inputSchema": schema}, {"name": "y"}, "odd"])
    endpoint = FakeEndpoint(tools_list=[whole(tools)], tools_call=[whole(result(2))])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(call(1, "tools/list", _meta=META))
        await trio.testing.wait_all_tasks_blocked()
        client.say(call(2, name="x", arguments={"region": "eu"}, _meta=META))
        client.end()
    _, headers, _ = endpoint.seen[-1]
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert (headers["mcp-method"], headers["mcp-name"], headers["mcp-param-region"]) == ("tools/call", "x", "eu")
    assert "mcp-session-id" not in headers


async def test_a_session_is_named_from_the_handshake_on_and_ended_at_the_end(autojump_clock: MockClock) -> None:
    begun = whole(result(0, protocolVersion="2025-06-18"), session="s1")
    endpoint = FakeEndpoint(initialize=[begun], ping=[whole(result(1))])
    told = await converse(endpoint, BEGIN, READY, call(1, "ping"))
    assert told == [result(0, protocolVersion="2025-06-18"), result(1)]
    by_method = {message.get("method", http): headers for http, headers, message in endpoint.seen}
    assert "mcp-session-id" not in by_method["initialize"]
    for method in ("notifications/initialized", "ping", "GET", "DELETE"):
        assert (by_method[method]["mcp-session-id"], by_method[method]["mcp-protocol-version"]) == ("s1", "2025-06-18")
    assert endpoint.methods[-1] == "DELETE"


async def test_a_session_that_has_ended_there_begins_anew_unseen(autojump_clock: MockClock) -> None:
    first = whole(result(0, protocolVersion="2025-11-25"), session="s1")
    second = whole(result(0, protocolVersion="2025-11-25"), session="s2")
    gone = whole({"error": "invalid_request", "error_description": "This session has ended."}, 404)
    endpoint = FakeEndpoint(initialize=[first, second], tools_call=[gone, whole(result(1, content=[]))])
    told = await converse(endpoint, BEGIN, READY, call(1, name="x"))
    assert told == [result(0, protocolVersion="2025-11-25"), result(1, content=[])]
    calls = [
        headers["mcp-session-id"] for _, headers, message in endpoint.seen if message.get("method") == "tools/call"
    ]
    assert calls == ["s1", "s2"]


async def test_a_server_that_restarts_is_waited_for_and_that_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    away = EndpointLost("nobody answers", sent=False)
    endpoint = FakeEndpoint(tools_call=[away, away, away, whole(result(1, content=[]))])
    client = Client()
    client.say(call(1, name="x", _meta=META))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        await trio.sleep(10)
        client.end()
    assert client.read == [result(1, content=[])]
    assert [record.getMessage() for record in caplog.records] == ["nobody answers; waiting for it, 15 s at most"]


async def test_a_server_that_stays_away_is_told_of_in_words_and_in_time(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(tools_call=[EndpointLost("nobody answers at http://x; start it", sent=False)])
    client = Client()
    client.say(call(1, name="x", _meta=META))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        await trio.sleep(PATIENCE)
        client.end()
    ((told),) = client.read
    assert told["id"] == 1
    assert "nobody answers at http://x; start it" in told["error"]["message"]


async def test_what_the_server_may_have_done_is_not_asked_again(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(tools_call=[EndpointLost("the answer broke off", sent=True)])
    (told,) = await converse(endpoint, call(1, name="x", _meta=META))
    assert "broke off" in told["error"]["message"]
    assert endpoint.methods == ["tools/call"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (whole({"error": "invalid_token", "error_description": "Show the token."}, 401), "HTTP 401: Show the token."),
        (Said(502, {"content-type": "text/html"}, body=b"<h1>Bad\nGateway</h1>"), "HTTP 502"),
        (Said(200, {"content-type": "application/json"}, body=b""), "without a result"),
        (stream(), "without a result"),
    ],
)
async def test_a_request_is_always_answered(autojump_clock: MockClock, answer: Said, words: str) -> None:
    (told,) = await converse(FakeEndpoint(tools_call=[answer]), call("a", name="x", _meta=META))
    assert told["id"] == "a"
    assert words in told["error"]["message"]


async def test_an_error_that_names_nobody_is_given_to_who_asked(autojump_clock: MockClock) -> None:
    error = {"code": -32020, "message": "Mcp-Name differs"}
    endpoint = FakeEndpoint(tools_call=[whole({"jsonrpc": "2.0", "id": None, "error": error}, 400)])
    assert await converse(endpoint, call(7, name="x", _meta=META)) == [{"jsonrpc": "2.0", "id": 7, "error": error}]


async def test_a_line_that_is_no_message_is_answered_and_the_next_one_read(autojump_clock: MockClock) -> None:
    told = await converse(FakeEndpoint(ping=[whole(result(1))]), b"{", b"", b"   ", call(1, "ping"))
    assert [message.get("error", {}).get("code") for message in told] == [-32700, None]


async def test_a_slow_call_holds_up_nobody(autojump_clock: MockClock) -> None:
    slow = trio.Event()
    endpoint = FakeEndpoint(tools_call=[stream(result(1), after=slow)], ping=[whole(result(2))])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(call(1, name="x"), call(2, "ping"))
        await trio.testing.wait_all_tasks_blocked()
        assert client.read == [result(2)]
        slow.set()
        client.end()
    assert client.read == [result(2), result(1)]


async def test_a_stateless_call_is_cancelled_by_leaving_it(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(tools_call=[stream(result(1), after=trio.Event())])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(call(1, name="x", _meta=META))
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.open == 1
        client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.open == 0
        client.end()
    assert client.read == []
    assert endpoint.methods == ["tools/call"], "a stateless server is told by the disconnect alone"


async def test_an_older_call_is_cancelled_by_a_notification_and_its_answer_kept_back(autojump_clock: MockClock) -> None:
    cancelled = trio.Event()
    endpoint = FakeEndpoint(tools_call=[stream(result(1), after=cancelled)])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(call(1, name="x"))
        await trio.testing.wait_all_tasks_blocked()
        client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.methods == ["tools/call", "notifications/cancelled"]
        cancelled.set()
        client.end()
    assert client.read == []


async def test_a_question_reaches_the_client_and_its_answer_the_server(autojump_clock: MockClock) -> None:
    answered = trio.Event()
    question = call("q1", "elicitation/create", message="Sure?")
    endpoint = FakeEndpoint(tools_call=[stream(question, result(1), after=answered)])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(call(1, name="x"))
        await trio.testing.wait_all_tasks_blocked()
        assert client.read == [question]
        client.say(result("q1", action="accept"))
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.seen[-1][2] == result("q1", action="accept")
        answered.set()
        client.end()
    assert client.read[-1] == result(1)


async def test_at_the_end_calls_have_a_moment_and_no_more(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(tools_call=[stream(result(1), after=trio.Event())])
    began = trio.current_time()
    assert await converse(endpoint, call(1, name="x")) == []
    assert trio.current_time() - began == pytest.approx(LAST_WORDS)
    assert endpoint.open == 0


async def test_what_is_said_between_calls_is_heard_and_the_stream_opened_again(autojump_clock: MockClock) -> None:
    news = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}}
    begun = whole(result(0, protocolVersion="2025-11-25"), session="s1")
    lost = EndpointLost("broke off", sent=True)
    endpoint = FakeEndpoint(initialize=[begun], GET=[stream(news), lost, stream(news, news, after=trio.Event())])
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, client.write).run, client.lines())
        client.say(BEGIN, READY)
        await trio.sleep(20)
        client.end()
    assert client.read == [result(0, protocolVersion="2025-11-25"), news, news]


PROGRESS: Json = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}


def kept(id: str, *messages: Json, retry: int | None = None, breaks: bool = False) -> Said:
    """A stream that can be taken up behind `id`. It primes, and has these messages, the last of which has the id."""
    said = b"" if retry is None else b"retry: %d\n" % retry
    said += b"id: " + id.encode() + b"\ndata:\n\n"
    body = said + b"".join(b"data: " + json.dumps(message).encode() + b"\n\n" for message in messages)
    if breaks:
        return _Breaking(200, {"content-type": "text/event-stream"}, body=body)
    return Said(200, {"content-type": "text/event-stream"}, body=body)


class _Breaking(Said):
    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for chunk in super().chunks():
            yield chunk
        raise EndpointLost("the answer broke off", sent=True)


@pytest.mark.parametrize("breaks", [True, False])
async def test_an_answer_that_broke_off_is_taken_up_where_it_did(breaks: bool, autojump_clock: MockClock) -> None:
    """Also one that the endpoint closed, to be asked again later."""
    endpoint = FakeEndpoint(
        initialize=[whole(result(0, protocolVersion="2025-11-25"), session="s")],
        tools_call=[kept("one", PROGRESS, retry=300, breaks=breaks)],
        GET=[kept("two", breaks=breaks), kept("three", result(1, content=[]))],
    )
    began = trio.current_time()
    told = await converse(endpoint, BEGIN, call(1, name="x"))
    assert told[1:] == [PROGRESS, result(1, content=[])]
    assert trio.current_time() - began == pytest.approx(0.6)
    asked = [headers for method, headers, _ in endpoint.seen if method == "GET"]
    assert [(headers["last-event-id"], headers["mcp-session-id"]) for headers in asked] == [("one", "s"), ("two", "s")]


@pytest.mark.parametrize("status", [204, 400, 404, 405])
async def test_an_answer_that_cannot_be_taken_up_is_lost_in_words(status: int, autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(
        initialize=[whole(result(0, protocolVersion="2025-11-25"), session="s")],
        tools_call=[kept("one", PROGRESS, breaks=True)],
        GET=[Said(status, body=b"")],
    )
    told = await converse(endpoint, BEGIN, call(1, name="x"))
    assert "the answer ended without a result" in told[-1]["error"]["message"]
    assert endpoint.methods.count("GET") == 1


async def test_an_endpoint_that_never_has_anything_new_is_not_asked_for_ever(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint(
        initialize=[whole(result(0, protocolVersion="2025-11-25"), session="s")],
        tools_call=[kept("one", PROGRESS)],
        GET=[kept("one")],
    )
    bridge_told: list[Json] = []

    async def write(message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        bridge_told.append(json.loads(message))

    client = Client()
    client.say(BEGIN, call(1, name="x"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bridge(endpoint, write).run, client.lines())
        await trio.sleep(20)
        client.end()
    assert "the answer ended without a result" in bridge_told[-1]["error"]["message"]
    assert endpoint.methods.count("GET") == 5
