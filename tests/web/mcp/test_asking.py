"""A call that needs the person's own account: what each client is told, and how the call goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.web.mcp.asking import PATIENCE, URL_ELICITATION_REQUIRED

from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Json
from ...fakes.relay import Client, LegacyClient, ModernClient, Relay, client_of, open_relay, text_of

LINK = "https://mcp.example.com/connect/up"
URLS: Json = {f"{META}clientCapabilities": {"elicitation": {"form": {}, "url": {}}}}


@asynccontextmanager
async def guarded(revision: str = MODERN, **more: Any) -> AsyncIterator[tuple[FakeServer, Relay]]:
    """An upstream, ``up``, that wants a token for everything, beside a public one."""
    async with trio.open_nursery() as nursery:
        server, public = FakeServer(nursery, revision, name="up"), FakeServer(nursery, name="public")
        server.accounts = {"a1": None, "b1": ["run"]}
        for tool in ("run", "secret"):
            server.tool(tool)
        public.tool("free")
        async with open_relay(
            {"up": server, "public": public}, upstreams={"up": {"auth_type": "user", **more}}
        ) as relay:
            yield server, relay
        nursery.cancel_scope.cancel()


async def legacy(relay: Relay, capabilities: Json) -> LegacyClient:
    client = LegacyClient(relay, "alice")
    params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "0"}}
    client.session = (await client.request("initialize", params)).headers["mcp-session-id"]
    return client


async def call(client: Client, **params: Any) -> Json:
    received = await client.request("tools/call", {"name": "up__run", "arguments": {"x": 1}, **params})
    answer: Json = received.messages()[-1]
    return answer


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_a_client_that_cannot_show_a_link_gets_it_in_words(client_revision: str, upstream_revision: str) -> None:
    async with guarded(upstream_revision) as (server, relay):
        client = await client_of(relay, client_revision)
        text = text_of(await call(client))
        assert LINK in text
        assert "Nothing was run" in text
        assert "asks for a login" in text
        assert not server.calls()


async def test_a_modern_client_is_asked_and_its_retry_completes_the_call() -> None:
    async with guarded() as (server, relay):
        client = relay.modern(meta=URLS)
        asked = (await call(client))["result"]
        assert asked["resultType"] == "input_required"
        (question,) = asked["inputRequests"].values()
        assert question["method"] == "elicitation/create"
        assert (question["params"]["mode"], question["params"]["url"]) == ("url", LINK)
        relay.connections.connect("alice", "up", "a1")
        answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
        done = (await call(client, requestState=asked["requestState"], inputResponses=answers))["result"]
        assert json.loads(done["content"][0]["text"]) == {"x": 1}
        (sent,) = server.calls()
        assert sent.headers["authorization"] == "Bearer a1"
        assert "requestState" not in sent.params
        assert "inputResponses" not in sent.params


async def test_a_retry_waits_for_the_person_and_asks_again_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with guarded() as (_server, relay):
        client = relay.modern(meta=URLS)
        asked = (await call(client))["result"]
        answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
        started = trio.current_time()
        again = (await call(client, requestState=asked["requestState"], inputResponses=answers))["result"]
        assert again["resultType"] == "input_required"
        assert trio.current_time() - started == pytest.approx(PATIENCE)
        async with trio.open_nursery() as nursery:

            async def connect() -> None:
                await trio.sleep(10)
                relay.connections.connect("alice", "up", "a1")

            nursery.start_soon(connect)
            done = (await call(client, requestState=again["requestState"], inputResponses=answers))["result"]
        assert done["resultType"] == "complete"
        assert trio.current_time() - started == pytest.approx(PATIENCE + 10)


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_says_no_is_not_asked_again(action: str) -> None:
    async with guarded() as (server, relay):
        client = relay.modern(meta=URLS)
        asked = (await call(client))["result"]
        answers = {key: {"action": action} for key in asked["inputRequests"]}
        text = text_of(await call(client, requestState=asked["requestState"], inputResponses=answers))
        assert "did not want to connect up" in text
        assert not server.calls()


@pytest.mark.requirement("MR1")
@pytest.mark.parametrize("change", ["person", "arguments", "mutated", "invented"])
async def test_a_state_of_another_person_or_request_means_nothing(
    change: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with guarded() as (server, relay):
        asked = (await call(relay.modern(meta=URLS)))["result"]
        answers = {key: {"action": "decline"} for key in asked["inputRequests"]}
        state, person, arguments = asked["requestState"], "alice", {"x": 1}
        match change:
            case "person":
                person = "bob"
            case "arguments":
                arguments = {"x": 2}
            case "mutated":
                state = state[:-3] + ("AAA" if state[-3:] != "AAA" else "BBB")
            case _:
                state = "mcpa_rs_" + "x" * 40
        client = relay.modern(person, meta=URLS)
        received = await client.request(
            "tools/call",
            {"name": "up__run", "arguments": arguments, "requestState": state, "inputResponses": answers},
        )
        # A decline that counted would have been a tool error: the question is simply asked of whoever asks now.
        assert received.messages()[-1]["result"]["resultType"] == "input_required"
        assert not server.calls()


async def test_an_older_client_that_shows_links_gets_the_error_of_its_revision() -> None:
    async with guarded() as (_server, relay):
        client = await legacy(relay, {"elicitation": {"url": {}}})
        error = (await call(client))["error"]
        assert error["code"] == URL_ELICITATION_REQUIRED
        (elicitation,) = error["data"]["elicitations"]
        assert (elicitation["mode"], elicitation["url"]) == ("url", LINK)
        assert elicitation["elicitationId"]
        assert elicitation["message"]
        relay.connections.connect("alice", "up", "a1")
        assert "result" in await call(client)


async def test_an_upstreams_own_state_passes_untouched_and_survives_our_question() -> None:
    async with guarded() as (server, relay):
        relay.connections.connect("alice", "up", "gone")  # a token that the upstream no longer accepts
        client = relay.modern(meta=URLS)
        theirs = {"requestState": "theirs", "inputResponses": {"q": {"action": "accept", "content": {"n": 1}}}}
        asked = (await call(client, **theirs))["result"]
        assert asked["resultType"] == "input_required"
        relay.connections.connect("alice", "up", "a1")
        answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
        await call(client, requestState=asked["requestState"], inputResponses=answers)
        (sent,) = server.calls()
        assert {key: sent.params[key] for key in theirs} == theirs


@pytest.mark.requirement("CA1")
async def test_each_person_sees_what_their_own_account_shows(autojump_clock: trio.testing.MockClock) -> None:
    async with guarded() as (_server, relay):

        async def names(person: str) -> list[str]:
            return [n for n in await relay.modern(person).names() if n.startswith(("up__", "public__")) or "up" in n]

        nobody = ["public__free", "gateway__up__auth"]
        assert await names("carol") == nobody
        relay.connections.connect("alice", "up", "a1")
        relay.connections.connect("bob", "up", "b1")
        for _ in range(3):
            assert await names("alice") == ["up__run", "up__secret", "public__free"]
            assert await names("bob") == ["up__run", "public__free"]
            assert await names("carol") == nobody
            await trio.sleep(100)
        assert (await relay.modern("bob").call("up__secret"))["error"]["message"] == "Unknown tool: up__secret"
        del relay.connections.tokens["alice", "up"]
        assert await names("alice") == nobody
        assert await names("bob") == ["up__run", "public__free"]


async def test_an_upstream_that_shows_its_tools_to_everybody_asks_at_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with guarded() as (server, relay):
        server.public = {"server/discover", "tools/list"}
        client = relay.modern()
        assert "up__run" in await client.names()
        assert LINK in text_of(await call(client))
        relay.connections.connect("alice", "up", "a1")
        assert "result" in await call(client)
        # For one person it says nothing about another (A24): the list of those without an account is as it was.
        assert "up__run" in await relay.modern("bob").names()


async def test_status_and_the_auth_tools_name_the_link_and_no_token() -> None:
    async with guarded() as (_server, relay):
        relay.connections.connect("bob", "up", "b1")
        for name, arguments in (
            ("gateway__auth", {"server": "up"}),
            ("gateway__up__auth", {}),
            ("gateway__status", {}),
        ):
            client: ModernClient = relay.modern()
            answer = await client.call(name, arguments)
            status = json.loads(answer["result"]["content"][0]["text"])
            assert status["dashboardUrl"] == "https://mcp.example.com/connections"
            assert status["servers"][0]["name"] == "up"
            assert status["servers"][0]["authenticated"] is False
            assert status["servers"][0]["authUrl"] == LINK
            assert "the person opens in a browser" in status["next"]
            theirs = json.loads((await relay.modern("bob").call(name, arguments))["result"]["content"][0]["text"])
            assert theirs["servers"][0]["authenticated"] is True
            assert "authUrl" not in theirs["servers"][0]
            assert "next" not in theirs
            for text in (json.dumps(answer), json.dumps(theirs)):
                assert "alice" not in text
                assert "b1" not in text
