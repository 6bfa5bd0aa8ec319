"""A client polls for its answer where its upstream wants to be polled (SEP-1699)."""

from __future__ import annotations

import json

import pytest
from trio.testing import MockClock

from ...fakes.mcp_server import LEGACY
from ...fakes.relay import one
from ...upstream.http.test_resuming import ANSWER, Polling
from .test_taking_up import COUNT, older, rest


async def test_a_client_polls_where_its_upstream_wants_to_be_polled(autojump_clock: MockClock) -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("count")
        client = await relay.legacy()
        await client.tools()
        Polling(server, None, ANSWER)
        async with client.open("tools/call", COUNT) as ongoing:
            await ongoing.wait_ended()
            assert ongoing.messages() == []
            assert "retry: 500" in ongoing.body.decode()
            (last,) = set(ongoing.event_ids())
            again = await rest(client, last)
            assert again.ended
            if not again.messages():  # the upstream closed that one, too
                again = await rest(client, last)
            assert again.messages()[-1]["result"]["content"] == []
            await ongoing.done.wait()


@pytest.mark.parametrize("revision", ["2025-06-18", "none"])
async def test_a_client_that_cannot_poll_waits_where_it_asked(revision: str, autojump_clock: MockClock) -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("count")
        client = await older(relay, "2025-06-18")
        await client.tools()
        if revision == "none":
            client.session = None
        Polling(server, ANSWER)
        received = await client.request("tools/call", COUNT)
        assert json.loads(received.body)["result"]["content"] == []
