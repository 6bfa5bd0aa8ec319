"""Many people at once over one upstream: nobody hears what was said to another."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from ...fakes.mcp_server import LEGACY, MODERN, Speaking
from ...fakes.relay import Client, one

Json = dict[str, Any]

CALLS = 1000
PEOPLE = 40


@pytest.mark.requirement("AF6", "AF16")
@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_thousand_interleaved_calls_with_the_same_ids_never_cross(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """F16: equal JSON-RPC ids and progress tokens, random delays, a tenth of the clients leaves early."""
    chance = random.Random(20260728)

    async def run(speaking: Speaking) -> Json:
        mine = speaking.arguments["canary"]
        for _ in range(chance.randrange(3)):
            await trio.sleep(chance.uniform(0, 2))
            await speaking.progress(1, message=mine)
            await speaking.notify("notifications/progress", progressToken=7, progress=1, message=f"forged by {mine}")
        await trio.sleep(chance.uniform(0, 5))
        owner = speaking.incoming.headers.get("mcp-session-id")
        return {"content": [{"type": "text", "text": mine}], "isError": False, "session": owner}

    answered = left = 0
    owners: dict[str, set[str]] = {}

    async def call(client: Client, number: int) -> None:
        nonlocal answered, left
        canary = f"{client.person}/{number}"
        await trio.sleep(chance.uniform(0, 20))
        async with client.open("tools/call", {"name": "up__run", "arguments": {"canary": canary}}, id=7) as ongoing:
            if chance.random() < 0.1:
                left += 1
                await trio.sleep(chance.uniform(0, 4))
                ongoing.disconnect()
                await ongoing.done.wait()
                return
            await ongoing.done.wait()
        *notices, answer = ongoing.messages()
        assert answer["id"] == 7
        assert answer["result"]["content"] == [{"type": "text", "text": canary}]
        for notice in notices:
            assert notice["params"]["progressToken"] == 7
            assert notice["params"]["message"] == canary
        if answer["result"]["session"] is not None:
            owners.setdefault(answer["result"]["session"], set()).add(client.person)
        answered += 1

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        meta = {"progressToken": 7}
        clients: list[Client] = []
        for i in range(PEOPLE):
            person = f"p{i}"
            modern = i % 2 == 0
            clients.append(relay.modern(person, meta=meta) if modern else await relay.legacy(person, meta=meta))
        async with trio.open_nursery() as nursery:
            for number in range(CALLS):
                # Equal ids within one session, too: only a cancellation looks an id up.
                nursery.start_soon(call, clients[number % PEOPLE], number)
        await trio.sleep(30)
        assert answered + left == CALLS
        assert left > 50
        assert all(len(people) == 1 for people in owners.values()), "a session serves one person"
        assert relay.is_idle()
        assert not server.open
        assert not server.running
        assert len(server.sessions) <= PEOPLE + 1


async def test_a_persons_upstream_session_is_never_lent() -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("run")
        for person in ("alice", "bob", "alice", "carol", "bob"):
            await relay.modern(person).call("up__run")
        used = [call.headers["mcp-session-id"] for call in server.calls()]
        assert used[0] == used[2]
        assert used[1] == used[4]
        assert len(set(used)) == 3
        listed = {call.headers["mcp-session-id"] for call in server.calls("tools/list")}
        assert not listed & set(used), "listing happens on nobody's behalf"
