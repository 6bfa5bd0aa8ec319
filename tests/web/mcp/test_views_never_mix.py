"""People whose accounts show them different things, all at once: nobody is ever shown, or given, another's."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, ToolFailure
from ...fakes.relay import Client, Relay, client_of, open_relay

Json = dict[str, Any]

PEOPLE = ("ann", "ben", "cas", "dot")
UPSTREAMS = ("one", "two", "three")
ROUNDS = 200
KEYS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


class Personal:
    """An upstream that shows everybody their own things, under names that others have too. Without an account it shows
    nothing, and says so."""

    def __init__(self, server: FakeServer, chance: random.Random) -> None:
        self._chance = chance
        server.accounts = {}
        server.capabilities = {"tools": {}, "prompts": {}, "resources": {}}
        server.before = self._delay
        server.results = {
            "prompts/list": lambda incoming: {"prompts": [{"name": "mine", "whose": whose(incoming)}]},
            "resources/list": lambda incoming: {
                "resources": [
                    {"uri": "note://mine", "name": "mine", "whose": whose(incoming)},
                    {"uri": f"note://{whose(incoming)}", "name": "named", "whose": whose(incoming)},
                ]
            },
            "resources/templates/list": lambda incoming: {
                "resourceTemplates": [{"uriTemplate": "made://{id}", "name": "made", "whose": whose(incoming)}]
            },
            "resources/read": self._read,
        }
        for person in PEOPLE:
            server.accounts[f"token-{person}"] = [f"of_{person}", "shared"]
            server.tool(f"of_{person}", whose=person)
        server.tool("shared")

    async def _delay(self, incoming: Incoming) -> None:
        await trio.sleep(self._chance.choice((0, 0, 0.1, 1)))

    def _read(self, incoming: Incoming) -> Json:
        uri = incoming.params["uri"]
        if uri not in ("note://mine", f"note://{whose(incoming)}"):
            raise ToolFailure({"code": -32602, "message": "not found", "data": {"uri": uri}}, 400)
        return {"contents": [{"uri": uri, "text": whose(incoming)}]}


def whose(incoming: Incoming) -> str:
    return incoming.headers["authorization"].removeprefix("Bearer token-")


@pytest.mark.requirement("CA1")
async def test_no_view_shows_anothers_entries_in_any_of_many_interleavings(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen = 0
    for seed in range(ROUNDS):
        seen += await interleave(random.Random(seed))
    assert seen > 20 * ROUNDS, "there was much to mix up"


async def interleave(chance: random.Random) -> int:
    """A minute of everybody listing, reading, connecting and leaving; how many personal entries were shown."""
    seen = 0

    async def live(relay: Relay, person: str) -> None:
        nonlocal seen
        client = await client_of(relay, chance.choice((MODERN, LEGACY)), person)
        for _ in range(6):
            await trio.sleep(chance.uniform(0, 10))
            match chance.randrange(5):
                case 0 | 1:
                    relay.connections.connect(person, chance.choice(UPSTREAMS), f"token-{person}")
                case 2 if chance.random() < 0.3:
                    relay.connections.tokens.pop((person, chance.choice(UPSTREAMS)), None)
                case 3:
                    await read(client, person)
                case _:
                    seen += await look(client, person, chance.choice(tuple(KEYS)))

    async with trio.open_nursery() as nursery:
        servers = {name: FakeServer(nursery, chance.choice((MODERN, LEGACY)), name=name) for name in UPSTREAMS}
        for server in servers.values():
            Personal(server, chance)
        user = {name: {"auth_type": "user"} for name in UPSTREAMS}
        async with open_relay(servers, upstreams=user) as relay:
            async with trio.open_nursery() as people:
                for person in PEOPLE:
                    people.start_soon(live, relay, person)
            for person in PEOPLE:  # and what is left in memory afterwards
                client = await client_of(relay, MODERN, person)
                for upstream in UPSTREAMS:
                    relay.connections.connect(person, upstream, f"token-{person}")
                for method in KEYS:
                    seen += await look(client, person, method)
        nursery.cancel_scope.cancel()
    return seen


async def look(client: Client, person: str, method: str) -> int:
    result = (await client.request(method)).messages()[-1]["result"]
    marks = [item["whose"] for item in result[KEYS[method]] if "whose" in item]
    assert set(marks) <= {person}, f"{person} was shown {marks}"
    return len(marks)


async def read(client: Client, person: str) -> None:
    for uri in ("note://mine", *(f"note://{other}" for other in PEOPLE)):
        answer = (await client.request("resources/read", {"uri": uri})).messages()[-1]
        for content in answer.get("result", {}).get("contents", []):
            assert content["text"] == person
