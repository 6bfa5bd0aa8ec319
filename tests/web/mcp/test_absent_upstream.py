"""A call to a tool of an upstream that could never be listed: it names the upstream and the reason, not the tool."""

from __future__ import annotations

import pytest
import trio

from ...fakes.mcp_server import FakeServer, Raw
from ...fakes.relay import open_relay, text_of


async def test_a_call_to_an_upstream_that_never_answered_says_why_its_tools_are_unknown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        servers = {name: FakeServer(nursery) for name in ("dead", "hung", "closed", "busy", "whole")}
        servers["dead"].dead = "cannot connect"
        servers["hung"].hung = True
        servers["closed"].scripts["server/discover"] = lambda _: canned(401)
        servers["busy"].scripts["server/discover"] = lambda _: canned(503, {"retry-after": "30"})
        servers["whole"].tool("echo")
        async with open_relay(servers) as relay:
            client = relay.modern()
            for name, words in {
                "dead": "cannot connect",
                "hung": "no list within 5 s",
                "closed": "HTTP 401 Unauthorized: it wants credentials that are not configured for it",
                "busy": "HTTP 503 Service Unavailable; it asks to wait 30 s",
            }.items():
                text = text_of(await client.call(f"{name}__echo"))
                assert text.startswith(f"Error calling {name}__echo: upstream {name}: {words}")
                assert "; its tools are not known yet, so nothing was run (after " in text
            answer = await client.call("whole__other")
            assert answer["error"]["message"] == "Unknown tool: whole__other"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["echo", "up__echo"])
async def test_an_upstream_without_a_prefix_is_named_only_if_no_prefix_fits(name: str) -> None:
    async with trio.open_nursery() as nursery:
        servers = {"bare": FakeServer(nursery), "up": FakeServer(nursery)}
        for server in servers.values():
            server.dead = "cannot connect"
        async with open_relay(servers, upstreams={"bare": {"prefix": ""}}) as relay:
            text = text_of(await relay.modern().call(name))
            assert f"upstream {'bare' if name == 'echo' else 'up'}: cannot connect" in text
        nursery.cancel_scope.cancel()


async def canned(status: int, headers: dict[str, str] | None = None) -> Raw:
    return Raw(status, headers or {})
