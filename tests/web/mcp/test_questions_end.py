"""What becomes of questions, and of what is kept to ask them, when the session of a client ends."""

from __future__ import annotations

import pytest
import trio

from aggregator.upstream.http.sessions import LOOK_AGAIN

from ...fakes.mcp_server import LEGACY
from .test_conversing import CALL, FORM, asks, legacy_client
from .test_elsewhere import WITHIN, pair, question_in, twin


async def test_a_question_ends_with_a_session_that_is_ended_elsewhere(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(LEGACY, input_timeout=300.0) as (server, one, two):
        asks(server, ("elicitation/create", FORM))
        client = await legacy_client(one)
        elsewhere = twin(client, two)
        async with client.open("tools/call", CALL) as ongoing:
            await question_in(ongoing)
            assert (await elsewhere.post(b"", elsewhere.headers("", {}), method="DELETE")).status == 204
            with trio.fail_after(WITHIN):
                *_, answer = [message async for message in ongoing.events()]
        assert answer["result"]["content"][0]["text"] == "[None]"
        assert len(one.questions) == 0


@pytest.mark.parametrize("here", [True, False])
async def test_an_older_upstream_soon_keeps_nothing_of_a_client_whose_session_has_ended(
    here: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair(LEGACY) as (server, one, two):
        one.nursery.start_soon(one.upstreams["up"].reap)
        server.tool("t")
        leaving, staying = [await legacy_client(one) for _ in range(2)]
        for client in (leaving, staying):
            assert (await client.call("up__t"))["result"]["content"]
        sessions = [call.headers["mcp-session-id"] for call in server.calls("tools/call")]
        assert len(set(sessions)) == 2
        ended_at = leaving if here else twin(leaving, two)
        assert (await ended_at.post(b"", ended_at.headers("", {}), method="DELETE")).status == 204
        await trio.sleep(LOOK_AGAIN + WITHIN)
        assert [call.headers["mcp-session-id"] for call in server.calls("DELETE")] == [sessions[0]]
        assert (await staying.call("up__t"))["result"]["content"]
        assert server.calls("tools/call")[-1].headers["mcp-session-id"] == sessions[1]
