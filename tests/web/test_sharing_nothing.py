"""What is remembered of an answer, and for whom; and that a schema's references lead nowhere."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ..fakes.mcp_server import MODERN, Speaking
from ..fakes.relay import one

Json = dict[str, Any]


@pytest.mark.requirement("CA1")
async def test_no_answer_to_a_call_is_remembered_for_anybody() -> None:
    """Whatever the upstream says of its cacheability, and with or without answers to its questions."""
    count = 0

    async def run(speaking: Speaking) -> Json:
        nonlocal count
        count += 1
        await trio.lowlevel.checkpoint()
        content = [{"type": "text", "text": str(count)}]
        return {"resultType": "complete", "content": content, "cacheScope": "public", "ttlMs": 3_600_000}

    async with one(MODERN) as (server, relay):
        server.tool("run", run)
        told = []
        for more in ({}, {"inputResponses": {"q": {"action": "accept"}}, "requestState": "opaque"}):
            for person in ("alice", "alice", "bob"):
                answer = await relay.modern(person).call("up__run", {"same": 1}, **more)
                told.append(answer["result"]["content"][0]["text"])
        assert told == ["1", "2", "3", "4", "5", "6"]
        assert len(server.calls()) == 6


class NoSockets(trio.abc.SocketFactory):
    def socket(self, *args: Any, **more: Any) -> Any:
        raise AssertionError("somebody opened a connection")


@pytest.mark.requirement("JS1")
async def test_no_reference_of_a_schema_is_ever_fetched() -> None:
    schema = {
        "type": "object",
        "$schema": "http://127.0.0.1:9/meta",
        "$ref": "http://127.0.0.1:9/whole",
        "properties": {"a": {"$ref": "http://169.254.169.254/latest"}, "b": {"$dynamicRef": "file:///etc/passwd"}},
        "allOf": [{"$ref": "#"}],
    }
    trio.socket.set_custom_socket_factory(NoSockets())
    async with one(MODERN) as (server, relay):
        server.tool("odd", inputSchema=schema, outputSchema=schema)
        client = relay.modern()
        listed = {tool["name"]: tool for tool in await client.tools()}
        assert (listed["up__odd"]["inputSchema"], listed["up__odd"]["outputSchema"]) == (schema, schema)
        assert (await client.call("up__odd", {"a": 1}))["result"]["isError"] is False
