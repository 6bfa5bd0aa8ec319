"""Where a name or a URI leads while some upstreams have not been listed yet, as after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ..fakes.mcp_server import FakeServer, Incoming
from ..fakes.relay import Relay, open_relay

Json = dict[str, Any]
PAGE: Json = {"ui": {"resourceUri": "ui://app"}}


class Slow:
    """Keeps the lists of one server back until `go` is set, and no other request."""

    def __init__(self, server: FakeServer) -> None:
        self.go = trio.Event()
        server.before = self._wait

    async def _wait(self, incoming: Incoming) -> None:
        if incoming.method.endswith("/list"):
            await self.go.wait()


@asynccontextmanager
async def cold(*names: str, **more: Any) -> AsyncIterator[tuple[dict[str, FakeServer], Relay]]:
    """Upstreams that nobody has listed yet. Each has a tool ``t``, and answers whatever it is asked."""
    async with trio.open_nursery() as nursery:
        servers = {name: FakeServer(nursery, name=name) for name in names}
        for server in servers.values():
            server.tool("t")
            server.capabilities = {"tools": {}, "resources": {}, "prompts": {}, "completions": {}}
            server.results |= {
                "resources/list": lambda _: {"resources": []},
                "resources/templates/list": lambda _: {"resourceTemplates": []},
                "resources/read": lambda incoming: {"contents": [{"uri": incoming.params["uri"], "text": "read"}]},
                "prompts/list": lambda _: {"prompts": [{"name": "p"}]},
                "prompts/get": lambda _: {"messages": []},
                "completion/complete": lambda _: {"completion": {"values": []}},
            }
        async with open_relay(servers, **more) as relay:
            yield servers, relay
        nursery.cancel_scope.cancel()


def has(server: FakeServer, *uris: str, templates: tuple[str, ...] = ()) -> None:
    server.results["resources/list"] = lambda _: {"resources": [{"uri": uri, "name": "r"} for uri in uris]}
    server.results["resources/templates/list"] = lambda _: {
        "resourceTemplates": [{"uriTemplate": text, "name": "t"} for text in templates]
    }


async def answer_to(relay: Relay, method: str, params: Json) -> Json:
    answer: Json = (await relay.modern().request(method, params)).messages()[-1]
    return answer


async def asked_meanwhile(relay: Relay, slow: Slow, method: str, params: Json) -> tuple[Json, bool]:
    """The answer to a request that comes while a list is awaited, and whether it came before that list."""
    answers: list[Json] = []

    async def ask() -> None:
        answers.append(await answer_to(relay, method, params))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        at_once = bool(answers)
        slow.go.set()
    return answers[0], at_once


@pytest.mark.parametrize("templates", [(), ("x://{id}",)])
async def test_an_earlier_upstream_that_is_being_listed_may_own_the_uri(templates: tuple[str, ...]) -> None:
    """Else a client that knows the URI from before a restart would read another server's resource under it."""
    async with cold("one", "other") as (servers, relay):
        has(servers["one"], *([] if templates else ["x://1"]), templates=templates)
        has(servers["other"], "x://1")
        slow = Slow(servers["one"])
        answer, at_once = await asked_meanwhile(relay, slow, "resources/read", {"uri": "x://1"})
        assert "result" in answer
        assert not at_once
        assert servers["one"].calls("resources/read")
        assert not servers["other"].calls("resources/read")


async def test_a_later_one_is_not_waited_for_nor_one_that_has_answered_once() -> None:
    async with cold("one", "other") as (servers, relay):
        has(servers["one"], "x://1")
        slow = Slow(servers["other"])
        for method, params in (
            ("resources/read", {"uri": "x://1"}),
            ("prompts/get", {"name": "one__p"}),
            ("tools/call", {"name": "one__t", "arguments": {}}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "one__p"}, "argument": {}}),
        ):
            answer, at_once = await asked_meanwhile(relay, Slow(servers["other"]), method, params)
            assert "result" in answer, method
            assert at_once, method
        slow.go.set()


async def test_an_earlier_one_is_not_waited_for_where_the_name_says_whose_it_is() -> None:
    async with cold("one", "other") as (servers, relay):
        has(servers["other"], "x://1")
        for method, params in (
            ("resources/read", {"uri": "x://other.gateway/1"}),
            ("prompts/get", {"name": "other__p"}),
            ("tools/call", {"name": "other__t", "arguments": {}}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "other__p"}, "argument": {}}),
        ):
            answer, at_once = await asked_meanwhile(relay, Slow(servers["one"]), method, params)
            assert "result" in answer, method
            assert at_once, method


async def test_a_uri_that_nobody_lists_is_nobodys_until_everybody_was_asked() -> None:
    """It may be a secret of the one that is not listed yet."""
    async with cold("one", "other") as (servers, relay):
        has(servers["one"], "x://1")
        has(servers["other"], "y://1")
        answer, at_once = await asked_meanwhile(relay, Slow(servers["other"]), "resources/read", {"uri": "y://secret"})
        assert "result" in answer
        assert not at_once
        assert not servers["one"].calls("resources/read")


async def test_a_template_that_a_client_knows_from_before_is_completed_by_its_upstream() -> None:
    async with cold("one", "other") as (servers, relay):
        for server in servers.values():
            has(server, templates=("x://{id}",))
        ref = {"type": "ref/resource", "uri": "x://{id}"}
        params = {"ref": ref, "argument": {"name": "id", "value": ""}}
        _, at_once = await asked_meanwhile(relay, Slow(servers["one"]), "completion/complete", params)
        assert not at_once
        assert servers["one"].calls("completion/complete")
        assert not servers["other"].calls("completion/complete")


async def test_a_page_may_call_its_servers_tool_before_that_was_listed() -> None:
    """A page outlives our restarts: nobody may have asked for a list since."""
    async with cold("one", "other") as (servers, relay):
        servers["other"].tool("show", _meta=PAGE)
        servers["other"].tool("load")
        assert "result" in await relay.modern().call("load")
        assert [call.params["name"] for call in servers["other"].calls()] == ["load"]


async def test_the_own_name_of_a_tool_is_nobodys_until_it_is_known_to_be_one_upstreams() -> None:
    async with cold("one", "other") as (servers, relay):
        for server in servers.values():
            server.tool("show", _meta=PAGE)
            server.tool("load")
        params = {"name": "load", "arguments": {}}
        answer, at_once = await asked_meanwhile(relay, Slow(servers["other"]), "tools/call", params)
        assert answer["error"]["message"] == "Unknown tool: load"
        assert not at_once


async def test_a_page_that_calls_by_own_names_has_nobody_listed_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with cold("one", "plain", upstreams={"plain": {"prefix": ""}}) as (servers, relay):
        servers["one"].tool("show", _meta=PAGE)
        servers["one"].tool("load")
        for _ in range(3):
            assert "result" in await relay.modern().call("load")
            await trio.sleep(10)
        assert len(servers["plain"].calls("tools/list")) == 1
