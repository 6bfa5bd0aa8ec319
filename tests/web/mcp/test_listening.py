"""What changes between calls reaches the clients that listen, in all four cells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.upstream.streams import GRACE

from ...fakes.asgi import Ongoing
from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Incoming, Json, Speaking
from ...fakes.relay import Client, client_of, in_every_cell, one, open_relay

EVERYTHING: Json = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


@asynccontextmanager
async def listening(client: Client, *uris: str) -> AsyncIterator[Ongoing]:
    """The client's stream, in the way of its revision."""
    if client.revision == MODERN:
        wanted = {**EVERYTHING, **({"resourceSubscriptions": list(uris)} if uris else {})}
        opened = client.open("subscriptions/listen", {"notifications": wanted}, id="listen")
    else:
        for uri in uris:
            assert (await client.request("resources/subscribe", {"uri": uri})).json()["result"] == {}
        opened = client.open_stream()
    async with opened as ongoing:
        yield ongoing


def methods(ongoing: Ongoing) -> list[str]:
    return [
        message["method"].removeprefix("notifications/")
        for message in ongoing.messages()
        if message["method"] != "notifications/subscriptions/acknowledged"
    ]


async def settle(seconds: float = 1.0) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


@in_every_cell
async def test_a_changed_list_is_told_once_and_is_there_when_the_client_looks(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes()
        server.tool("a")
        client = await client_of(relay, client_revision)
        async with listening(client) as ongoing:
            await settle()
            assert methods(ongoing) == []
            server.tool("b")
            for _ in range(5):
                await server.announce("notifications/tools/list_changed")
            await settle(2)
            assert methods(ongoing).count("tools/list_changed") in (1, 2)
            assert "up__b" in await client.names()


@in_every_cell
async def test_an_updated_resource_is_told_to_those_who_subscribed_only(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        alice, bob = await client_of(relay, client_revision), await client_of(relay, client_revision, "bob")
        async with listening(alice, "mem://a") as hers, listening(bob, "mem://b") as his:
            await settle()
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            assert [message["params"]["uri"] for message in updates(hers)] == ["mem://a"]
            assert updates(his) == []


@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_of_two_resources_with_one_uri_each_is_told_of_by_the_name_that_it_has(
    client_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Also when a third upstream begins to use that URI: what was subscribed to by another name stays what it is."""
    async with trio.open_nursery() as nursery:
        servers = {
            name: FakeServer(nursery, revision, name=name)
            for name, revision in (("one", MODERN), ("other", LEGACY), ("third", MODERN))
        }
        for server in servers.values():
            server.tells_of_changes("mem://a")
        servers["third"].resources = []
        names = {"one": "mem://a", "other": "mem://other.gateway/a", "third": "mem://third.gateway/a"}
        async with open_relay(servers) as relay:
            client = await client_of(relay, client_revision)
            await client.names()
            async with listening(client, *names.values()) as ongoing:
                await settle()
                for name in ("one", "other"):
                    await servers[name].announce("notifications/resources/updated", uri="mem://a")
                    await settle()
                assert [one["params"]["uri"] for one in updates(ongoing)] == [names["one"], names["other"]]
                servers["third"].resources = [{"uri": "mem://a", "name": "a"}]
                await servers["third"].announce("notifications/resources/list_changed")
                await settle(3)
                assert "resources/list_changed" in methods(ongoing)
                listed = (await client.request("resources/list")).json()["result"]["resources"]
                assert [item["uri"] for item in listed] == list(names.values())
                for server in servers.values():
                    await server.announce("notifications/resources/updated", uri="mem://a")
                    await settle()
                assert [one["params"]["uri"] for one in updates(ongoing)][2:] == list(names.values())
        nursery.cancel_scope.cancel()


@in_every_cell
async def test_a_resource_stays_subscribed_to_until_the_last_client_that_wants_it_leaves(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        alice, bob = await client_of(relay, client_revision), await client_of(relay, client_revision, "bob")
        async with listening(bob, "mem://b", "mem://a") as his:
            await settle()
            async with listening(alice, "mem://a") as hers:
                await settle()
                assert sorted(server.subscribed) == ["mem://a", "mem://b"], "once, however many want it"
                await server.announce("notifications/resources/updated", uri="mem://a")
                await settle()
                assert len(updates(hers)) == len(updates(his)) == 1
            await settle(GRACE * 2)
            assert "mem://a" in server.subscribed
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            assert len(updates(his)) == 2


@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_what_nobody_wants_any_more_is_unsubscribed_from_some_time_after(
    client_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(LEGACY) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        alice, bob = await client_of(relay, client_revision), await client_of(relay, client_revision, "bob")
        async with listening(bob, "mem://b"):
            async with listening(alice, "mem://a"):
                await settle()
                assert sorted(server.subscribed) == ["mem://a", "mem://b"]
            await settle(GRACE * 2)
            assert server.subscribed == ["mem://b"]
        await settle(GRACE * 2)
        assert server.subscribed == []


@in_every_cell
async def test_nothing_is_missed_while_more_is_subscribed_to(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """However long the upstream takes for it."""

    async def slow(incoming: Incoming) -> None:
        if incoming.method in ("subscriptions/listen", "GET", "resources/subscribe"):
            await trio.sleep(2)

    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        alice, bob = await client_of(relay, client_revision), await client_of(relay, client_revision, "bob")
        async with listening(alice, "mem://a") as hers:
            await settle(5)
            server.before = slow
            async with listening(bob, "mem://b"):
                for _ in range(10):
                    await server.announce("notifications/resources/updated", uri="mem://a")
                    await settle(0.5)
                assert len(server.calls("GET")) == (upstream_revision == LEGACY)
                assert len([one for one in server.open if one.method == "subscriptions/listen"]) == (
                    upstream_revision == MODERN
                )
            assert len(updates(hers)) == 10


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_what_an_upstream_does_not_tell_of_is_not_promised(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        server.silent_about = {"mem://b"}
        for person in ("alice", "bob"):  # who opens the stream, and who finds it open
            client = relay.modern(person)
            await client.names()
            async with listening(client, "mem://a", "mem://b") as ongoing:
                await settle()
                told = ongoing.messages()[0]["params"]["notifications"]
                assert told["resourceSubscriptions"] == ["mem://a"]


def updates(ongoing: Ongoing) -> list[Json]:
    return [message for message in ongoing.messages() if message["method"] == "notifications/resources/updated"]


async def test_the_first_frame_of_a_subscription_says_what_is_honoured_and_all_bear_its_id(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        server.tells_of_changes("mem://a")
        async with listening(relay.modern(), "mem://a", "mem://unknown") as ongoing:
            await settle()
            first = ongoing.messages()[0]
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert first["params"]["notifications"] == {
                "toolsListChanged": True,
                "resourcesListChanged": True,
                "resourceSubscriptions": ["mem://a"],
            }
            await server.announce("notifications/resources/updated", uri="mem://a")
            await settle()
            for message in ongoing.messages():
                assert message["params"]["_meta"][f"{META}subscriptionId"] == "listen"
            relay.streams.close()
            await ongoing.done.wait()
            last = ongoing.messages()[-1]
            assert last["id"] == "listen"
            assert last["result"]["_meta"][f"{META}subscriptionId"] == "listen"


async def test_one_stream_serves_all_who_listen_and_ends_some_time_after_the_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        server.tells_of_changes("mem://a", "mem://b")
        async with listening(relay.modern("alice"), "mem://a"), listening(relay.modern("bob"), "mem://a"):
            await settle()
            assert len(server.listeners) == 1
            async with listening(relay.modern("carol"), "mem://b"):
                await settle()
                assert len(server.listeners) == 1
                assert server.subscribed == ["mem://a", "mem://b"]
        await settle(GRACE / 2)
        assert len(server.listeners) == 1
        opened = len(server.calls("subscriptions/listen"))
        await settle(GRACE)
        assert server.listeners == []
        assert len(server.calls("subscriptions/listen")) == opened
        assert len(relay.streams) == 0


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_stream_that_breaks_is_opened_again_and_what_was_missed_is_told(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(revision) as (server, relay):
        server.tells_of_changes()
        server.tool("a")
        client = relay.modern()
        async with listening(client) as ongoing:
            await settle()
            for out, _ in list(server.listeners):
                out.write(None)
            server.tool("b")
            await settle(10)
            assert "tools/list_changed" in methods(ongoing)
            assert len(server.listeners) >= 1
            assert "up__b" in await client.names()


@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_what_an_older_upstream_says_of_changes_beside_an_answer_is_told_too(
    client_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Many servers tell the session of the call that changed something, and no other."""

    async def run(speaking: Speaking) -> Json:
        server.tool("b")
        await speaking.notify("notifications/tools/list_changed")
        await speaking.notify("notifications/resources/updated", uri="mem://a")
        return {"content": []}

    async with one(LEGACY) as (server, relay):
        server.tells_of_changes("mem://a")
        server.tool("a", run)
        client, bob = await client_of(relay, client_revision), await client_of(relay, client_revision, "bob")
        async with listening(bob, "mem://a") as his:
            await settle()
            received = await client.request("tools/call", {"name": "up__a"})
            assert len(received.messages()) == 1, "it is not the call's affair"
            await settle(2)
            assert "tools/list_changed" in methods(his)
            assert [message["params"]["uri"] for message in updates(his)] == ["mem://a"]
            assert "up__b" in await bob.names()


async def test_an_upstream_without_streams_is_noticed_by_listing_it_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        server.tool("a")
        async with listening(relay.modern()) as ongoing:
            await settle()
            server.tool("b")
            await settle(120)
            assert methods(ongoing) == ["tools/list_changed"]


async def test_an_account_that_is_connected_changes_the_lists_of_its_person_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, name="up")
        server.accounts = {"a1": None}
        server.tool("run")
        async with (
            open_relay({"up": server}, upstreams={"up": {"auth_type": "user"}}) as relay,
            listening(relay.modern("alice")) as hers,
            listening(relay.modern("bob")) as his,
        ):
            await settle()
            relay.connections.connect("alice", "up", "a1")
            await settle(8)
            assert "tools/list_changed" in methods(hers)
            assert methods(his) == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
@pytest.mark.parametrize("answers_at", [0.7, 0.9, 2.0, 4.0])
async def test_what_comes_while_a_client_begins_to_listen_is_told_where_lists_do_not_wait_for_it(
    revision: str, answers_at: float, autojump_clock: trio.testing.MockClock
) -> None:
    """On one person's machine: the list was without it, whenever after that list it came."""
    async with trio.open_nursery() as nursery:
        good, late = FakeServer(nursery, name="good"), FakeServer(nursery, name="late")
        good.tool("a")
        late.tool("b")

        async def start_slowly(incoming: Incoming) -> None:
            await trio.sleep(max(0, answers_at - trio.current_time()))

        late.before = start_slowly
        async with open_relay({"good": good, "late": late}, patience=0.5) as relay:
            client = await client_of(relay, revision)
            names = await client.names()
            assert "good__a" in names
            assert "late__b" not in names
            async with listening(client) as ongoing:
                await settle(10)
                assert "tools/list_changed" in methods(ongoing)
                assert "late__b" in await client.names()
        nursery.cancel_scope.cancel()


async def test_a_session_has_one_stream_and_ends_with_it(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY) as (server, relay):
        server.tells_of_changes()
        client = await relay.legacy()
        async with client.open_stream() as first:
            await settle()
            async with client.open_stream() as second:
                await settle()
                assert (first.ended, second.ended) == (True, False)
                gone = await client.post(b"", client.headers("", {}), method="DELETE")
                assert gone.status == 204
                await settle()
                assert second.ended
        assert (await client.request("tools/list")).status == 404


async def test_a_stream_needs_a_session_of_its_person(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY) as (_server, relay):
        client, bob = await relay.legacy("alice"), await relay.legacy("bob")
        bob.session = client.session
        for method in ("GET", "DELETE"):
            assert (await bob.post(b"", bob.headers("", {}), method=method)).status == 404
            without = [header for header in client.headers("", {}) if header[0] != "mcp-session-id"]
            assert (await client.post(b"", without, method=method)).status == 405
            stateless = [*without, ("mcp-session-id", client.session or "")]
            stateless = [(key, MODERN if key == "mcp-protocol-version" else value) for key, value in stateless]
            assert (await client.post(b"", stateless, method=method)).status == 405


async def test_subscribing_to_what_is_not_there_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        servers = {"a": FakeServer(nursery), "b": FakeServer(nursery)}
        for name, server in servers.items():
            server.tells_of_changes(f"{name}://it")
        async with open_relay(servers) as relay:
            client = await relay.legacy()
            error = (await client.request("resources/subscribe", {"uri": "mem://nowhere"})).json()["error"]
            assert error["code"] == -32002
            assert (await client.request("resources/unsubscribe", {"uri": "a://it"})).json()["result"] == {}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("bad", [None, [], {"resourceSubscriptions": "mem://a"}, {"resourceSubscriptions": [1]}])
async def test_a_malformed_filter_is_refused(bad: Any) -> None:
    async with one(MODERN) as (_server, relay):
        received = await relay.modern().request("subscriptions/listen", {"notifications": bad})
        assert (received.status, received.json()["error"]["code"]) == (400, -32602)


async def test_capabilities_promise_what_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with one(MODERN) as (server, relay):
        server.tells_of_changes("mem://a")
        await relay.modern().names()
        capabilities = (await relay.modern().request("server/discover")).json()["result"]["capabilities"]
        assert capabilities["tools"] == {"listChanged": True}
        assert capabilities["resources"] == {"listChanged": True, "subscribe": True}
