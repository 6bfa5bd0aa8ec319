"""Fifty upstreams with fifty tools each, and twenty people of whom no two see the same."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ...fakes.mcp_server import FakeServer, Incoming
from ...fakes.relay import Relay, open_relay

UPSTREAMS, TOOLS, PEOPLE = 50, 50, 20

Json = dict[str, Any]


@asynccontextmanager
async def crowd(delays: dict[int, float]) -> AsyncIterator[Relay]:
    """Person p has tools p to p + 29 of every upstream. `delays` are seconds before an upstream answers."""
    async with trio.open_nursery() as nursery:
        servers = {}
        for number in range(UPSTREAMS):
            server = servers[f"u{number}"] = FakeServer(nursery, name=f"u{number}")
            for tool in range(TOOLS):
                server.tool(f"t{tool}", description="Does a thing with care. " * 8)
            server.accounts = {f"token{p}": [f"t{tool}" for tool in range(p, p + 30)] for p in range(PEOPLE)}
            server.before = waiting(delays.get(number, 0.1))
        user = {name: {"auth_type": "user"} for name in servers}
        async with open_relay(servers, upstreams=user) as relay:
            for person in range(PEOPLE):
                for name in servers:
                    relay.connections.connect(f"p{person}", name, f"token{person}")
            yield relay
        nursery.cancel_scope.cancel()


def waiting(seconds: float) -> Any:
    async def wait(incoming: Incoming) -> None:
        await trio.sleep(seconds if incoming.method == "tools/list" else 0)

    return wait


@pytest.mark.parametrize(
    ("delays", "seconds", "missing"), [({7: 3.0}, 3.0, 0), ({7: 3.0, 8: 60.0}, 5.0, 1)], ids=["slow", "hung"]
)
async def test_a_cold_list_takes_as_long_as_the_slowest_upstream_or_the_deadline(
    delays: dict[int, float], seconds: float, missing: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with crowd(delays) as relay:
        shown: dict[int, list[str]] = {}

        async def look(person: int) -> None:
            shown[person] = await relay.modern(f"p{person}").names()

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for person in range(PEOPLE):
                nursery.start_soon(look, person)
        assert trio.current_time() - started == pytest.approx(seconds, abs=0.01)
        for person, names in shown.items():
            own = {f"u{number}__t{tool}" for number in range(UPSTREAMS) for tool in range(person, person + 30)}
            ours = {name for name in names if name.startswith("gateway__")}
            assert set(names) - ours <= own, f"p{person} is shown what is not theirs"
            assert len(names) - len(ours) == (UPSTREAMS - missing) * 30


async def test_a_warm_list_costs_no_more_for_being_of_many_upstreams(autojump_clock: trio.testing.MockClock) -> None:
    """It is rendered once for each view: what is left is to write its bytes, and nothing of it grows with upstreams."""
    async with crowd({}) as relay:
        clients = [relay.modern(f"p{person}") for person in range(PEOPLE)]
        for client in clients:
            await client.names()
        large = min([await seconds_for(client, "tools/list") for client in clients for _ in range(5)])
        small = min([await seconds_for(client, "server/discover") for client in clients for _ in range(5)])
        assert large < small + 0.02, f"{large * 1000:.2f} ms against {small * 1000:.2f} ms"


async def seconds_for(client: Any, method: str) -> float:
    body, headers = client.encode(method, {}, 1), client.headers(method, {})
    started = time.process_time()
    received = await client.post(body, headers)
    elapsed = time.process_time() - started
    assert received.status == 200
    return elapsed
