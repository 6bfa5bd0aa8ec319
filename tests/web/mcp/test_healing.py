"""Upstreams that end, come back, or come back as something else, in the middle of traffic: clients notice nothing but
what had been running."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from aggregator.upstream.absence import RESTART
from aggregator.upstream.streams import OPENING

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Json, Speaking
from ...fakes.relay import Client, client_of, in_every_cell, one, text_of
from .test_listening import listening, methods, settle, updates

KINDS = [(MODERN, True), (LEGACY, True), (LEGACY, False)]
of_every_kind = pytest.mark.parametrize(("upstream_revision", "sessions"), KINDS)


def killed(server: FakeServer) -> None:
    """Its process is gone, and every connection with it."""
    server.dead, server.absent = "cannot connect (fake)", True
    for out, _ in list(server.listeners):
        out.write(None)


def started(server: FakeServer, revision: str | None = None) -> None:
    server.dead = None
    server.restart(revision)


@of_every_kind
@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_after_a_restart_calls_go_on_and_streams_tell_again(
    client_revision: str, upstream_revision: str, sessions: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server._keeps_sessions = sessions
        server.tells_of_changes("mem://a")
        server.tool("a")
        client = await client_of(relay, client_revision)
        async with listening(client, "mem://a") as ongoing:
            await settle()
            assert "error" not in await client.call("up__a")
            killed(server)
            await settle(2)
            server.tool("b")
            started(server)
            await settle(15)
            assert server.listeners
            assert "tools/list_changed" in methods(ongoing)
            assert (await client.call("up__b"))["result"]["isError"] is False
            seen = len(methods(ongoing))
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            assert methods(ongoing)[seen:] == ["resources/updated"]


@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_sessions_that_an_upstream_forgot_are_begun_anew_and_nobody_notices(
    client_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A restart so short that nobody was refused: the GET stream ends, and is opened on a session that is no more."""
    async with one(LEGACY) as (server, relay):
        server.tells_of_changes("mem://a")
        server.tool("a")
        client = await client_of(relay, client_revision)
        async with listening(client, "mem://a") as ongoing:
            await settle()
            assert (await client.call("up__a"))["result"]["isError"] is False
            killed(server)
            started(server)
            assert (await client.call("up__a"))["result"]["isError"] is False
            await settle(10)
            assert server.listeners
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            assert methods(ongoing)[-1] == "resources/updated"


@pytest.mark.parametrize("after", [MODERN, LEGACY])
@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_an_upstream_that_comes_back_in_another_revision_is_heard_again(
    client_revision: str, after: str, autojump_clock: trio.testing.MockClock
) -> None:
    before = LEGACY if after == MODERN else MODERN
    async with one(before) as (server, relay):
        server.tells_of_changes("mem://a")
        server.tool("a")
        client = await client_of(relay, client_revision)
        async with listening(client, "mem://a") as ongoing:
            await settle()
            killed(server)
            started(server, after)
            await settle(20)
            assert server.listeners
            assert (await client.call("up__a"))["result"]["isError"] is False
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            assert methods(ongoing)[-1] == "resources/updated"


