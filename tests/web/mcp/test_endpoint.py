"""`POST /mcp` below the methods: who asks, in which revision, and what the headers say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.protocol.revisions import WITH_HANDSHAKE

from ...fakes.asgi import Browser
from ...fakes.mcp_server import LEGACY, META, MODERN
from ...fakes.relay import Relay, one

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
        ({**ROUTED, "mcp-protocol-version": "2024-11-05"}, -32020),
        ({**ROUTED, "mcp-protocol-version": "2024-10-07"}, -32022),
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
        assert answer["error"]["data"] == {"supported": [MODERN, *WITH_HANDSHAKE], "requested": "2099-01-01"}


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
            # These two act on a session, and none is named here.
            allowed = "POST" if method in ("GET", "DELETE") else "POST, GET, DELETE"
            assert (received.status, received.headers["allow"]) == (405, allowed)


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


async def test_a_name_header_that_is_no_text_at_all_is_refused_and_no_fault_of_ours() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        for name in ("=?base64?\xe9?=", "\xe9", "=?base64?/w==?="):
            status, answer = await post(relay, {**ROUTED, "mcp-name": name}, body())
            assert (status, answer["error"]["code"]) == (400, -32020)
