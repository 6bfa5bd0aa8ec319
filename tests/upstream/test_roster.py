"""Upstreams that come, stay and go while people use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from aggregator.config.model import StdioUpstream, ToolFilter, Upstream
from aggregator.upstream.authorized import AuthorizedUpstream
from aggregator.upstream.credentials import ConfiguredCredentials
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.roster import Change, Configured, Roster, change_between, open_roster

from ..fakes.mcp_server import LEGACY, MODERN, FakeServer, Speaking
from ..fakes.relay import IDENTITY, Relay, open_relay


def upstream(name: str, **more: Any) -> Upstream:
    return replace(Upstream(name, f"http://{name}.example.com/mcp", name, auth_type="none"), **more)


class World:
    """Servers by the host of their URL, what was opened and closed, and a relay over the roster's upstreams."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.servers: dict[str, FakeServer] = {}
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.relay: Relay
        self.roster: Roster

    def server(self, name: str, *tools: str, revision: str = MODERN) -> FakeServer:
        server = self.servers[name] = FakeServer(self.nursery, revision, name=name)
        for tool in tools or ("t",):
            server.tool(tool)
        return server

    @asynccontextmanager
    async def open_one(self, config: Configured, nursery: trio.Nursery) -> AsyncIterator[AuthorizedUpstream]:
        assert isinstance(config, Upstream)
        if "broken" in config.url:
            raise OSError("no")
        server = self.servers[config.url.removeprefix("http://").partition(".")[0]]
        self.opened.append(config.name)
        peer = HttpUpstream(config.name, server, IDENTITY, nursery)
        nursery.start_soon(peer.reap)
        try:
            yield AuthorizedUpstream(config, peer, ConfiguredCredentials(config))
        finally:
            await peer.close()
            self.closed.append(config.name)

    async def become(self, *configured: Upstream) -> None:
        async with self.roster.becoming(configured) as upstreams:
            self.relay.listings.replace(upstreams)

    async def names(self) -> list[str]:
        return [name for name in await self.relay.modern().names() if not name.startswith("gateway__")]


@asynccontextmanager
async def open_world(**servers: str) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        for name, revision in servers.items():
            world.server(name, revision=revision)
        async with open_relay({}) as world.relay, open_roster(world.open_one, []) as world.roster:
            await world.become(*(upstream(name) for name in servers))
            yield world
        nursery.cancel_scope.cancel()


async def test_what_comes_is_listed_and_what_goes_is_not(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN, b=LEGACY) as world:
        assert await world.names() == ["a__t", "b__t"]
        world.server("c")
        await world.become(upstream("c"), upstream("b"))
        assert await world.names() == ["c__t", "b__t"], "in the order of configuration"
        assert world.opened == ["a", "b", "c"]
        await trio.sleep(1)
        assert world.closed == ["a"]


