"""What each MCP method does here, for clients of both revisions."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.config.model import Limits
from aggregator.errors import StoreUnavailable
from aggregator.protocol.revisions import WITH_HANDSHAKE
from aggregator.web.mcp.methods import DISCOVER_TTL, GUESS_TTL

from ...fakes.mcp_server import LEGACY, META, MODERN, Speaking
from ...fakes.relay import client_of, one, text_of

Json = dict[str, Any]


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_an_unknown_tool_is_an_error_of_the_request(revision: str) -> None:
    async with one(MODERN) as (_, relay):
        client = await client_of(relay, revision)
        received = await client.request("tools/call", {"name": "up__none", "arguments": {}}, id=1)
        assert received.json()["error"] == {"code": -32602, "message": "Unknown tool: up__none"}
        assert received.status == (400 if revision == MODERN else 200)


@pytest.mark.parametrize(
    "params",
    [
        {"name": 1},
        {"name": None},
        {},
        {"name": "up__run", "arguments": []},
        {"name": "up__run", "arguments": "a"},
        {"name": ["up__run"]},
    ],
)
async def test_parameters_of_the_wrong_kind_are_refused(params: Json) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        received = await (await relay.legacy()).request("tools/call", params)
        assert received.json()["error"]["code"] == -32602
        assert not server.calls()


async def test_absent_and_null_arguments_stay_what_they_were() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        client = relay.modern()
        await client.request("tools/call", {"name": "up__run"})
        await client.request("tools/call", {"name": "up__run", "arguments": None})
        without, null = server.calls()
        assert "arguments" not in without.params
        assert null.params["arguments"] is None


@pytest.mark.requirement("TR3")
async def test_parameter_headers_are_checked_against_the_arguments_and_made_anew_for_the_upstream() -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "kind": {"type": ["string", "null"]},
        },
    }
    async with one(MODERN) as (server, relay):
        server.tool("run", inputSchema=schema)
        client = relay.modern()

        async def call(arguments: Json, **headers: str) -> Any:
            params = {"name": "up__run", "arguments": arguments}
            given = [(f"mcp-param-{key}", value) for key, value in headers.items()]
            return await client.post(
                client.encode("tools/call", params, 1), client.headers("tools/call", params) + given
            )

        good = {"region": " Zürich\n", "count": 3, "dry": False}
        right = {"region": "=?base64?IFrDvHJpY2gK?=", "count": "3", "dry": "false"}
        received = await call(good, **right)
        assert received.status == 200, received.body
        assert server.calls()[-1].params["arguments"] == good
        assert (await call(good, **{**right, "count": "3.0"})).status == 200, "integers compare as numbers"
        assert (await call(good, **right, newer="=?base64?w7w=?=")).status == 200
        sent = {key: value for key, value in server.calls()[-1].headers.items() if key.startswith("mcp-param-")}
        newer = {"mcp-param-newer": "=?base64?w7w=?="}
        assert sent == {f"mcp-param-{key}": value for key, value in right.items()} | newer, "unknown ones are passed on"
        before = len(server.calls())
        for wrong in (
            {**right, "region": "Zurich"},
            {**right, "region": "=?base64?!!?="},
            {**right, "count": "4"},
            {**right, "dry": "False"},
            {key: value for key, value in right.items() if key != "dry"},
        ):
            received = await call(good, **wrong)
            assert (received.status, received.json()["error"]["code"]) == (400, -32020)
        assert (await call({"count": 3}, **right)).json()["error"]["code"] == -32020
        assert len(server.calls()) == before
        legacy = await relay.legacy()
        assert "result" in await legacy.call("up__run", good), "older clients know no such headers; we make them"


async def test_a_tool_with_an_annotation_that_no_header_can_carry_is_left_out_and_reported() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("good")
        for i, node in enumerate(
            (
                {"type": "number", "x-mcp-header": "A"},
                {"type": ["string"], "x-mcp-header": "A"},
                {"type": {"a": 1}, "x-mcp-header": "A"},
                {"x-mcp-header": "A"},
                {"type": "string", "x-mcp-header": "A B"},
                {"type": "string", "x-mcp-header": 1},
            )
        ):
            server.tool(f"bad{i}", inputSchema={"type": "object", "properties": {"p": node}})
        client = relay.modern()
        assert (await client.names())[:-3] == ["up__good"]
        status = json.loads((await client.call("gateway__status"))["result"]["content"][0]["text"])
        assert len(status["servers"][0]["leftOut"]) == 6


async def test_discovery_names_every_revision_and_handshake_only_its_own() -> None:
    upstreams = {"up": {"description": "Everything about cats."}}
    async with one(MODERN, upstreams=upstreams) as (_, relay):
        result = (await relay.modern().request("server/discover")).json()["result"]
        assert result["supportedVersions"] == [MODERN, *WITH_HANDSHAKE]
        assert (result["ttlMs"], result["cacheScope"]) == (GUESS_TTL, "private")
        lists = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}
        assert result["capabilities"] == {**lists, "logging": {}, "completions": {}}, "it was not met yet"
        await relay.modern().tools()
        result = (await relay.modern().request("server/discover")).json()["result"]
        assert result["capabilities"] == {"tools": lists["tools"], "logging": {}}, "it has nothing else"
        assert result["ttlMs"] == DISCOVER_TTL
        assert "up__*: Everything about cats." in result["instructions"]
        assert result["_meta"][META + "serverInfo"]["name"] == "mcp-aggregator"
        client = await relay.legacy()
        initialized = await client.initialize()
        assert initialized["protocolVersion"] == LEGACY
        assert initialized["serverInfo"]["name"] == "mcp-aggregator"
        assert "up__*: Everything about cats." in initialized["instructions"]
        older = await client.request("initialize", {"protocolVersion": "1999-01-01"})
        assert older.json()["result"]["protocolVersion"] == LEGACY


@pytest.mark.requirement("TR2")
async def test_a_method_that_nobody_has_is_404_for_stateless_clients_and_a_plain_answer_for_others() -> None:
    async with one(MODERN) as (_, relay):
        for method in ("resources/subscribe", "ping", "initialize", "logging/setLevel", "x" * 500):
            received = await relay.modern().request(method)
            assert (received.status, received.json()["error"]["code"]) == (404, -32601)
        legacy = await relay.legacy()
        for method in ("tasks/get", "server/discover"):
            received = await legacy.request(method)
            assert (received.status, received.json()["error"]["code"]) == (200, -32601)
        assert (await legacy.request("ping")).json()["result"] == {}


async def test_a_cursor_that_is_none_of_ours_is_refused() -> None:
    async with one(MODERN) as (_, relay):
        cursors: list[Any] = ["x", "dDE=", "dDEwMDE=", "é", 1, [], {}]
        for cursor in cursors:
            received = await relay.modern().request("tools/list", {"cursor": cursor})
            assert (received.status, received.json()["error"]["code"]) == (400, -32602), cursor
        received = await relay.modern().request("tools/list", {"cursor": ""})
        assert "tools" in received.json()["result"], "some clients ask for the beginning so"


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_long_list_comes_in_pages_and_always_in_the_same_order(revision: str) -> None:
    async with one(MODERN) as (server, relay):
        for i in range(2500):
            server.tool(f"t{i}")
        client = await client_of(relay, revision)
        first = (await client.request("tools/list")).json()["result"]
        assert len(first["tools"]) == 1000
        names = await client.names()
        assert names == [*(f"up__t{i}" for i in range(2500)), "gateway__auth", "gateway__status", "gateway__unauth"]
        assert await client.names() == names


async def test_one_person_cannot_hold_all_calls(autojump_clock: trio.testing.MockClock) -> None:
    async def run(speaking: Speaking) -> Json:
        await trio.sleep(5)
        return {"content": [], "isError": False}

    async with one(MODERN, limits=Limits(calls_per_person=2)) as (server, relay):
        server.tool("run", run)
        alice = relay.modern("alice")
        await alice.tools()
        async with (
            alice.open("tools/call", {"name": "up__run"}) as first,
            alice.open("tools/call", {"name": "up__run"}) as second,
        ):
            await trio.testing.wait_all_tasks_blocked()
            assert "You have 2 calls running" in text_of(await alice.call("up__run"))
            assert (await relay.modern("bob").call("up__run"))["result"]["isError"] is False
            await first.done.wait()
            await second.done.wait()
        assert (await alice.call("up__run"))["result"]["isError"] is False
        assert relay.is_idle()


async def test_a_lost_store_is_a_tool_error_of_our_own_tool() -> None:
    async with one(MODERN) as (_, relay):
        relay.connections.fault = StoreUnavailable("disk gone")
        text = text_of(await relay.modern().call("gateway__unauth", {"server": "up"}))
        assert "the aggregator's store is not available" in text
        assert "disk gone" not in text
