"""Resources, prompts and completion through the relay: what the upstream gets, and what the client is given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.config.model import Limits
from aggregator.upstream.listings import DEFAULT_TTL

from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Incoming, Speaking, ToolFailure
from ...fakes.relay import Client, Relay, client_of, in_every_cell, one, open_relay, text_of

Json = dict[str, Any]

NOT_FOUND = {MODERN: -32602, LEGACY: -32002}


def stock(server: FakeServer, *uris: str, templates: tuple[str, ...] = (), prompts: tuple[str, ...] = ()) -> None:
    """Give `server` resources that say whose they are, templates and prompts."""
    server.capabilities = {"tools": {}, "resources": {}, "prompts": {}, "completions": {}}

    def read(incoming: Incoming) -> Json:
        uri = incoming.params["uri"]
        if uri in uris or "/made/" in uri:
            return {"contents": [{"uri": uri, "text": f"{uri} of {server.name}", "new": 1}], "kept": 2}
        raise ToolFailure(
            {"code": NOT_FOUND[server.revision], "message": "Resource not found", "data": {"uri": uri, "more": 1}},
            400 if server.revision == MODERN else 200,
        )

    def get(incoming: Incoming) -> Json:
        link = {"type": "resource_link", "uri": uris[0] if uris else "x://none", "name": "l"}
        return {"messages": [{"role": "user", "content": link}], "got": incoming.params["name"]}

    server.results |= {
        "resources/list": lambda _: {"resources": [{"uri": uri, "name": uri, "new": 1} for uri in uris]},
        "resources/templates/list": lambda _: {
            "resourceTemplates": [{"uriTemplate": text, "name": "t"} for text in templates]
        },
        "resources/read": read,
        "prompts/list": lambda _: {"prompts": [{"name": name, "arguments": []} for name in prompts]},
        "prompts/get": get,
        "completion/complete": lambda incoming: {
            "completion": {"values": [json.dumps(incoming.params["ref"], sort_keys=True)], "hasMore": False}
        },
    }


@asynccontextmanager
async def two(first: str, second: str, **more: Any) -> AsyncIterator[tuple[FakeServer, FakeServer, Relay]]:
    async with trio.open_nursery() as nursery:
        one, other = FakeServer(nursery, first, name="one"), FakeServer(nursery, second, name="other")
        async with open_relay({"one": one, "other": other}, **more) as relay:
            yield one, other, relay
        nursery.cancel_scope.cancel()


async def result_of(client: Client, method: str, params: Json | None = None) -> Json:
    answer = (await client.request(method, params)).messages()[-1]
    assert "error" not in answer, answer
    result: Json = answer["result"]
    return result


async def error_of(client: Client, method: str, params: Json | None = None) -> Json:
    answer = (await client.request(method, params)).messages()[-1]
    error: Json = answer["error"]
    return error


@pytest.mark.requirement("CA2")
@in_every_cell
async def test_a_resource_is_read_as_it_came(client_revision: str, upstream_revision: str) -> None:
    async with one(upstream_revision) as (server, relay):
        stock(server, "x://1")
        client = await client_of(relay, client_revision)
        listed = await result_of(client, "resources/list")
        assert [(item["uri"], item["name"], item["new"]) for item in listed["resources"]] == [("x://1", "x://1", 1)]
        result = await result_of(client, "resources/read", {"uri": "x://1", "extra": 3})
        assert result["contents"] == [{"uri": "x://1", "text": "x://1 of up", "new": 1}]
        assert result["kept"] == 2
        (sent,) = server.calls("resources/read")
        assert (sent.params["uri"], sent.params["extra"]) == ("x://1", 3)
        if client_revision == MODERN:
            assert result["resultType"] == "complete"
            assert result["ttlMs"] == (60_000 if upstream_revision == MODERN else 0), "an older one names none"
            assert result["cacheScope"] == "private", "it was read with this person's rights"
            assert result["_meta"][f"{META}serverInfo"]["name"] == "mcp-aggregator"
        else:
            assert not {"resultType", "ttlMs", "cacheScope", "_meta"} & result.keys()


@in_every_cell
async def test_what_is_not_there_is_said_in_the_clients_code(client_revision: str, upstream_revision: str) -> None:
    async with one(upstream_revision) as (server, relay):
        stock(server, "x://1")
        client = await client_of(relay, client_revision)
        received = await client.request("resources/read", {"uri": "x://none"})
        error = received.messages()[-1]["error"]
        assert error["code"] == NOT_FOUND[client_revision]
        assert error["data"] == {"uri": "x://none", "more": 1}
        assert received.status == (400 if client_revision == MODERN else 200)


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_two_upstreams_with_one_uri_are_told_apart_everywhere(revision: str) -> None:
    async with two(MODERN, LEGACY) as (one, other, relay):
        for server in (one, other):
            stock(server, "ui://app", templates=("ui://made/{id}",), prompts=("p",))
            server.tool("show", _link_and_page, _meta={"ui": {"resourceUri": "ui://app"}})
        client = await client_of(relay, revision)
        shown = ["ui://app", "ui://other.gateway/app"]
        assert [item["uri"] for item in (await result_of(client, "resources/list"))["resources"]] == shown
        for name, uri in zip(("one", "other"), shown, strict=True):
            (content,) = (await result_of(client, "resources/read", {"uri": uri}))["contents"]
            assert (content["uri"], content["text"]) == (uri, f"ui://app of {name}")
            tool = next(tool for tool in await client.tools() if tool["name"] == f"{name}__show")
            assert tool["_meta"]["ui"]["resourceUri"] == uri
            result = (await client.call(f"{name}__show"))["result"]
            assert result["content"][0]["uri"] == result["content"][1]["resource"]["uri"] == uri
            assert result["_meta"]["ui"]["resourceUri"] == uri
            message = (await result_of(client, "prompts/get", {"name": f"{name}__p"}))["messages"][0]
            assert message["content"]["uri"] == uri
            await client.call(f"{name}__show", {"open": [uri], "text": f"{uri} "})
            await result_of(client, "prompts/get", {"name": f"{name}__p", "arguments": {"open": uri}})
        for server, uri in zip((one, other), shown, strict=True):
            told = [call.params["arguments"] for call in (server.calls()[-1], server.calls("prompts/get")[-1])]
            assert told == [{"open": ["ui://app"], "text": f"{uri} "}, {"open": "ui://app"}]
        await client.call("one__show", {"open": shown[1]})
        assert one.calls()[-1].params["arguments"] == {"open": shown[1]}, "another's URI means nothing to it"
        templates = (await result_of(client, "resources/templates/list"))["resourceTemplates"]
        heads = [item["uriTemplate"] for item in templates]
        assert heads == ["ui://made/{id}", "ui://other.gateway/made/{id}"]
        made = heads[1].replace("{id}", "/made/7")
        (content,) = (await result_of(client, "resources/read", {"uri": made}))["contents"]
        assert content == {"uri": made, "text": "ui://made//made/7 of other", "new": 1}


async def _link_and_page(speaking: Speaking) -> Json:
    link = {"type": "resource_link", "uri": "ui://app", "name": "app"}
    embedded = {"type": "resource", "resource": {"uri": "ui://app", "text": "x"}}
    return {"content": [link, embedded], "isError": False, "_meta": {"ui": {"resourceUri": "ui://app"}}}


async def test_an_error_about_a_namespaced_resource_names_it_as_the_client_does() -> None:
    async with two(MODERN, MODERN) as (one, other, relay):
        stock(one, "x://1")
        stock(other, "x://2")
        error = await error_of(relay.modern(), "resources/read", {"uri": "x://other.gateway/none"})
        assert error["data"]["uri"] == "x://other.gateway/none"
        assert other.calls("resources/read")[0].params["uri"] == "x://none"


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_uri_that_leads_nowhere_is_not_asked_about_and_says_who_was_not_known(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with two(MODERN, MODERN) as (one, other, relay):
        stock(one, "x://1")
        other.dead = "cannot connect"
        client = await client_of(relay, revision)
        await client.tools()
        error = await error_of(client, "resources/read", {"uri": "y://1"})
        assert error["code"] == NOT_FOUND[revision] or one.calls("resources/read")
        error = await error_of(client, "resources/read", {"uri": "y://other.gateway/1"})
        assert error["code"] == -32603
        assert error["message"].startswith("Error reading y://other.gateway/1: upstream other: cannot connect")


async def test_an_unknown_uri_names_the_upstreams_that_could_not_be_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        servers = {name: FakeServer(nursery, name=name) for name in ("one", "two", "down")}
        stock(servers["one"], "x://1")
        stock(servers["two"], "x://2")
        servers["down"].dead = "cannot connect"
        async with open_relay(servers) as relay:
            error = await error_of(relay.modern(), "resources/read", {"uri": "y://1"})
            assert error["code"] == -32602
            assert error["message"] == "Resource not found: y://1; not known yet: down (cannot connect)"
            assert error["data"] == {"uri": "y://1"}
            ref = {"type": "ref/prompt", "name": "down__p"}
            params = {"ref": ref, "argument": {"name": "a", "value": ""}}
            error = await error_of(relay.modern(), "completion/complete", params)
            assert error["message"].startswith(
                "Error completing down__p: upstream down: cannot connect; its prompts are"
            )
        nursery.cancel_scope.cancel()


async def test_a_resource_of_an_upstream_that_died_is_an_error_with_its_name_and_cause() -> None:
    async with one(MODERN) as (server, relay):
        stock(server, "x://1", prompts=("p",))
        client = relay.modern()
        await client.tools()
        server.dead = "cannot connect (refused)"
        for method, params, words in (
            ("resources/read", {"uri": "x://1"}, "Error reading x://1"),
            ("prompts/get", {"name": "up__p"}, "Error getting up__p"),
            (
                "completion/complete",
                {"ref": {"type": "ref/prompt", "name": "up__p"}, "argument": {"name": "a", "value": ""}},
                "Error completing up__p",
            ),
        ):
            error = await error_of(client, method, params)
            assert error["code"] == -32603
            assert error["message"].startswith(f"{words}: upstream up: cannot connect (refused); nothing was run")


@in_every_cell
async def test_a_prompt_is_got_under_its_own_name(client_revision: str, upstream_revision: str) -> None:
    async with one(upstream_revision) as (server, relay):
        stock(server, "x://1", prompts=("p",))
        client = await client_of(relay, client_revision)
        (prompt,) = (await result_of(client, "prompts/list"))["prompts"]
        assert (prompt["name"], prompt["arguments"]) == ("up__p", [])
        result = await result_of(client, "prompts/get", {"name": "up__p", "arguments": {"a": "b"}})
        assert result["got"] == "p"
        assert ("ttlMs" in result) == (client_revision == upstream_revision == MODERN), "nobody adds what is not asked"
        assert server.calls("prompts/get")[0].params["arguments"] == {"a": "b"}
        error = await error_of(client, "prompts/get", {"name": "p"})
        assert (error["code"], error["message"]) == (-32602, "Unknown prompt: p")


@in_every_cell
async def test_completion_goes_to_whoever_has_the_prompt_or_template(
    client_revision: str, upstream_revision: str
) -> None:
    async with two(MODERN, upstream_revision) as (one, other, relay):
        for server in (one, other):
            stock(server, templates=("x://made/{id}",), prompts=("p",))
        client = await client_of(relay, client_revision)
        argument = {"name": "id", "value": "1"}
        for ref, sent in (
            ({"type": "ref/prompt", "name": "other__p", "title": "P"}, {"name": "p", "title": "P"}),
            ({"type": "ref/resource", "uri": "x://other.gateway/made/{id}"}, {"uri": "x://made/{id}"}),
            ({"type": "ref/resource", "uri": "x://other.gateway/made/7"}, {"uri": "x://made/7"}),
        ):
            result = await result_of(client, "completion/complete", {"ref": ref, "argument": argument})
            assert json.loads(result["completion"]["values"][0]) == {**sent, "type": ref["type"]}
        assert not one.calls("completion/complete")
        assert other.calls("completion/complete")[0].params["argument"] == argument


async def test_an_upstream_without_completion_completes_to_nothing() -> None:
    async with one(MODERN) as (server, relay):
        stock(server, prompts=("p",))
        del server.capabilities["completions"]
        params = {"ref": {"type": "ref/prompt", "name": "up__p"}, "argument": {"name": "a", "value": ""}}
        result = await result_of(relay.modern(), "completion/complete", params)
        assert result["completion"] == {"values": [], "total": 0, "hasMore": False}
        assert not server.calls("completion/complete")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {"uri": 7}),
        ("prompts/get", {"name": 7}),
        ("prompts/get", {"name": "up__p", "arguments": []}),
        ("completion/complete", {}),
        ("completion/complete", {"ref": {"type": "ref/prompt"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": "ref/tool", "name": "x"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "none"}, "argument": {}}),
        ("resources/list", {"cursor": 7}),
        ("prompts/list", {"cursor": "dDEwMDA="}),
    ],
)
async def test_parameters_of_the_wrong_kind_are_refused(method: str, params: Json) -> None:
    async with one(MODERN) as (server, relay):
        stock(server, "x://1", prompts=("p",))
        assert (await error_of(await relay.legacy(), method, params))["code"] == -32602


async def test_a_slow_resource_is_given_up_at_the_timeout(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN, upstreams={"up": {"tool_timeout": 3.0}}) as (server, relay):
        stock(server, "x://1")
        client = relay.modern()
        await client.tools()
        server.hung = True
        error = await error_of(client, "resources/read", {"uri": "x://1"})
        assert "no answer within toolTimeout (3 s)" in error["message"]
        assert relay.is_idle()


async def test_reading_counts_as_a_call_of_the_person() -> None:
    async with one(MODERN, limits=Limits(calls_per_person=0)) as (server, relay):
        stock(server, "x://1")
        error = await error_of(relay.modern(), "resources/read", {"uri": "x://1"})
        assert "calls running already" in error["message"]


async def test_capabilities_are_those_of_the_upstreams_that_were_met() -> None:
    async with one(MODERN) as (server, relay):
        stock(server, "x://1")
        del server.capabilities["completions"]
        client = relay.modern()
        await client.tools()
        discovered = await result_of(client, "server/discover")
        lists = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}
        assert discovered["capabilities"] == {**lists, "logging": {}}
        legacy = await relay.legacy()
        assert (await legacy.initialize())["capabilities"] == discovered["capabilities"]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_an_upstreams_own_instructions_are_passed_on_only_where_that_is_configured(
    wanted: bool, revision: str
) -> None:
    async with one(revision, upstreams={"up": {"instructions": wanted, "description": "Cats."}}) as (server, relay):
        server.instructions = "Feed them."
        client = relay.modern()
        await client.tools()
        text = (await result_of(client, "server/discover"))["instructions"]
        assert "- up__*: Cats." in text
        assert ("up says of itself: Feed them." in text) is wanted


async def test_a_page_of_an_app_calls_its_servers_tool_by_its_own_name() -> None:
    async with two(MODERN, MODERN) as (one, other, relay):
        one.tool("show", _meta={"ui": {"resourceUri": "ui://app"}})
        one.tool("load")
        other.tool("load")
        other.tool("save")
        client = relay.modern()
        await client.tools()
        assert (await client.call("load"))["result"]["isError"] is False
        assert [call.params["name"] for call in one.calls()] == ["load"]
        assert not other.calls()
        assert (await client.call("save"))["error"]["message"] == "Unknown tool: save"


async def test_a_tool_that_only_pages_may_call_is_shown_to_clients_that_show_pages() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("show", _meta={"ui": {"resourceUri": "ui://app"}})
        server.tool("load", _meta={"ui": {"visibility": ["app"]}})
        plain = relay.modern()
        assert "up__load" not in await plain.names()
        able: Json = {f"{META}clientCapabilities": {"extensions": {"io.modelcontextprotocol/ui": {}}}}
        assert {"up__show", "up__load"} <= set(await relay.modern(meta=able).names())
        told = server.calls("tools/list")[0].meta[f"{META}clientCapabilities"]["extensions"]
        assert "io.modelcontextprotocol/ui" in told, "or it would not show them at all"
        assert (await plain.call("load"))["result"]["isError"] is False


async def test_a_list_that_cannot_be_had_costs_only_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN) as (server, relay):
        stock(server, "x://1", prompts=("p",))
        server.tool("t")

        def broken(incoming: Incoming) -> Json:
            raise ToolFailure({"code": -32603, "message": "no"})

        server.results["prompts/list"] = broken
        client = relay.modern()
        assert "up__t" in await client.names()
        assert (await result_of(client, "prompts/list"))["prompts"] == []
        assert len((await result_of(client, "resources/list"))["resources"]) == 1


async def test_a_list_that_can_no_longer_be_had_is_shown_as_it_was_and_marked(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with one(MODERN) as (server, relay):
        stock(server, "x://1", prompts=("p",))
        server.tool("t")
        client = relay.modern()

        async def row() -> Json:
            told = (await client.call("gateway__status"))["result"]["content"][0]["text"]
            (found,) = json.loads(told)["servers"]
            return {key: found[key] for key in ("state", "stale", "leftOut") if key in found}

        assert await row() == {"state": "connected"}
        good = server.results["prompts/list"]

        def broken(incoming: Incoming) -> Json:
            raise ToolFailure({"code": -32603, "message": "no"})

        server.results["prompts/list"] = broken
        for _ in range(3):
            await trio.sleep(DEFAULT_TTL)
            assert [prompt["name"] for prompt in (await result_of(client, "prompts/list"))["prompts"]] == ["up__p"]
            reason = "its prompts: refused prompts/list: no (-32603)"
            assert await row() == {"state": "connected", "stale": True, "leftOut": [reason]}
        assert len([record for record in caplog.records if "could not be listed" in record.message]) == 1
        server.results["prompts/list"] = good
        await trio.sleep(DEFAULT_TTL)
        await client.names()
        assert await row() == {"state": "connected"}


async def test_a_person_who_has_to_connect_is_told_so_in_the_form_of_the_method() -> None:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, name="up")
        stock(server, "x://1", prompts=("p",))
        server.tool("t")
        server.accounts = {"good": None}
        server.public = {"server/discover", "tools/list", "resources/list", "resources/templates/list", "prompts/list"}
        async with open_relay({"up": server}, upstreams={"up": {"auth_type": "user"}}) as relay:
            client = relay.modern()
            error = await error_of(client, "resources/read", {"uri": "x://1"})
            assert error["code"] == -32603
            assert "Please visit https://mcp.example.com/connect/up" in error["message"]
            assert "connect/up" in text_of(await client.call("up__t"))
            asking = relay.modern(meta={f"{META}clientCapabilities": {"elicitation": {"url": {}}}})
            asked = await result_of(asking, "resources/read", {"uri": "x://1"})
            assert asked["resultType"] == "input_required"
            relay.connections.connect("alice", "up", "good")
            retry = {"uri": "x://1", "requestState": asked["requestState"]}
            assert (await result_of(asking, "resources/read", retry))["contents"][0]["text"] == "x://1 of up"
        nursery.cancel_scope.cancel()