async def test_what_did_not_change_is_neither_opened_nor_listed_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN, b=LEGACY) as world:
        await world.names()
        asked = len(world.servers["b"].requests)
        await world.become(upstream("a", tools=ToolFilter(exclude=("t",))), upstream("b"))
        assert await world.names() == ["b__t"]
        assert len(world.servers["b"].requests) == asked
        assert world.opened == ["a", "b", "a"]


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_calls_in_flight_finish_where_they_began(revision: str, autojump_clock: trio.testing.MockClock) -> None:
    """F19, of reference security 5A."""
    async with open_world(a=revision, b=MODERN) as world:
        going_on, answers = trio.Event(), []

        async def slow(speaking: Speaking) -> Any:
            going_on.set()
            await trio.sleep(30)
            return {"content": [{"type": "text", "text": "from the old one"}]}

        world.servers["a"].tool("slow", slow)
        await trio.sleep(120)

        async def call() -> None:
            answer = await world.relay.modern().call("a__slow")
            answers.append(answer["result"]["content"][0]["text"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await going_on.wait()
            world.server("other")
            await world.become(upstream("a", url="http://other.example.com/mcp"), upstream("b"))
            assert await world.names() == ["a__t", "b__t"]
            await trio.sleep(5)
            assert world.closed == []
        assert answers == ["from the old one"]
        await trio.sleep(1)
        assert world.closed == ["a"]


async def test_nobody_else_notices_a_hundred_changes(autojump_clock: trio.testing.MockClock) -> None:
    """F19: add, remove and rename under load; no request fails that does not concern the removed upstream."""
    async with open_world(stays=MODERN, older=LEGACY, goes=MODERN) as world:
        failed: list[Any] = []
        done = 0
        finished = False

        async def use(name: str) -> None:
            nonlocal done
            client = world.relay.modern()
            while not finished:
                answer = await client.call(name)
                if "result" not in answer or answer["result"].get("isError"):
                    failed.append(answer)
                if name not in await client.names():
                    failed.append(name)
                done += 1
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            for name in ("stays__t", "older__t") * 5:
                nursery.start_soon(use, name)
            stays = (upstream("stays"), upstream("older"))
            for round in range(100):
                extra = [upstream("goes"), upstream("renamed", url="http://goes.example.com/mcp")][
                    round % 3 : 1 + round % 3
                ]
                order = stays if round % 2 else stays[::-1]
                await world.become(*extra[: round % 2], *order, *extra[round % 2 :])
                await trio.sleep(0.05)
            finished = True
        assert failed == []
        assert done > 1000
        assert set(await world.names()) >= {"stays__t", "older__t"}
        await trio.sleep(1)
        assert world.opened.count("stays") == world.opened.count("older") == 1
        assert len(world.opened) - len(world.closed) == len(world.roster.upstreams)


async def test_a_call_for_what_has_gone_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN, b=MODERN) as world:
        await world.names()
        await world.become(upstream("b"))
        answer = await world.relay.modern().call("a__t")
        assert "error" in answer or answer["result"]["isError"]


async def test_those_who_listen_are_told(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN) as world:
        await world.names()
        client = world.relay.modern()
        async with client.open("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
            await trio.sleep(2)
            world.server("b")
            await world.become(upstream("a"), upstream("b"))
            await trio.sleep(2)
            methods = [message["method"] for message in stream.messages() if "method" in message]
            assert "notifications/tools/list_changed" in methods


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_those_who_listen_hear_the_new_server_and_the_old_one_no_more(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_world(a=revision) as world:
        old = world.servers["a"]
        old.tells_of_changes()
        new = world.server("new", revision=revision)
        new.tells_of_changes()
        await world.names()
        client = world.relay.modern()

        async with client.open("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:

            def told() -> int:
                return sum(each.get("method") == "notifications/tools/list_changed" for each in stream.messages())

            await trio.sleep(2)
            old.tool("x")
            await old.announce("notifications/tools/list_changed")
            await trio.sleep(2)
            assert told() >= 1
            await world.become(upstream("a", url="http://new.example.com/mcp"))
            await trio.sleep(10)
            assert world.closed == ["a"]
            before = told()
            assert before >= 2, "x has gone"
            new.tool("y")
            await new.announce("notifications/tools/list_changed")
            await trio.sleep(2)
            assert told() > before
            assert await world.names() == ["a__t", "a__y"]
            await world.become()
            await trio.sleep(10)
            assert await world.names() == []


async def test_one_that_fails_and_has_gone_is_not_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN, b=MODERN) as world:
        world.servers["a"].dead = "cannot connect"
        await world.names()
        await trio.sleep(60)
        await world.become(upstream("b"))
        asked = len(world.servers["a"].requests)
        await trio.sleep(1000)
        assert len(world.servers["a"].requests) == asked
        assert world.closed == ["a"]


async def test_one_that_fails_is_tried_at_once_when_somebody_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN, b=MODERN) as world:
        world.servers["a"].dead = "cannot connect"
        await world.names()
        await trio.sleep(1000)
        world.servers["a"].dead = None
        assert world.relay.listings.try_now("b") == ()
        assert world.relay.listings.try_now() == ("a",)
        await trio.sleep(0.1)
        assert await world.names() == ["a__t", "b__t"]
        assert world.relay.listings.try_now() == ()


async def test_when_one_cannot_be_opened_everything_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        world.server("a")
        world.server("b")
        async with open_roster(world.open_one, [upstream("a")]) as roster:
            with pytest.raises(BaseExceptionGroup):
                await roster.becoming([upstream("b"), upstream("c", url="http://broken/")]).__aenter__()
            assert [each.name for each in roster.upstreams] == ["a"]
            await trio.testing.wait_all_tasks_blocked()
            assert world.closed == ["b"]


async def test_a_change_that_is_not_taken_up_is_undone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world(a=MODERN) as world:
        world.server("b")
        with pytest.raises(ValueError, match="no"):
            async with world.roster.becoming([upstream("b")]):
                raise ValueError("no")
        await trio.sleep(1)
        assert [each.name for each in world.roster.upstreams] == ["a"]
        assert world.closed == ["b"]


async def test_all_are_closed_at_the_same_time(autojump_clock: trio.testing.MockClock) -> None:
    """A program that does not heed its end takes seconds; several take no longer than one."""
    closed: list[str] = []

    @asynccontextmanager
    async def open_one(config: Configured, nursery: trio.Nursery) -> AsyncIterator[AuthorizedUpstream]:
        assert isinstance(config, Upstream)
        server = FakeServer(nursery, name=config.name)
        peer = HttpUpstream(config.name, server, IDENTITY, nursery)
        try:
            yield AuthorizedUpstream(config, peer, ConfiguredCredentials(config))
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            closed.append(config.name)

    async with open_roster(open_one, [upstream("a"), upstream("b"), upstream("c")]):
        since = trio.current_time()
    assert sorted(closed) == ["a", "b", "c"]
    assert trio.current_time() - since == pytest.approx(5)


def test_a_change_is_told_by_name() -> None:
    a, b, c = upstream("a"), upstream("b"), StdioUpstream("c", prefix="c", command=("c",))
    assert change_between([a, b], [replace(b, tool_timeout=1), c]) == Change(("c",), ("b",), ("a",))
    assert not change_between([a, c], [c, a])
