"""A thousand clients at once, with the same ids, in the middle of questions and streams: nobody hears or answers what
was another's, and nothing is left of any."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import trio

from aggregator.upstream.streams import GRACE

from ...fakes.asgi import Ongoing
from ...fakes.mcp_server import LEGACY, META, MODERN, Speaking
from ...fakes.relay import Client, Json, Relay, one
from .test_conversing import CAPABILITIES, legacy_client
from .test_listening import listening, settle, updates

CLIENTS = 1000
LISTENERS = 120  # of several people each, some with streams


async def clients_of(relay: Relay, count: int) -> list[Client]:
    """Every other one is stateless, and every fifth shares its person with another."""
    made: list[Client] = []
    for number in range(count):
        person = f"p{number - number % 5 // 4}"
        if number % 2:
            made.append(await legacy_client(relay, person))
        else:
            made.append(relay.modern(person, meta={f"{META}clientCapabilities": CAPABILITIES}))
        made[-1].meta["progressToken"] = 7
    return made


class Crowd:
    """Calls that ask their own person something; whoever answers says what it was asked."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.answered = self.left = self.questions = 0

    async def run(self, speaking: Speaking) -> Json:
        """The tool of an older upstream."""
        mine = speaking.arguments["canary"]
        await trio.sleep(self.chance.uniform(0, 3))
        await speaking.progress(1, message=mine)
        if self.chance.random() < 0.5:
            answer = await speaking.ask("elicitation/create", message=mine, requestedSchema={})
            if "error" in answer:
                return {"content": []}  # whoever was asked has left
            assert answer["result"] == {"action": "accept", "content": {"of": mine}}
            await speaking.progress(2, message=mine)
        await trio.sleep(self.chance.uniform(0, 3))
        return {"content": [{"type": "text", "text": mine}]}

    async def rounds(self, speaking: Speaking) -> Json:
        """The same tool of a stateless one."""
        mine = speaking.arguments["canary"]
        params = speaking.incoming.params
        await trio.sleep(self.chance.uniform(0, 3))
        await speaking.progress(1, message=mine)
        if "requestState" in params:
            assert params["requestState"] == mine
            assert params["inputResponses"] == {"k": {"action": "accept", "content": {"of": mine}}}
        elif self.chance.random() < 0.5:
            question = {"method": "elicitation/create", "params": {"message": mine, "requestedSchema": {}}}
            return {"resultType": "input_required", "inputRequests": {"k": question}, "requestState": mine}
        return {"content": [{"type": "text", "text": mine}]}

    async def call(self, client: Client, number: int) -> None:
        canary = f"{client.person}/{number}"
        await trio.sleep(self.chance.uniform(0, 10))
        params: Json = {"name": "up__run", "arguments": {"canary": canary}}
        while True:
            leaves = self.chance.random() < 0.1
            async with client.open("tools/call", params, id=7) as ongoing, trio.open_nursery() as nursery:
                if leaves:
                    nursery.start_soon(self._leave, ongoing)
                async for message in ongoing.events() if not leaves else nothing():
                    if "method" in message:
                        assert message["params"]["message"] == canary
                    if "id" in message and "method" in message:
                        nursery.start_soon(self._answer, client, message["id"], canary)
            if leaves:
                self.left += 1
                return
            answer = ongoing.messages()[-1]
            assert answer["id"] == 7
            result = answer["result"]
            if result.get("resultType") != "input_required":
                break
            ((key, question),) = result["inputRequests"].items()
            assert question["params"]["message"] == canary
            self.questions += 1
            await trio.sleep(self.chance.uniform(0, 100))
            if self.chance.random() < 0.1:
                self.left += 1
                return  # and never comes back
            given = {key: {"action": "accept", "content": {"of": canary}}}
            params = {**params, "requestState": result["requestState"], "inputResponses": given}
        assert result["content"] == [{"type": "text", "text": canary}]
        self.answered += 1

    async def _leave(self, ongoing: Ongoing) -> None:
        await trio.sleep(self.chance.uniform(0, 5))
        ongoing.disconnect()

    async def _answer(self, client: Client, id: str, canary: str) -> None:
        self.questions += 1
        await trio.sleep(self.chance.uniform(0, 100))
        body = {"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"of": canary}}}
        assert (await client.post(json.dumps(body).encode(), client.headers("", {}))).status == 202


async def nothing() -> AsyncIterator[Json]:
    """Who leaves reads nothing."""
    none: tuple[Json, ...] = ()
    for message in none:
        yield message


@pytest.mark.requirement("AF6", "AF16")
@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_thousand_clients_are_asked_and_answer_for_themselves_only(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    crowd = Crowd(20261121)
    async with one(upstream_revision, input_timeout=300.0) as (server, relay):
        server.tool("run", crowd.run if upstream_revision == LEGACY else crowd.rounds)
        clients = await clients_of(relay, CLIENTS)
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                nursery.start_soon(crowd.call, client, number)
        assert crowd.answered + crowd.left == CLIENTS
        assert crowd.left > 60
        assert crowd.questions > 300
        await trio.sleep(400)
        assert relay.is_idle()
        assert len(relay.endpoint._pulse) == 0
        assert not server.open
        assert not server.running


async def test_what_changes_is_told_to_those_who_asked_for_it_and_to_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Listeners come and go all the time; each has a resource of its own, and each hears of that one only."""
    chance = random.Random(7)
    heard = 0
    uris = [f"mem://r{number}" for number in range(LISTENERS)]

    async def listen(client: Client, uri: str) -> None:
        nonlocal heard
        for _ in range(2):
            await trio.sleep(chance.uniform(0, 20))
            async with listening(client, uri) as ongoing:
                await trio.sleep(chance.uniform(5, 60))
                told = {message["params"]["uri"] for message in updates(ongoing)}
                assert told <= {uri}
                heard += len(updates(ongoing))

    async with trio.open_nursery() as changing, one(MODERN) as (server, relay), one(LEGACY) as (older, other):
        for each in (server, older):
            each.tells_of_changes(*uris)

        async def change() -> None:
            while True:
                await trio.sleep(0.2)
                for each in (server, older):
                    await each.announce("notifications/resources/updated", uri=chance.choice(uris))

        changing.start_soon(change)
        async with trio.open_nursery() as nursery:
            for to in (relay, other):
                for client, uri in zip(await clients_of(to, LISTENERS), uris, strict=True):
                    nursery.start_soon(listen, client, uri)
        assert heard > 50
        await settle(GRACE + 5)
        for to, each in ((relay, server), (other, older)):
            assert len(to.streams) == 0
            assert to.is_idle()
            assert each.listeners == []
        changing.cancel_scope.cancel()


async def test_a_second_crowd_leaves_no_more_memory_behind_than_the_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY, input_timeout=300.0) as (server, relay):
        clients = await clients_of(relay, 200)
        held = []
        for seed in range(3):
            crowd = Crowd(seed)
            server.tools.clear()
            server.tool("run", crowd.run)
            async with trio.open_nursery() as nursery:
                for number, client in enumerate(clients):
                    nursery.start_soon(crowd.call, client, number)
            await trio.sleep(400)
            server.requests.clear()
            server.answers.clear()
            server.cancelled.clear()
            gc.collect()
            if not tracemalloc.is_tracing():
                tracemalloc.start()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert held[2] - held[1] < 300_000, held
        assert relay.is_idle()
