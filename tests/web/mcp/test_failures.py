"""What a client is told when an upstream is dead, slow or speaks garbage."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio

from ...fakes.mcp_server import LEGACY, MODERN, Raw, Speaking
from ...fakes.relay import client_of, in_every_cell, one, text_of

Json = dict[str, Any]


@pytest.mark.requirement("AF2")
@pytest.mark.parametrize("limit", [45, 300])  # no other limit, such as the usual 60 s, comes before a long one
@in_every_cell
async def test_a_call_that_takes_too_long_is_stopped_and_says_so(
    client_revision: str, upstream_revision: str, limit: int, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(speaking: Speaking) -> Json:
        while True:  # F2: progress does not extend the deadline
            await trio.sleep(10)
            await speaking.progress(1)

    async with one(upstream_revision, upstreams={"up": {"tool_timeout": float(limit)}}) as (server, relay):
        server.tool("run", run)
        client = await client_of(relay, client_revision, meta={"progressToken": "p"})
        await client.tools()
        started = trio.current_time()
        text = text_of(await client.call("up__run"))
        assert trio.current_time() - started == pytest.approx(limit, abs=0.5)
        assert f"upstream up: no answer within toolTimeout ({limit} s)" in text
        assert f"(after {limit}.0 s)" in text
        await trio.sleep(1)
        assert server.cancelled == [server.calls()[0].message["id"]]
        assert not server.running
        assert relay.is_idle()


@pytest.mark.requirement("AF1")
@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_an_upstream_that_hangs_before_its_answer_begins_is_given_up_at_the_deadline(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(revision, upstreams={"up": {"tool_timeout": 7.0}}) as (server, relay):
        server.tool("run")
        client = relay.modern()
        await client.tools()
        server.hung = True
        started = trio.current_time()
        assert "toolTimeout (7 s)" in text_of(await client.call("up__run"))
        assert trio.current_time() - started == pytest.approx(7, abs=0.1)
        await trio.sleep(3)
        assert not server.open, "the connection is closed"


def canned(status: int, kind: str, *chunks: bytes, **more: Any) -> Raw:
    headers = {"content-type": kind, **more.pop("headers", {})}
    return Raw(status, headers, chunks, **more)


GARBAGE = {
    "html": (canned(200, "text/html", b"<h1>Welcome</h1>"), "content type 'text/html'"),
    "not json": (canned(200, "application/json", b"{nope"), "not MCP"),
    "not utf-8": (canned(200, "application/json", b'{"a":"\xff"}'), "not MCP"),
    "a list": (canned(200, "application/json", b"[]"), "not MCP"),
    "NaN": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":"x","result":{"a":NaN}}'), "NaN"),
    "1e999": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":"x","result":{"a":1e999}}'), "too large"),
    "deep": (canned(200, "application/json", b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "digits": (canned(200, "application/json", b'{"a":' + b"1" * 5000 + b"}"), "not MCP"),
    "foreign id": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":"x","result":{}}'), "never asked"),
    "integer id": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":1,"result":{}}'), "never asked"),
    "a notification": (canned(200, "application/json", b'{"jsonrpc":"2.0","method":"x"}'), "no answer"),
    "no result": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":"x"}'), "not MCP"),
    "an error without words": (canned(200, "application/json", b'{"jsonrpc":"2.0","id":null,"error":{}}'), "not MCP"),
    "nothing": (canned(200, "application/json"), "not MCP"),
    "accepted": (canned(202, ""), "content type ''"),
    "gzip": (canned(200, "application/json", b"\x1f\x8b", headers={"content-encoding": "gzip"}), "gzip"),
    "huge": (canned(200, "application/json", *[b" " * 2**20] * 17), "more than 16777216 bytes"),
    "endless line": (canned(200, "text/event-stream", b"data: ", *[b"x" * 2**20] * 17), "larger than"),
    "empty stream": (canned(200, "text/event-stream", b": hello\n\n"), "without an answer"),
    "event of garbage": (canned(200, "text/event-stream", b"data: {]\n\n"), "not MCP"),
    "foreign answers": (
        canned(200, "text/event-stream", b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'),
        "without an answer",
    ),
    "broken off": (canned(200, "text/event-stream", b"data: {", breaks=True), "connection lost"),
    "broken body": (canned(200, "application/json", b"{", breaks=True), "connection lost"),
    "redirect": (canned(302, "", headers={"location": "http://169.254.169.254/"}), "configure the final URL"),
    "permanent redirect": (canned(308, "", headers={"location": "https://x.example"}), "configure the final URL"),
    "unauthorized": (canned(401, "application/json", b'{"secret":"body"}'), "wants credentials"),
    "forbidden": (canned(403, "text/plain", b"secret body"), "wants credentials"),
    "overloaded": (canned(503, "text/html", b"secret body", headers={"retry-after": "30"}), "asks to wait 30 s"),
    "overloaded in JSON": (
        canned(503, "application/json", b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"busy"}}'),
        "busy",
    ),
    "strange status": (canned(599, "text/html", b"secret body"), "HTTP 599"),
}


@pytest.mark.requirement("AF3")
@in_every_cell
@pytest.mark.parametrize("case", GARBAGE)
async def test_garbage_becomes_a_tool_error_that_names_the_upstream(
    client_revision: str, upstream_revision: str, case: str
) -> None:
    async def script(incoming: Any) -> Raw:
        raw, _ = GARBAGE[case]
        chunks = [chunk.replace(b'"id":"x"', b'"id":' + own_id(incoming, case)) for chunk in raw.chunks]
        return Raw(raw.status, raw.headers, chunks, raw.endless, raw.breaks)

    async with one(upstream_revision) as (server, relay):
        server.tool("run")
        server.scripts["tools/call"] = script
        client = await client_of(relay, client_revision)
        if case == "overloaded in JSON":
            assert (await client.call("up__run"))["error"] == {"code": 1, "message": "busy"}
            return
        text = text_of(await client.call("up__run"))
        assert text.startswith("Error calling up__run: upstream up: ")
        assert GARBAGE[case][1] in text
        assert re.search(r" \(after \d+\.\d s\)$", text)
        assert "secret body" not in text
        assert "location" not in text
        assert len(server.calls()) == 1, "redirects are not followed and nothing is tried twice"
        await trio.testing.wait_all_tasks_blocked()
        assert not server.open
        del server.scripts["tools/call"]
        assert "result" in await client.call("up__run")


def own_id(incoming: Any, case: str) -> bytes:
    return b'"x"' if case == "foreign id" else json.dumps(incoming.message["id"]).encode()


async def test_an_upstream_that_cannot_be_reached_certainly_did_not_run_the_tool() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        client = relay.modern()
        await client.tools()
        server.dead = "cannot connect (refused)"
        assert "cannot connect (refused); the tool was not run" in text_of(await client.call("up__run"))
