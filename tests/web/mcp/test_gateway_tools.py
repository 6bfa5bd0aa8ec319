from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.web.mcp.gateway_tools import gateway_tools

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Raw
from ...fakes.relay import Client, open_relay, text_of

Json = dict[str, Any]


async def status(client: Client, **arguments: Any) -> list[Json]:
    answer = await client.call("gateway__status", arguments)
    assert answer["result"]["isError"] is False
    (block,) = answer["result"]["content"]
    servers: list[Json] = json.loads(block["text"])["servers"]
    return servers


async def test_status_says_of_every_upstream_how_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async def unauthorized(incoming: Any) -> Raw:
        return Raw(401, {"www-authenticate": 'Bearer realm="secret"'}, [b"secret"])

    async with trio.open_nursery() as nursery:
        servers = {
            name: FakeServer(nursery, MODERN if name != "old" else LEGACY) for name in ("new", "old", "dead", "shut")
        }
        servers["new"].tool("a")
        servers["new"].tool("b")
        servers["old"].tool("a")
        servers["dead"].dead = "cannot connect (refused)"
        servers["shut"].scripts["server/discover"] = unauthorized
        async with open_relay(servers) as relay:
            for client in (relay.modern(), await relay.legacy()):
                new, old, dead, shut = await status(client)
                assert (new["name"], new["state"], new["tools"], new["revision"]) == ("new", "connected", 2, MODERN)
                assert (new["authenticated"], new["lastError"], new["latencyMs"]) == (True, None, 0.0)
                assert (old["state"], old["tools"], old["revision"]) == ("connected", 1, LEGACY)
                assert (dead["state"], dead["tools"], dead["authenticated"]) == ("unreachable", 0, False)
                assert dead["lastError"] == "cannot connect (refused)"
                assert (shut["state"], shut["authenticated"]) == ("unreachable", False)
                assert "secret" not in json.dumps(shut)
                assert await status(client, server="old") == [old]
                text = text_of(await client.call("gateway__status", {"server": "none"}))
                assert text == "Unknown upstream: none. Configured: new, old, dead, shut"
        nursery.cancel_scope.cancel()


async def test_a_login_that_is_being_renewed_is_said_so_although_nothing_can_be_listed_with_it() -> None:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery)
        async with open_relay({"up": server}, upstreams={"up": {"auth_type": "user"}}) as relay:
            relay.connections.connect("alice", "up", "a")
            relay.connections.retrying["alice", "up"] = ("it is busy", 1_790_000_000.0)
            server.dead = "the login cannot be renewed now"
            (row,) = await status(relay.modern("alice"))
            assert (row["state"], row["lastError"]) == ("retrying", "it is busy")
            assert row["nextTryAt"] == "2026-09-21T14:13:20Z"
        nursery.cancel_scope.cancel()


async def test_status_warns_while_renewed_logins_are_in_memory_alone() -> None:
    async with trio.open_nursery() as nursery:
        async with open_relay({"up": FakeServer(nursery)}) as relay:
            for is_behind in (False, True):
                relay.connections.is_behind = is_behind
                (block,) = (await relay.modern().call("gateway__status"))["result"]["content"]
                told = json.loads(block["text"])
                assert ("warning" in told) is is_behind
        nursery.cancel_scope.cancel()


async def test_unauth_forgets_this_persons_token_and_says_whether_there_was_one() -> None:
    async with trio.open_nursery() as nursery:
        async with open_relay({"up": FakeServer(nursery)}) as relay:
            relay.connections.tokens = {("alice", "up"): "a", ("bob", "up"): "b"}
            client = relay.modern("alice")
            for words in ("Successfully removed authentication for up", "No authentication is stored for up"):
                answer = await client.call("gateway__unauth", {"server": "up"})
                assert answer["result"]["isError"] is False
                assert answer["result"]["content"][0]["text"].startswith(words)
            assert relay.connections.tokens == {("bob", "up"): "b"}
            assert text_of(await client.call("gateway__unauth")) == "Missing required argument: server"
            assert text_of(await client.call("gateway__unauth", {"server": "x"})).startswith("Unknown upstream: x")
            kinds: list[Any] = [7, ["up"], {}, True]
            for wrong in kinds:
                assert "must be a string" in text_of(await client.call("gateway__unauth", {"server": wrong}))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["gateway__x", "gateway__", "Gateway__status", "gateway__down__auth"])
async def test_other_names_of_ours_lead_nowhere(name: str) -> None:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery)
        server.tool(name)
        async with open_relay({"up": server}, upstreams={"up": {"prefix": ""}}) as relay:
            assert (await relay.modern().call(name))["error"]["code"] == -32602
            assert not server.calls()
        nursery.cancel_scope.cancel()


def test_our_tools_keep_the_words_of_the_predecessor() -> None:
    auth = next(tool for tool in gateway_tools(("up",)) if tool["name"] == "gateway__up__auth")
    assert auth["description"].startswith(
        "[up] Authenticate with up. This server requires authentication before its tools become available. "
        'Equivalent to calling gateway__auth with server="up".'
    )
    unauth = next(tool for tool in gateway_tools(()) if tool["name"] == "gateway__unauth")
    assert unauth["description"] == (
        "Remove stored authentication for an upstream MCP server, so you can re-authenticate or disconnect it."
    )
    assert unauth["inputSchema"]["required"] == ["server"]
    assert unauth["annotations"]["destructiveHint"] is True
