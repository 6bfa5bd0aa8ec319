"""Progress of one request, whose upstream is asked anew with each answer and counts from the beginning."""

from __future__ import annotations

import trio

from ...fakes.mcp_server import MODERN, Json, Speaking
from ...fakes.relay import one
from .test_conversing import FORM, ZOE, answer_live, legacy_client, zoe


async def test_progress_only_increases_however_often_the_upstream_is_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """2025-11-25, progress: "The progress value MUST increase with each notification"."""

    async def counts(speaking: Speaking) -> Json:
        answered = "inputResponses" in speaking.incoming.params
        for number in (1, 2, 3) if answered else (1, 2):
            await speaking.progress(number)
        if answered:
            assert speaking.incoming.params["inputResponses"] == {"k": ZOE}
            return {"content": [{"type": "text", "text": "counted"}]}
        question = {"method": "elicitation/create", "params": FORM}
        return {"resultType": "input_required", "inputRequests": {"k": question}}

    async with one(MODERN) as (server, relay):
        server.tool("counts", counts)
        client = await legacy_client(relay)
        client.meta["progressToken"] = "t"
        messages = await answer_live(client, {"name": "up__counts", "arguments": {}}, zoe)
        told = [one["params"] for one in messages if one.get("method") == "notifications/progress"]
        assert [(one["progressToken"], one["progress"]) for one in told] == [("t", 1), ("t", 2), ("t", 3)]
        assert messages[-1]["result"]["content"][0]["text"] == "counted"
