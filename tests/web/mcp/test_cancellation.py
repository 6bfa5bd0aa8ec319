"""When a client leaves or changes its mind: what ends, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from aggregator.web.mcp.running_calls import CANCELLED

from ...fakes.mcp_server import LEGACY, MODERN, Speaking
from ...fakes.relay import Client, in_every_cell, one, text_of

Json = dict[str, Any]


async def sleep_for_ever(speaking: Speaking) -> Json:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.requirement("AF17")
@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
@pytest.mark.requirement("TR5")
async def test_a_stateless_clients_disconnect_ends_the_upstreams_work_at_once(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run", sleep_for_ever)
        client = relay.modern()
        await client.tools()
        async with client.open("tools/call", {"name": "up__run", "arguments": {}}) as ongoing:
            await trio.sleep(5)
            (sent,) = server.calls()
            left_at = trio.current_time()
            ongoing.disconnect()
            await ongoing.done.wait()
            await sent.closed.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - left_at < 1  # F17
        assert server.cancelled == [sent.message["id"]]
        assert not server.running
        assert not server.open
        assert ongoing.status is None
        assert relay.is_idle()


async def test_a_disconnect_in_the_middle_of_a_stream_ends_it_too(autojump_clock: trio.testing.MockClock) -> None:
    async def run(speaking: Speaking) -> Json:
        while True:
            await speaking.progress(1)
            await trio.sleep(1)

    async with one(MODERN) as (server, relay):
        server.tool("run", run)
        client = relay.modern(meta={"progressToken": 1})
        async with client.open("tools/call", {"name": "up__run", "arguments": {}}) as ongoing:
            await ongoing.wait_messages(3)
            ongoing.disconnect()
            await ongoing.done.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.open
        assert len(ongoing.messages()) == 3


async def test_a_stateless_disconnect_while_the_upstream_is_still_being_met_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        server.hung = True
        async with relay.modern().open("tools/call", {"name": "up__run"}) as ongoing:
            await trio.sleep(1)
            ongoing.disconnect()
            await ongoing.done.wait()
        assert relay.is_idle()
        server.hung = False
        server.tool("run")
        await trio.sleep(60)
        assert "result" in await relay.modern().call("up__run")


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_handshake_clients_cancellation_ends_the_upstreams_work_under_its_own_id(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tool("run", sleep_for_ever)
        client = await relay.legacy()
        async with client.open("tools/call", {"name": "up__run"}, id="my call") as ongoing:
            await trio.sleep(5)
            (sent,) = server.calls()
            await client.notify("notifications/cancelled", {"requestId": "my call", "reason": "changed my mind"})
            await ongoing.done.wait()
            await sent.closed.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert ongoing.json()["error"]["code"] == CANCELLED
        assert sent.message["id"] != "my call"
        assert server.cancelled == [sent.message["id"]]
        assert not server.running
        assert relay.is_idle()


async def test_only_the_same_person_in_the_same_session_can_cancel(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN, upstreams={"up": {"tool_timeout": 30.0}}) as (server, relay):
        server.tool("run", sleep_for_ever)
        alice, other, bob = await relay.legacy("alice"), await relay.legacy("alice"), await relay.legacy("bob")
        async with alice.open("tools/call", {"name": "up__run"}, id=1) as ongoing:
            await trio.sleep(1)
            stranger: Client
            for stranger in (other, bob, relay.modern("alice"), relay.modern("bob")):
                await stranger.notify("notifications/cancelled", {"requestId": 1})
            await alice.notify("notifications/cancelled", {"requestId": "1"})
            await alice.notify("notifications/cancelled", {"requestId": 2})
            await trio.sleep(1)
            assert not ongoing.done.is_set()
            await ongoing.done.wait()
        assert "toolTimeout" in text_of(ongoing.messages()[-1])


@in_every_cell
async def test_only_a_stateless_disconnect_cancels(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    finished = []

    async def run(speaking: Speaking) -> Json:
        await trio.sleep(20)
        finished.append(True)
        return {"content": [], "isError": False}

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client: Client = relay.modern() if client_revision == MODERN else await relay.legacy()
        await client.tools()
        async with client.open("tools/call", {"name": "up__run"}) as ongoing:
            await trio.sleep(1)
            ongoing.disconnect()
            await trio.sleep(60)
            assert bool(finished) is (client_revision == LEGACY)
            assert bool(server.cancelled) is (client_revision == MODERN)


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_cancellation_that_meets_a_notification_half_sent_leaves_no_second_beginning(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The client reads nothing, so a send blocks; its call is cancelled, and nothing may follow the broken event."""

    async def run(speaking: Speaking) -> Json:
        await speaking.progress(1)
        return await sleep_for_ever(speaking)

    async with one(upstream_revision) as (server, relay):
        server.tool("run", run)
        client = await relay.legacy(meta={"progressToken": 1})
        headers = client.headers("tools/call", {})
        content = client.encode("tools/call", {"name": "up__run"}, 9)
        sends = []

        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sends.append(message["type"])
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            raw = [(b"host", b"mcp.example.com"), *((key.encode(), value.encode()) for key, value in headers)]
            scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": raw}
            nursery.start_soon(relay.app, scope, receive, send)
            await trio.sleep(5)
            await client.notify("notifications/cancelled", {"requestId": 9})
        assert sends == ["http.response.start"]
        assert relay.is_idle()
        await trio.sleep(3)
        assert not server.open