async def test_an_upstream_that_gains_streams_is_heard_soon(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("a")
        async with listening(relay.modern()) as ongoing:
            await settle()
            server.tells_of_changes()
            killed(server)
            await settle(70)  # nobody asks it before its listing has aged
            started(server)
            await settle(30)
            assert server.listeners
            server.tool("b")
            await server.announce("notifications/tools/list_changed")
            await settle(2)
            assert "tools/list_changed" in methods(ongoing)


@of_every_kind
async def test_a_call_in_flight_says_that_it_may_have_run_and_one_that_was_not_sent_that_it_did_not(
    upstream_revision: str, sessions: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server._keeps_sessions = sessions

        async def run(speaking: Speaking) -> Json:
            await speaking.log("info", "begun")
            speaking._out.write(None)  # its connection breaks
            await trio.sleep_forever()
            raise AssertionError

        server.tool("run", run)
        client = relay.modern()
        text = text_of(await client.call("up__run"))
        assert "connection lost" in text
        assert "the tool may have run" in text
        killed(server)
        assert "the tool was not run" in text_of(await client.call("up__run"))


async def test_of_an_upstream_that_stays_away_later_calls_are_told_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        server.tool("run")
        client, took = relay.modern(), []
        await client.names()
        killed(server)
        for _ in range(3):
            began = trio.current_time()
            assert "cannot connect (fake); the tool was not run" in text_of(await client.call("up__run"))
            took.append(trio.current_time() - began)
        assert RESTART - 1 < took[0] < RESTART
        assert took[1:] == [0, 0]
        started(server)
        assert (await client.call("up__run"))["result"]["isError"] is False
        killed(server)
        began = trio.current_time()
        await client.call("up__run")
        assert RESTART - 1 < trio.current_time() - began < RESTART, "it is waited for again"


async def test_who_has_not_the_time_to_wait_for_a_restart_is_told_why(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN, upstreams={"up": {"tool_timeout": 0.3}}) as (server, relay):
        server.tool("run")
        client = relay.modern()
        await client.names()
        killed(server)
        assert "cannot connect (fake); the tool was not run" in text_of(await client.call("up__run"))


@pytest.mark.parametrize("method", ["server/discover", "initialize", "subscriptions/listen", "GET"])
async def test_an_upstream_that_hangs_while_a_stream_is_opened_keeps_nobody_from_using_it(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    revision = MODERN if method in ("server/discover", "subscriptions/listen") else LEGACY
    async with one(revision) as (server, relay):
        server.tells_of_changes()
        server.tool("a")

        async def before(incoming: Any) -> None:
            if incoming.method == method and hangs:
                await trio.sleep_forever()

        client, hangs = relay.modern(), False
        server.before = before
        async with listening(client) as ongoing:
            await settle()
            killed(server)
            await settle(120)  # its listing has aged, and what is known of it is in doubt
            hangs = True
            started(server)
            await settle(300)
            hangs = False
            await settle(OPENING + 150)
            assert (await client.call("up__a"))["result"]["isError"] is False
            assert server.listeners
            server.tool("b")
            await server.announce("notifications/tools/list_changed")
            await settle(2)
            assert "up__b" in await client.names()
            assert "tools/list_changed" in methods(ongoing)


@pytest.mark.parametrize("seconds", [RESTART - 1, RESTART + 2])
@in_every_cell
async def test_calls_during_a_restart_wait_for_it_and_say_what_became_of_them_if_it_takes_long(
    client_revision: str, upstream_revision: str, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        answers: list[Json] = []
        server.tool("run")
        clients: list[Client] = [await client_of(relay, client_revision, f"p{i}") for i in range(10)]

        async def call(client: Client, delay: float) -> None:
            await trio.sleep(delay)
            answers.append(await client.call("up__run"))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(call, clients[number % 10], number / 10)
            await trio.sleep(2.05)
            killed(server)
            await trio.sleep(seconds)
            started(server)
        lost = [answer for answer in answers if answer["result"].get("isError")]
        assert len(answers) == 100
        assert len(lost) == (0 if seconds < RESTART else seconds * 10)
        assert all("the tool was not run" in text_of(answer) for answer in lost)
        await trio.testing.wait_all_tasks_blocked()
        assert relay.is_idle()


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_resource_may_have_changed_while_its_upstream_could_not_say_so(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        async with listening(relay.modern(), "mem://a") as ongoing:
            await settle()
            assert methods(ongoing) == []
            killed(server)
            started(server)
            await settle(10)
            assert [message["params"]["uri"] for message in updates(ongoing)] == ["mem://a"]


async def test_what_nobody_wants_any_more_is_unsubscribed_from_in_a_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b", "mem://c")
        async with listening(relay.modern("alice"), "mem://a"):
            await settle()
            async with listening(relay.modern("bob"), "mem://b"):
                await settle()
                assert server.subscribed == ["mem://a", "mem://b"], "and mem://a was asked for once"
            async with listening(relay.modern("carol"), "mem://c"):
                await settle()
                assert server.subscribed == ["mem://a", "mem://c"]
