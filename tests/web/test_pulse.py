"""A client that waits long hears that we are still there."""

from __future__ import annotations

import pytest
import trio

from aggregator.web.pulse import BEAT, SILENCE

from ..fakes.mcp_server import LEGACY, MODERN, Json, Speaking
from ..fakes.relay import client_of, in_every_cell, one


async def slow(speaking: Speaking) -> Json:
    await trio.sleep(50)
    return {"content": []}


@in_every_cell
async def test_a_long_call_is_kept_alive_by_comments_and_ends_as_a_stream(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run", slow)
        client = await client_of(relay, client_revision)
        received = await client.request("tools/call", {"name": "up__run", "arguments": {}})
        assert received.is_stream
        comments = received.body.count(b": keep-alive\n\n")
        begins = (
            0 if client_revision == MODERN else 7
        )  # older ones' streams begin then, see `web/mcp/resumable_reply.py`
        assert comments == (50 - begins) // (SILENCE + BEAT)
        assert received.messages()[-1]["result"]["content"] == []


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_short_call_stays_one_message(revision: str, autojump_clock: trio.testing.MockClock) -> None:
    async with one(revision) as (server, relay):
        server.tool("run")
        received = await relay.modern().request("tools/call", {"name": "up__run", "arguments": {}})
        assert not received.is_stream
