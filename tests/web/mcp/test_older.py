"""Clients and upstreams of the revisions before 2025-11-25, and batches, which only 2025-03-26 has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.protocol.jsonrpc import Json
from tests.fakes.asgi import Received
from tests.fakes.mcp_server import LEGACY, MODERN, Speaking
from tests.fakes.relay import Relay, one

OLDER = ["2025-06-18", "2025-03-26", "2024-11-05"]


async def post(relay: Relay, message: Any, *headers: tuple[str, str]) -> Received:
    sent = [
        ("authorization", "Bearer alice"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        *headers,
    ]
    return await relay.modern().post(json.dumps(message).encode(), sent)


def request(id: Any, method: str, **params: Any) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def words(answer: Json) -> str:
    text: str = answer["result"]["content"][0]["text"]
    return text


async def count(speaking: Speaking) -> Json:
    for step in (1, 2):
        await speaking.progress(step)
    return {"content": []}


ECHO = "{}"


@pytest.mark.parametrize("upstream", [MODERN, LEGACY])
@pytest.mark.parametrize("revision", OLDER)
async def test_an_older_client_gets_its_own_revision_and_every_tool(revision: str, upstream: str) -> None:
    async with one(upstream) as (server, relay):
        server.tool("run")
        begun = await post(relay, request(1, "initialize", protocolVersion=revision, capabilities={}))
        assert begun.json()["result"]["protocolVersion"] == revision
        session = ("mcp-session-id", begun.headers["mcp-session-id"])
        # 2025-06-18 brought the header; older clients have none to send.
        version = [("mcp-protocol-version", revision)] if revision == "2025-06-18" else []
        listed = await post(relay, request(2, "tools/list"), session, *version)
        assert "up__run" in [tool["name"] for tool in listed.json()["result"]["tools"]]
        called = await post(relay, request(3, "tools/call", name="up__run", arguments={}), session, *version)
        assert "resultType" not in called.json()["result"]
        assert words(called.json()) == ECHO


@pytest.mark.parametrize("revision", OLDER)
async def test_a_link_becomes_words_for_a_client_whose_revision_has_none(revision: str) -> None:
    async def linking(speaking: Speaking) -> Json:
        return {"content": [{"type": "resource_link", "uri": "x://1", "name": "one"}]}

    async with one(MODERN) as (server, relay):
        server.tool("run", linking)
        begun = await post(relay, request(1, "initialize", protocolVersion=revision, capabilities={}))
        session = ("mcp-session-id", begun.headers["mcp-session-id"])
        version = [("mcp-protocol-version", revision)] if revision == "2025-06-18" else []
        called = await post(relay, request(3, "tools/call", name="up__run", arguments={}), session, *version)
        (block,) = called.json()["result"]["content"]
        assert block["type"] == ("resource_link" if revision == "2025-06-18" else "text")
        assert "x://1" in json.dumps(block)


async def test_a_client_of_a_revision_nobody_knows_is_offered_ours() -> None:
    async with one(LEGACY) as (_, relay):
        begun = await post(relay, request(1, "initialize", protocolVersion="1999-01-01", capabilities={}))
        assert begun.json()["result"]["protocolVersion"] == LEGACY


async def test_a_batch_is_answered_together_and_in_order() -> None:
    """Requests, a notification and rubbish: each request has its answer, the notification none."""
    async with one(MODERN) as (server, relay):
        server.tool("run")
        batch = [
            request("a", "ping"),
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            request("b", "tools/call", name="up__run", arguments={}),
            17,
            request("c", "no/such"),
        ]
        answers = (await post(relay, batch)).json()
        assert [answer.get("id") for answer in answers] == ["a", "b", None, "c"]
        assert answers[0]["result"] == {}
        assert words(answers[1]) == ECHO
        assert answers[2]["error"]["code"] == -32600
        assert answers[3]["error"]["code"] == -32601
        assert relay.is_idle()


async def test_progress_of_a_batch_comes_before_its_answers() -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("count", count)
        calls = [
            request(id, "tools/call", name="up__count", arguments={}, _meta={"progressToken": f"t{id}"})
            for id in (1, 2)
        ]
        *notices, answers = (await post(relay, calls)).messages()
        assert sorted(notice["params"]["progressToken"] for notice in notices) == ["t1", "t1", "t2", "t2"]
        assert [answer["id"] for answer in answers] == [1, 2]


async def test_a_batch_of_notifications_is_only_accepted() -> None:
    async with one(LEGACY) as (_, relay):
        received = await post(relay, [{"jsonrpc": "2.0", "method": "notifications/initialized"}])
        assert (received.status, received.body) == (202, b"")


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        ([request(1, "ping")], [("mcp-protocol-version", "2025-06-18")]),
        ([request(1, "ping")], [("mcp-protocol-version", "2025-11-25")]),
        ([request(1, "ping")], [("mcp-protocol-version", "2026-07-28")]),
        ([], []),
        ([request(1, "initialize", protocolVersion="2025-03-26"), request(2, "ping")], []),
        ([request(id, "ping") for id in range(51)], []),
    ],
)
async def test_a_batch_that_the_revision_does_not_have_is_refused(
    message: list[Any], headers: list[tuple[str, str]]
) -> None:
    async with one(LEGACY) as (_, relay):
        received = await post(relay, message, *headers)
        assert received.status == 400
        assert received.json()["error"]["code"] == -32600


async def test_a_stateless_request_cannot_hide_in_a_batch() -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        hidden = relay.modern()
        body = b"[" + hidden.encode("tools/call", {"name": "up__run", "arguments": {}}, 1) + b"]"
        received = await hidden.post(body, [*relay.modern().headers("ping", {})[:3]])
        assert (received.status, received.json()["error"]["code"]) == (400, -32020)
        assert not server.calls()


async def test_a_session_of_somebody_else_ends_a_batch_as_a_whole() -> None:
    async with one(LEGACY) as (_, relay):
        bob = await relay.legacy("bob")
        assert bob.session is not None
        assert (await post(relay, [request(1, "ping")], ("mcp-session-id", bob.session))).status == 404
