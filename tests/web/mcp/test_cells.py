"""Both revisions of clients over both revisions of upstreams: what travels, and what stays where it belongs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.protocol.tasks import TASKS

from ...fakes.mcp_server import LEGACY, META, MODERN, Raw, Speaking, ToolFailure
from ...fakes.relay import client_of, in_every_cell, one, text_of

Json = dict[str, Any]

INVENTED: Json = {
    "type": "object",
    "$anchor": "root",
    "$defs": {"leaf": {"type": "string", "x-invented": [1, {"deep": None}]}},
    "properties": {"text": {"$ref": "#/$defs/leaf"}},
    "vocabulary-of-tomorrow": {"$dynamicAnchor": "é"},
}


@in_every_cell
async def test_every_page_of_an_upstream_is_listed_with_all_that_its_tools_say(
    client_revision: str, upstream_revision: str
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.page_size = 3
        for i in range(10):
            server.tool(f"t{i}")
        server.tool("odd", inputSchema=INVENTED, icons=[{"src": "x"}], invented={"a": [None]}, _meta={"x/y": 1})
        client = await client_of(relay, client_revision)
        tools = await client.tools()
        assert [tool["name"] for tool in tools[:-3]] == [*(f"up__t{i}" for i in range(10)), "up__odd"]
        assert [tool["name"] for tool in tools[-3:]] == ["gateway__auth", "gateway__status", "gateway__unauth"]
        odd = tools[10]
        assert odd["inputSchema"] == INVENTED
        assert (odd["icons"], odd["invented"], odd["_meta"]) == ([{"src": "x"}], {"a": [None]}, {"x/y": 1})
        assert (odd["title"], odd["description"]) == ("up: odd", "[up] ")


@in_every_cell
@pytest.mark.requirement("CA2")
async def test_a_list_speaks_the_revision_of_its_client_only(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("a", outputSchema={"type": "array"})
        server.tool("b", outputSchema={"type": "object", "properties": {}})
        client = await client_of(relay, client_revision)
        received = await client.request("tools/list")
        assert received.status == 200
        result = received.json()["result"]
        by_name = {tool["name"]: tool for tool in result["tools"]}
        assert by_name["up__b"]["outputSchema"] == {"type": "object", "properties": {}}
        if client_revision == MODERN:
            assert by_name["up__a"]["outputSchema"] == {"type": "array"}
            assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
            assert result["ttlMs"] == 60_000
            assert result["_meta"] == {META + "serverInfo": {"name": "mcp-aggregator", "version": "1"}}
        else:
            assert "outputSchema" not in by_name["up__a"]
            assert set(result) == {"tools"}


@in_every_cell
async def test_a_call_travels_whole_in_both_directions(client_revision: str, upstream_revision: str) -> None:
    answer: Json = {
        "content": [{"type": "hologram", "of": {"x": 1e-7}, "_meta": {"a/b": []}}, {"type": "text", "text": "\x00 é"}],
        "structuredContent": {"deep": [{"deeper": None}], "big": 12345678901234567890123},
        "isError": False,
        "inventedResult": [True],
        "_meta": {"com.example/trace": {"k": "v"}},
    }

    async def run(speaking: Speaking) -> Json:
        return answer

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client = await client_of(relay, client_revision, meta={"com.example/mine": [1], "traceparent": "00-ab-cd-01"})
        received = await client.request(
            "tools/call",
            {"name": "up__run", "arguments": {"a": [None, {"é": "\x7f"}]}, "invented": {"p": 0}},
            id="my own id",
        )
        assert (received.status, received.is_stream) == (200, False)
        message = received.json()
        assert message["id"] == "my own id"
        result = message["result"]
        (sent,) = server.calls()
        assert sent.message["id"] != "my own id"
        assert sent.params["name"] == "run"
        assert sent.params["arguments"] == {"a": [None, {"é": "\x7f"}]}
        assert sent.params["invented"] == {"p": 0}
        assert {key: value for key, value in sent.meta.items() if not key.startswith(META)} == {
            "com.example/mine": [1],
            "traceparent": "00-ab-cd-01",
        }
        for key in ("content", "structuredContent", "isError", "inventedResult"):
            assert result[key] == answer[key]
        assert result["_meta"]["com.example/trace"] == {"k": "v"}


@in_every_cell
async def test_nothing_of_one_sides_envelope_reaches_the_other(client_revision: str, upstream_revision: str) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run")
        client = await client_of(relay, client_revision, meta={"progressToken": "mine"})
        answer = await client.call("up__run", {"a": 1})
        (sent,) = server.calls()
        assert "authorization" not in sent.headers
        assert b"alice" not in sent.body
        assert sent.meta["progressToken"] not in ("mine", None)
        ours = {key for key in sent.meta if key.startswith(META)}
        if upstream_revision == MODERN:
            level = {META + "logLevel"} if client_revision == LEGACY else set()  # they may be told without asking
            assert ours == {META + "protocolVersion", META + "clientCapabilities", META + "clientInfo"} | level
            assert sent.meta[META + "clientInfo"]["name"] == "mcp-aggregator"
            assert sent.meta[META + "clientCapabilities"] == ({"elicitation": {}} if client_revision == MODERN else {})
            assert "mcp-session-id" not in sent.headers
        else:
            assert not ours
        result = answer["result"]
        if client_revision == MODERN:
            assert result["resultType"] == "complete"
            assert result["_meta"] == {META + "serverInfo": {"name": "mcp-aggregator", "version": "1"}}
        else:
            assert set(result) == {"content", "isError"}


@in_every_cell
async def test_progress_comes_under_the_clients_token_and_turns_the_answer_into_a_stream(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(speaking: Speaking) -> Json:
        await speaking.progress(1, total=2, message="half", invented=[1])
        await trio.sleep(10)
        await speaking.progress(2, total=2)
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client = await client_of(relay, client_revision, meta={"progressToken": 0})
        async with client.open("tools/call", {"name": "up__run", "arguments": {}}, id=7) as ongoing:
            (first,) = await ongoing.wait_messages(1)
            assert trio.current_time() < 5, "progress is relayed when it comes"
            await ongoing.done.wait()
        assert (ongoing.status, ongoing.is_stream, ongoing.ended) == (200, True, True)
        assert first == {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": 0, "progress": 1, "total": 2, "message": "half", "invented": [1]},
        }
        _, second, last = ongoing.messages()
        assert second["params"]["progress"] == 2
        assert (last["id"], last["result"]["content"]) == (7, [])


@in_every_cell
async def test_no_progress_is_sent_to_one_who_did_not_ask(client_revision: str, upstream_revision: str) -> None:
    async def run(speaking: Speaking) -> Json:
        assert "progressToken" not in speaking.incoming.meta
        await speaking.notify("notifications/progress", progressToken=1, progress=1)
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client = await client_of(relay, client_revision)
        received = await client.request("tools/call", {"name": "up__run"})
        assert not received.is_stream


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_log_messages_reach_a_stateless_client_from_its_level_on(upstream_revision: str) -> None:
    async def run(speaking: Speaking) -> Json:
        for level in ("debug", "info", "warning", "error"):
            await speaking.log(level, {"at": level})
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        received = await relay.modern(level="warning").request("tools/call", {"name": "up__run"})
        *logs, _ = received.messages()
        assert [log["params"] for log in logs] == [
            {"level": "warning", "data": {"at": "warning"}},
            {"level": "error", "data": {"at": "error"}},
        ]
        if upstream_revision == MODERN:
            assert server.calls()[0].meta[META + "logLevel"] == "warning"
        else:
            assert [call.params["level"] for call in server.calls("logging/setLevel")] == ["warning"]
        silent = await relay.modern().request("tools/call", {"name": "up__run"})
        assert not silent.is_stream, "absent logLevel, no log message may be sent"


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_log_messages_reach_a_handshake_client_from_its_sessions_level_on(upstream_revision: str) -> None:
    async def run(speaking: Speaking) -> Json:
        for level in ("info", "error"):
            await speaking.log(level, level)
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client, other = await relay.legacy(), await relay.legacy()
        assert (await client.request("logging/setLevel", {"level": "error"})).json()["result"] == {}
        messages = (await client.request("tools/call", {"name": "up__run"})).messages()
        assert [message.get("params", {}).get("data") for message in messages] == ["error", None]
        messages = (await other.request("tools/call", {"name": "up__run"})).messages()
        assert len(messages) == 3, "the level belongs to one session"
        wrong = (await client.request("logging/setLevel", {"level": "loud"})).json()
        assert wrong["error"]["code"] == -32602
        assert "debug, info" in wrong["error"]["message"]


async def test_a_sessions_level_at_the_upstream_is_the_lowest_that_was_asked_for() -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("run")
        for level in ("error", "warning", "error", "debug", "debug"):
            await relay.modern(level=level).call("up__run")
        assert [call.params["level"] for call in server.calls("logging/setLevel")] == ["error", "warning", "debug"]


async def test_an_upstream_without_logging_is_never_asked_for_a_level() -> None:
    async with one(LEGACY) as (server, relay):
        server.capabilities = {"tools": {}}
        server.tool("run")
        await relay.modern(level="debug").call("up__run")
        assert not server.calls("logging/setLevel")


@in_every_cell
async def test_an_upstreams_own_error_keeps_its_code_message_and_data(
    client_revision: str, upstream_revision: str
) -> None:
    error = {"code": -32042, "message": "no", "data": {"why": [1]}, "invented": 1}

    async def run(speaking: Speaking) -> Json:
        raise ToolFailure(error)

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        received = await (await client_of(relay, client_revision)).request("tools/call", {"name": "up__run"}, id=3)
        assert received.json() == {"jsonrpc": "2.0", "id": 3, "error": error}


@in_every_cell
@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32020, -32022])
async def test_an_error_about_our_own_request_is_not_passed_off_as_one_about_the_clients(
    client_revision: str, upstream_revision: str, code: int
) -> None:
    async def run(speaking: Speaking) -> Json:
        raise ToolFailure({"code": code, "message": "not what I speak"}, status=400)

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        text = text_of(await (await client_of(relay, client_revision)).call("up__run"))
        assert text.startswith("Error calling up__run: upstream up: ")
        assert f"not what I speak ({code})" in text


@in_every_cell
async def test_a_tools_own_error_result_passes_unchanged(client_revision: str, upstream_revision: str) -> None:
    async def run(speaking: Speaking) -> Json:
        return {"content": [{"type": "text", "text": "no such file"}], "isError": True}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        assert text_of(await (await client_of(relay, client_revision)).call("up__run")) == "no such file"


async def test_a_handshake_upstream_cannot_pose_a_stateless_question() -> None:
    async def run(speaking: Speaking) -> Json:
        return {"content": [], "resultType": "input_required", "ttlMs": 1, "cacheScope": "public"}

    async with one(LEGACY) as (server, relay):
        server.tool("run", run)
        result = (await relay.modern().call("up__run"))["result"]
        assert result["resultType"] == "complete"
        result = (await (await relay.legacy()).call("up__run"))["result"]
        assert result == {"content": [], "resultType": "input_required", "ttlMs": 1, "cacheScope": "public"}


@pytest.mark.parametrize("kind", ["input_required", "task", "of-tomorrow"])
async def test_a_result_that_an_older_client_cannot_read_is_an_error_and_never_an_empty_success(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(speaking: Speaking) -> Json:
        return {"resultType": kind, "requestState": "s", "taskId": "t"}

    async with one(MODERN) as (server, relay):
        server.tool("run", run)
        text = text_of(await (await relay.legacy()).call("up__run"))
        assert "upstream up" in text
        declared: Json = {f"{META}clientCapabilities": {"extensions": {TASKS: {}}}}
        result = (await relay.modern(meta=declared).call("up__run"))["result"]
        assert (result["resultType"], result["requestState"]) == (kind, "s")


async def test_a_structured_value_that_older_clients_cannot_read_stays_as_text() -> None:
    async def run(speaking: Speaking) -> Json:
        return {"structuredContent": [1, "é"]}

    async with one(MODERN) as (server, relay):
        server.tool("run", run)
        result = (await (await relay.legacy()).call("up__run"))["result"]
        assert result == {"content": [{"type": "text", "text": '[1,"é"]'}]}


async def test_a_stateless_upstream_may_forget_the_result_type() -> None:
    async def script(incoming: Any) -> Raw:
        return Raw(chunks=[json.dumps({"jsonrpc": "2.0", "id": incoming.message["id"], "result": {}}).encode()])

    async with one(MODERN) as (server, relay):
        server.tool("run")
        server.scripts["tools/call"] = script
        assert (await relay.modern().call("up__run"))["result"]["resultType"] == "complete"
