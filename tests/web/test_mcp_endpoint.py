"""`POST /mcp` below the methods: who, which revision, what the headers say, and when work is cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.web.mcp_endpoint import CANCELLED

from ..fakes.asgi import Browser
from ..fakes.mcp_server import LEGACY, META, MODERN, Speaking
from ..fakes.relay import Client, Relay, in_every_cell, one, text_of

Json = dict[str, Any]


def envelope(**more: Any) -> Json:
    return {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, **more}


def body(method: str = "tools/call", params: Json | None = None, **more: Any) -> bytes:
    params = {"name": "up__run", "arguments": {}, "_meta": envelope()} if params is None else params
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}).encode()


ALICE = {
    "authorization": "Bearer alice",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}
ROUTED = {**ALICE, "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "up__run"}


async def post(relay: Relay, headers: Any, content: bytes) -> tuple[int | None, Any]:
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    received = await Browser(relay.app).request("POST", "/mcp", pairs, content)
    return received.status, received.json()


async def sleep_for_ever(speaking: Speaking) -> Json:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.requirement("TR2")
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({**ROUTED, "mcp-protocol-version": LEGACY}, -32020),
        ({key: value for key, value in ROUTED.items() if key != "mcp-protocol-version"}, -32020),
        ({**ROUTED, "mcp-method": "tools/list"}, -32020),
        ({**ROUTED, "mcp-method": "TOOLS/CALL"}, -32020),
        ({key: value for key, value in ROUTED.items() if key != "mcp-method"}, -32020),
        ({**ROUTED, "mcp-name": "up__other"}, -32020),
        ({**ROUTED, "mcp-name": "UP__RUN"}, -32020),
        ({**ROUTED, "mcp-name": ""}, -32020),
        ({key: value for key, value in ROUTED.items() if key != "mcp-name"}, -32020),
        ({**ROUTED, "mcp-name": "=?base64?dXBfX290aGVy?="}, -32020),
        ({**ROUTED, "mcp-name": "=?base64?dXBfX3J1bg?="}, -32020),  # not canonical: padding is missing
        ({**ROUTED, "mcp-name": "=?BASE64?dXBfX3J1bg==?="}, -32020),
        ({**ROUTED, "mcp-protocol-version": "2099-01-01"}, -32022),
        ({**ROUTED, "mcp-protocol-version": "2024-11-05"}, -32022),
        ({**ROUTED, "mcp-protocol-version": ""}, -32022),
    ],
)
async def test_a_header_that_contradicts_the_body_is_refused(headers: dict[str, str], code: int) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, answer = await post(relay, headers, body())
        assert (status, answer["error"]["code"]) == (400, code)
        assert not server.calls()


async def test_a_name_may_come_in_the_base64_form() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, answer = await post(relay, {**ROUTED, "mcp-name": "=?base64?dXBfX3J1bg==?="}, body())
        assert (status, answer["result"]["isError"]) == (200, False)
        assert server.calls()[0].headers["mcp-name"] == "run", "and is made anew for the upstream"


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        (None, -32602),
        ([], -32602),
        ({}, -32602),
        ({f"{META}protocolVersion": MODERN}, -32602),
        ({f"{META}clientCapabilities": {}}, -32602),
        (envelope() | {f"{META}clientCapabilities": []}, -32602),
        (envelope() | {f"{META}protocolVersion": LEGACY}, -32020),
        (envelope() | {f"{META}protocolVersion": {"a": 1}}, -32020),
    ],
)
@pytest.mark.requirement("TR2")
async def test_a_stateless_request_without_its_whole_envelope_is_refused(meta: Any, code: int) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, answer = await post(relay, ROUTED, body(params={"name": "up__run", "_meta": meta}))
        assert (status, answer["error"]["code"], answer["id"]) == (400, code, 1)


async def test_an_unknown_version_is_told_the_known_ones() -> None:
    async with one(MODERN) as (_, relay):
        _, answer = await post(relay, {**ALICE, "mcp-protocol-version": "2099-01-01"}, body("tools/list", {}))
        assert answer["error"]["data"] == {"supported": [MODERN, LEGACY], "requested": "2099-01-01"}


async def test_a_stateless_body_under_a_handshake_header_is_a_contradiction() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, answer = await post(relay, {**ALICE, "mcp-protocol-version": LEGACY}, body())
        assert (status, answer["error"]["code"]) == (400, -32020)
        assert not server.calls()


@pytest.mark.parametrize(
    "name", ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "content-type", "mcp-param-a"]
)
async def test_a_routing_header_that_stands_twice_is_refused(name: str) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        value = ROUTED.get(name, "x")
        headers = [*((key, text) for key, text in ROUTED.items() if key != name), (name, value), (name, value)]
        status, answer = await post(relay, headers, body())
        assert (status, answer["error"]) == (400, "invalid_request")
        assert name in answer["error_description"]


JSON_TABLE = {
    "empty": b"",
    "BOM": b"\xef\xbb\xbf" + body(),
    "UTF-16": body().decode().encode("utf-16"),
    "invalid UTF-8": body().replace(b"up__run", b"up__\xff"),
    "encoded surrogate": body().replace(b"up__run", b"up__\xed\xa0\x80"),
    "lone surrogate": body().replace(b"up__run", b"up__\\ud800"),
    "lone low surrogate": body().replace(b"up__run", b"up__\\uDC00"),
    "lone surrogate in a key": body().replace(b'"arguments": {}', b'"arguments": {"\\ud83d": 1}'),
    "duplicate key": body().replace(b'"id": 1', b'"id": 1, "id": 2'),
    "duplicate name": body().replace(b'"name"', b'"name": "up__other", "name"'),
    "duplicate below": body().replace(b'"arguments": {}', b'"arguments": {"a": {"b": 1, "b": 2}}'),
    "escaped duplicate": body().replace(b'"name"', b'"n\\u0061me": "up__other", "name"'),
    "case variant": body().replace(b'"name"', b'"Name": "up__other", "name"'),
    "case variant of the method": body().replace(b'"method"', b'"METHOD": "ping", "method"'),
    "folding variant": body().replace(b'"arguments"', '"argument\u017f": {"a": 1}, "arguments"'.encode()),
    "NaN": body().replace(b'"arguments": {}', b'"arguments": {"a": NaN}'),
    "Infinity": body().replace(b'"arguments": {}', b'"arguments": {"a": -Infinity}'),
    "1e400": body().replace(b'"arguments": {}', b'"arguments": {"a": 1e400}'),
    "5000 digits": body().replace(b'"arguments": {}', b'"arguments": {"a": ' + b"1" * 5000 + b"}"),
    "deep": body().replace(b'"arguments": {}', b'"arguments": ' + b'{"a":' * 500 + b"1" + b"}" * 500),
    "very deep": b"[" * 100_000,
    "trailing comma": body().replace(b'"arguments": {}', b'"arguments": {},'),
    "trailing text": body() + b"{}",
    "single quotes": b"{'jsonrpc': '2.0'}",
    "control character": body().replace(b"up__run", b"up__\x01"),
    "a text": b'"hello"',
    "null": b"null",
    "batch": b"[" + body() + b"]",
    "empty batch": b"[]",
    "no version": body().replace(b'"jsonrpc": "2.0"', b'"jsonrpc": "1.0"'),
    "null id": body().replace(b'"id": 1', b'"id": null'),
    "true id": body().replace(b'"id": 1', b'"id": true'),
    "fractional id": body().replace(b'"id": 1', b'"id": 1.5'),
    "list id": body().replace(b'"id": 1', b'"id": [1]'),
    "positional parameters": body().replace(b'"params": {', b'"params": [{').replace(b"}}}", b"}}}]"),
    "text parameters": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":"x"}',
    "null parameters": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}',
    "number method": b'{"jsonrpc":"2.0","id":1,"method":1}',
    "nothing": b"{}",
    "an answer": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "an error": b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}',
}


@pytest.mark.parametrize("headers", [ROUTED, ALICE], ids=["2026-07-28", "2025-11-25"])
@pytest.mark.parametrize("case", JSON_TABLE)
async def test_a_message_that_can_be_read_in_two_ways_or_none_is_400_and_never_500(
    case: str, headers: dict[str, str]
) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, answer = await post(relay, headers, JSON_TABLE[case])
        assert status == 400
        assert answer["jsonrpc"] == "2.0"
        assert answer["error"]["code"] in (-32700, -32600, -32602)
        assert answer["error"]["message"]
        assert not server.calls()


@pytest.mark.requirement("RS6")
async def test_a_hostile_token_is_refused_before_the_body_is_read() -> None:
    async with one(MODERN) as (_, relay):
        for token in ("Bearer hostile", "Basic abc", "Bearer"):
            headers = [("authorization", token), ("content-type", "text/plain")]
            async with Browser(relay.app).open("POST", "/mcp", headers, [b"x"], endless=True) as ongoing:
                await ongoing.done.wait()
            assert (ongoing.status, ongoing.reads) == (401, 0)
            assert ongoing.headers["www-authenticate"] == "Bearer"


@pytest.mark.requirement("TR4")
async def test_every_other_method_is_405() -> None:
    async with one(MODERN) as (_, relay):
        for method in ("GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE"):
            received = await Browser(relay.app).request(method, "/mcp", ALICE.items())
            assert (received.status, received.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("content-type", "text/plain", 415),
        ("content-type", "application/x-www-form-urlencoded", 415),
        ("content-type", "", 415),
        ("content-type", "Application/JSON; charset=utf-8", 200),
        ("accept", "application/json", 406),
        ("accept", "text/event-stream", 406),
        ("accept", "text/html", 406),
        ("accept", "*/*", 200),
        ("accept", "text/event-stream;q=0.5, APPLICATION/JSON", 200),
    ],
)
async def test_media_types_are_negotiated_as_the_transport_wants(header: str, value: str, status: int) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        got, _ = await post(relay, {**ROUTED, header: value}, body())
        assert got == status


async def test_notifications_are_accepted_whatever_they_say() -> None:
    async with one(MODERN) as (_, relay):
        for client in (relay.modern(), await relay.legacy()):
            received = await client.notify("notifications/of-tomorrow", {"a": 1})
            assert (received.status, received.body) == (202, b"")
            ids: list[Any] = [1, "x", None, True, [], {}]
            for id in ids:
                assert (await client.notify("notifications/cancelled", {"requestId": id})).status == 202


@pytest.mark.requirement("RS6", "TR4")
async def test_a_session_of_another_person_or_of_nobody_is_not_found() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        alice, bob = await relay.legacy("alice"), await relay.legacy("bob")
        assert alice.session is not None
        for session in (alice.session, alice.session[:-1], "x", "", "é", "a" * 9000):
            bob.session = session
            received = await bob.request("tools/call", {"name": "up__run"})
            assert received.status == 404
        assert not server.calls()
        bob.session = None
        assert (await bob.request("tools/list")).status == 200, "a request without a session works, as the seed had it"


async def test_a_stateless_request_ignores_a_session_header() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        status, _ = await post(relay, {**ROUTED, "mcp-session-id": "somebody's", "last-event-id": "9"}, body())
        assert status == 200


# Cancellation


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
@pytest.mark.requirement("TR5")
async def test_a_stateless_clients_disconnect_ends_the_upstreams_work_at_once(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run", sleep_for_ever)
        client = relay.modern()
        await client.tools()
        async with client.open("tools/call", {"name": "up__run", "arguments": {}}) as ongoing:
            await trio.sleep(5)
            (sent,) = server.calls()
            left_at = trio.current_time()
            ongoing.disconnect()
            await ongoing.done.wait()
            await sent.closed.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - left_at < 1  # F17
        assert server.cancelled == [sent.message["id"]]
        assert not server.running
        assert not server.open
        assert ongoing.status is None
        assert relay.is_idle()


async def test_a_disconnect_in_the_middle_of_a_stream_ends_it_too(autojump_clock: trio.testing.MockClock) -> None:
    async def run(speaking: Speaking) -> Json:
        while True:
            await speaking.progress(1)
            await trio.sleep(1)

    async with one(MODERN) as (server, relay):
        server.tool("run", run)
        client = relay.modern(meta={"progressToken": 1})
        async with client.open("tools/call", {"name": "up__run", "arguments": {}}) as ongoing:
            await ongoing.wait_messages(3)
            ongoing.disconnect()
            await ongoing.done.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.open
        assert len(ongoing.messages()) == 3


async def test_a_stateless_disconnect_while_the_upstream_is_still_being_met_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        server.hung = True
        async with relay.modern().open("tools/call", {"name": "up__run"}) as ongoing:
            await trio.sleep(1)
            ongoing.disconnect()
            await ongoing.done.wait()
        assert relay.is_idle()
        server.hung = False
        server.tool("run")
        await trio.sleep(60)
        assert "result" in await relay.modern().call("up__run")


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_handshake_clients_cancellation_ends_the_upstreams_work_under_its_own_id(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run", sleep_for_ever)
        client = await relay.legacy()
        async with client.open("tools/call", {"name": "up__run"}, id="my call") as ongoing:
            await trio.sleep(5)
            (sent,) = server.calls()
            await client.notify("notifications/cancelled", {"requestId": "my call", "reason": "changed my mind"})
            await ongoing.done.wait()
            await sent.closed.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert ongoing.json()["error"]["code"] == CANCELLED
        assert sent.message["id"] != "my call"
        assert server.cancelled == [sent.message["id"]]
        assert not server.running
        assert relay.is_idle()


async def test_only_the_same_person_in_the_same_session_can_cancel(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN, upstreams={"up": {"tool_timeout": 30.0}}) as (server, relay):
        server.tool("run", sleep_for_ever)
        alice, other, bob = await relay.legacy("alice"), await relay.legacy("alice"), await relay.legacy("bob")
        async with alice.open("tools/call", {"name": "up__run"}, id=1) as ongoing:
            await trio.sleep(1)
            stranger: Client
            for stranger in (other, bob, relay.modern("alice"), relay.modern("bob")):
                await stranger.notify("notifications/cancelled", {"requestId": 1})
            await alice.notify("notifications/cancelled", {"requestId": "1"})
            await alice.notify("notifications/cancelled", {"requestId": 2})
            await trio.sleep(1)
            assert not ongoing.done.is_set()
            await ongoing.done.wait()
        assert "toolTimeout" in text_of(ongoing.json())


@in_every_cell
async def test_only_a_stateless_disconnect_cancels(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    finished = []

    async def run(speaking: Speaking) -> Json:
        await trio.sleep(20)
        finished.append(True)
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client: Client = relay.modern() if client_revision == MODERN else await relay.legacy()
        await client.tools()
        async with client.open("tools/call", {"name": "up__run"}) as ongoing:
            await trio.sleep(1)
            ongoing.disconnect()
            await trio.sleep(60)
            assert bool(finished) is (client_revision == LEGACY)
            assert bool(server.cancelled) is (client_revision == MODERN)


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_cancellation_that_meets_a_notification_half_sent_leaves_no_second_beginning(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The client reads nothing, so a send blocks; its call is cancelled, and nothing may follow the broken event."""

    async def run(speaking: Speaking) -> Json:
        await speaking.progress(1)
        return await sleep_for_ever(speaking)

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client = await relay.legacy(meta={"progressToken": 1})
        headers = client.headers("tools/call", {})
        content = client.encode("tools/call", {"name": "up__run"}, 9)
        sends = []

        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sends.append(message["type"])
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            raw = [(b"host", b"mcp.example.com"), *((key.encode(), value.encode()) for key, value in headers)]
            scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": raw}
            nursery.start_soon(relay.app, scope, receive, send)
            await trio.sleep(5)
            await client.notify("notifications/cancelled", {"requestId": 9})
        assert sends == ["http.response.start"]
        assert relay.is_idle()
        await trio.sleep(3)
        assert not server.open


async def test_a_name_header_that_is_no_text_at_all_is_refused_and_no_fault_of_ours() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        for name in ("=?base64?\xe9?=", "\xe9", "=?base64?/w==?="):
            status, answer = await post(relay, {**ROUTED, "mcp-name": name}, body())
            assert (status, answer["error"]["code"]) == (400, -32020)
