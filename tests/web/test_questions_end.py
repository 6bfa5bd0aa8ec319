"""A question to a client whose session ends at another instance."""

from __future__ import annotations

import trio

from ..fakes.mcp_server import LEGACY
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
