from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio

from aggregator.config.model import ConnectRetry, StdioUpstream
from aggregator.protocol.principal import Principal
from aggregator.upstream.authorized import AuthorizedUpstream
from aggregator.upstream.commands.child import Command
from aggregator.upstream.commands.upstream import open_command
from aggregator.upstream.credentials import ConfiguredCredentials
from aggregator.upstream.listing import AHEAD
from aggregator.upstream.listings import DEFAULT_TTL, FIRST_RETRY, LAST_RETRY, SHORTEST_TTL, Listings

from ..fakes.child import FakeChild, FakeStarts, modern
from ..fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Raw
from ..fakes.relay import Relay, open_relay, text_of

Servers = dict[str, FakeServer]


@asynccontextmanager
async def many(
    names: str, *, upstreams: Mapping[str, Mapping[str, Any]] | None = None, retry: ConnectRetry | None = None
) -> AsyncIterator[tuple[Servers, Relay]]:
    """Upstreams by the letters of `names`, alternately of both revisions, each with one tool ``t``."""
    async with trio.open_nursery() as nursery:
        servers = {
            name: FakeServer(nursery, MODERN if i % 2 == 0 else LEGACY, name=name) for i, name in enumerate(names)
        }
        for server in servers.values():
            server.tool("t")
        async with open_relay(servers, upstreams=upstreams, connect_retry=retry or ConnectRetry()) as relay:
            yield servers, relay
        nursery.cancel_scope.cancel()


async def names(relay: Relay) -> list[str]:
    return [name for name in await relay.modern().names() if not name.startswith("gateway__")]


async def states(relay: Relay) -> dict[str, Any]:
    answer = await relay.modern().call("gateway__status")
    return {row["name"]: row for row in json.loads(answer["result"]["content"][0]["text"])["servers"]}


def answering(*chunks: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Any:
    async def script(incoming: Incoming) -> Raw:
        return Raw(status, {"content-type": kind, **headers}, chunks)

    return script


async def test_three_bad_upstreams_of_ten_do_not_keep_the_others_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("abcdefghij") as (servers, relay):
        servers["c"].hung = True
        servers["f"].dead = "cannot connect (refused)"
        servers["h"].scripts["tools/list"] = answering(b"<h1>", kind="text/html")
        expected = [f"{name}__t" for name in "abdegij"]
        started = trio.current_time()
        assert await names(relay) == expected
        assert trio.current_time() - started == pytest.approx(5.0)
        started = trio.current_time()
        assert await names(relay) == expected
        assert trio.current_time() == started, "nobody waits for it a second time"
        rows = await states(relay)
        assert trio.current_time() == started
        assert rows["a"]["state"] == "connected"
        assert (rows["c"]["state"], rows["c"]["lastError"]) == ("unreachable", "no list within 5 s")
        assert "cannot connect (refused)" in rows["f"]["lastError"]
        assert "text/html" in rows["h"]["lastError"]


async def test_a_list_without_a_slow_upstream_arrives_with_the_slowest_of_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(incoming: Incoming) -> None:
        await trio.sleep(0.5)

    async with many("ab") as (servers, relay):
        servers["a"].before = slow
        assert await names(relay) == ["a__t", "b__t"]
        assert trio.current_time() == pytest.approx(1.0)  # discovery and the list itself
        assert (await states(relay))["a"]["latencyMs"] == pytest.approx(1000)


async def test_each_upstream_has_its_own_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with many("ab", upstreams={"a": {"discovery_timeout": 1.5}}) as (servers, relay):
        servers["a"].hung = True
        assert await names(relay) == ["b__t"]
        assert trio.current_time() == pytest.approx(1.5)


@pytest.mark.parametrize("fault", ["hung", "dead", "garbage", "refusing"])
@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_recovery_is_noticed_without_anybody_asking(
    name: str, fault: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with many("abc") as (servers, relay):
        server = servers[name]
        match fault:
            case "hung":
                server.hung = True
            case "dead":
                server.dead = "cannot connect"
            case "garbage":
                server.scripts["tools/list"] = server.scripts["server/discover"] = answering(b"{")
            case _:
                server.scripts["server/discover"] = server.scripts["initialize"] = answering(status=503)
        assert len(await names(relay)) == 2
        await trio.sleep(3600)
        server.hung, server.dead = False, None
        server.scripts.clear()
        await trio.sleep(LAST_RETRY * 1.2 + 1)
        before = len(server.requests)
        assert await names(relay) == ["a__t", "b__t", "c__t"], "the first list after the recovery has it"
        assert (await states(relay))[name]["state"] == "connected"
        assert len(server.requests) - before <= 3


async def test_a_dead_upstream_is_tried_ever_more_rarely(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a") as (servers, relay):
        tried: list[float] = []

        async def refuse(incoming: Incoming) -> Raw:
            tried.append(trio.current_time())
            return Raw(500)

        servers["a"].scripts["server/discover"] = refuse
        await names(relay)
        await trio.sleep(1200)
        gaps = [later - earlier for earlier, later in pairwise(tried)]
        assert FIRST_RETRY * 0.8 <= gaps[0] <= FIRST_RETRY * 1.2
        assert all(LAST_RETRY * 0.8 <= gap <= LAST_RETRY * 1.2 for gap in gaps[7:])
        assert 12 < len(tried) < 20


async def test_a_dead_upstream_is_tried_as_often_as_is_configured(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a", retry=ConnectRetry(max_delay=10.0)) as (servers, relay):
        servers["a"].dead = "cannot connect"
        await names(relay)
        await trio.sleep(1200)
        servers["a"].dead = None
        await trio.sleep(12.1)
        assert (await states(relay))["a"]["state"] == "connected"


async def test_if_nothing_is_retried_it_is_tried_when_somebody_asks(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a", retry=ConnectRetry(enabled=False)) as (servers, relay):
        tried: list[float] = []

        async def refuse(incoming: Incoming) -> Raw:
            tried.append(trio.current_time())
            return Raw(500)

        servers["a"].scripts["server/discover"] = refuse
        for _ in range(20):
            assert await names(relay) == []
        await trio.sleep(80_000)
        assert len(tried) == 1, "neither behind everybody's back nor for each of many at once"
        servers["a"].scripts.clear()
        await names(relay)
        await trio.sleep(0.1)
        assert await names(relay) == ["a__t"]


async def test_if_nothing_is_retried_it_is_tried_at_once_on_demand(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a", retry=ConnectRetry(enabled=False)) as (servers, relay):
        servers["a"].dead = "cannot connect"
        assert await names(relay) == []
        servers["a"].dead = None
        assert relay.listings.try_now() == ("a",)
        await trio.sleep(0.1)
        assert await names(relay) == ["a__t"]


async def test_one_that_crashes_in_a_loop_is_logged_once_per_attempt(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(child: FakeChild) -> None:
        await child.hear()
        await trio.sleep(7)  # longer than a list waits
        child.exit(1)

    config, starts = StdioUpstream("up", "up", command=("server",)), FakeStarts(crash)
    async with trio.open_nursery() as nursery:
        async with open_command("up", Command(("server",), {}), {}, nursery, start=starts) as upstream:
            authorized = AuthorizedUpstream(config, upstream, ConfiguredCredentials(config))
            listings = Listings([authorized], nursery, name_length=64, ours=lambda waiting: ())
            listings.warm()
            await trio.sleep(7200)
            (row,) = listings.status(await listings.view(Principal("https://idp.example.com", "alice")))
        nursery.cancel_scope.cancel()
    assert len(starts.at) > 10
    assert "it is started again in" in str(row.error)
    said = [record.message for record in caplog.records if record.name == "aggregator.upstream.listing"]
    assert said == [
        "upstream up: no list within 5 s: its command was started and has not spoken MCP yet; the log has what it wrote"
    ], "why it ended is said by who runs it"
    ends = [record.message for record in caplog.records if "ended with exit code 1" in record.message]
    assert len(ends) == len(starts.at) / 2, "it is started twice in an attempt, to be met in either way"


async def test_one_that_is_to_start_on_use_is_not_said_to_be_connecting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = StdioUpstream("up", "up", command=("server",), start_on_use=True)
    someone = Principal("https://idp.example.com", "alice")
    async with trio.open_nursery() as nursery:
        async with open_command("up", Command(("server",), {}), {}, nursery, start=FakeStarts(modern)) as upstream:
            authorized = AuthorizedUpstream(config, upstream, ConfiguredCredentials(config))
            listings = Listings([authorized], nursery, name_length=64, ours=lambda waiting: ())
            listings.warm()
            view = await listings.view(someone)
            states = [listings.status(view)[0].state]
            listings.known_catalog(view)  # somebody asks
            states.append(listings.status(view)[0].state)
            await listings.catalog(view)
            states.append(listings.status(view)[0].state)
        nursery.cancel_scope.cancel()
    assert states == ["not_started", "connecting", "connected"]


async def test_an_upstream_that_asks_to_be_left_alone_is(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a") as (servers, relay):
        servers["a"].scripts["server/discover"] = answering(status=429, **{"retry-after": "90"})
        await names(relay)
        await trio.sleep(70)
        await names(relay)
        assert len(servers["a"].requests) == 1
        await trio.sleep(60)
        assert len(servers["a"].requests) == 2


async def test_the_last_good_list_outlives_its_upstream_and_is_marked_stale(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with many("ab") as (servers, relay):
        assert await names(relay) == ["a__t", "b__t"]
        servers["a"].hung = True
        await trio.sleep(DEFAULT_TTL + 1)
        started = trio.current_time()
        assert await names(relay) == ["a__t", "b__t"]
        assert trio.current_time() - started == pytest.approx(5.0), "who comes first after a list has aged waits, once"
        started = trio.current_time()
        assert await names(relay) == ["a__t", "b__t"]
        assert trio.current_time() == started
        row = (await states(relay))["a"]
        assert (row["state"], row["stale"], row["tools"]) == ("unreachable", True, 1)
        await trio.sleep(1000)
        assert sum("no list within" in record.message for record in caplog.records) == 1, "said once, not at each try"
        servers["a"].hung = False
        with caplog.at_level(logging.INFO, "aggregator.upstream.listing"):
            await trio.sleep(LAST_RETRY * 1.2 + 1)
        assert "stale" not in (await states(relay))["a"]
        assert any("answers again" in record.message for record in caplog.records)


async def test_a_list_that_has_aged_shows_what_is_new(autojump_clock: trio.testing.MockClock) -> None:
    async with many("ab") as (servers, relay):
        await names(relay)
        for server in servers.values():
            server.tool("new")
        assert len(await names(relay)) == 2
        await trio.sleep(DEFAULT_TTL + 1)
        assert await names(relay) == ["a__t", "a__new", "b__t", "b__new"]


async def test_a_list_that_is_about_to_age_is_made_anew_while_nobody_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("ab") as (servers, relay):

        async def slow(incoming: Incoming) -> None:
            await trio.sleep(3)

        await names(relay)
        servers["a"].before = servers["b"].before = slow
        servers["a"].tool("new")
        shown = set()
        for _ in range(60):
            await trio.sleep(5)
            started = trio.current_time()
            shown = set(await names(relay))
            assert trio.current_time() == started
        assert "a__new" in shown
        for server in servers.values():
            asked = [call.opened_at for call in server.calls("tools/list")]
            assert all(later - earlier >= AHEAD * DEFAULT_TTL for earlier, later in pairwise(asked))
            assert len(asked) > 5


@pytest.mark.parametrize(
    ("ttl", "told", "kept"),
    [(0, 0.0, SHORTEST_TTL), (2000, 2.0, SHORTEST_TTL), (20_000, 20.0, 20.0), (10**12, 3600.0, 3600.0)],
)
async def test_an_upstreams_time_to_live_is_kept_within_reason(
    ttl: int, told: float, kept: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Clients are told no longer one than the upstream said; it is asked every few seconds at most."""
    async with many("a") as (servers, relay):
        servers["a"].ttl = ttl

        async def life() -> float:
            milliseconds: int = (await relay.modern().request("tools/list")).json()["result"]["ttlMs"]
            return milliseconds / 1000

        assert await life() == pytest.approx(told, abs=0.002)
        await trio.sleep(kept * AHEAD - 0.5)
        assert await life() == pytest.approx(max(told - kept * AHEAD + 0.5, 0), abs=0.002)
        assert len(servers["a"].calls("tools/list")) == 1
        await trio.sleep(kept)
        await names(relay)
        assert len(servers["a"].calls("tools/list")) == 2


async def test_a_cold_call_does_not_wait_for_somebody_elses_upstream(autojump_clock: trio.testing.MockClock) -> None:
    async with many("abc", upstreams={"c": {"prefix": ""}}) as (servers, relay):
        servers["a"].hung = servers["c"].hung = True
        assert "result" in await relay.modern().call("b__t")
        assert trio.current_time() < 0.1


async def test_a_cold_call_waits_for_the_first_that_may_own_the_name(autojump_clock: trio.testing.MockClock) -> None:
    async with many("ab", upstreams={"a": {"prefix": ""}}) as (servers, relay):
        servers["a"].hung = True
        assert "result" in await relay.modern().call("b__t")
        assert trio.current_time() == pytest.approx(5.0)
        started = trio.current_time()
        assert "result" in await relay.modern().call("b__t")
        assert trio.current_time() == started


async def test_a_cold_call_to_the_hung_one_itself_is_answered_at_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("a") as (servers, relay):
        servers["a"].hung = True
        assert "upstream a: no list within 5 s" in text_of(await relay.modern().call("a__t"))
        assert trio.current_time() == pytest.approx(5.0)


async def test_a_tool_that_is_new_can_be_called_before_the_list_has_aged(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("ab") as (servers, relay):
        await names(relay)
        servers["a"].tool("new")
        await trio.sleep(SHORTEST_TTL)
        assert "result" in await relay.modern().call("a__new")
        for _ in range(20):
            assert "error" in await relay.modern().call("a__none")
        assert len(servers["a"].calls("tools/list")) == 2, "unknown names do not make us ask again and again"
        assert len(servers["b"].calls("tools/list")) == 1


async def test_a_change_at_one_upstream_does_not_make_calls_to_another_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("ab") as (servers, relay):
        await names(relay)
        servers["a"].tool("new")
        await trio.sleep(DEFAULT_TTL + 1)
        await names(relay)
        servers["b"].scripts["tools/list"] = answering(status=500)
        before = len(servers["b"].calls("tools/list"))
        assert "result" in await relay.modern().call("b__t")
        assert len(servers["b"].calls("tools/list")) == before


async def test_a_tool_whose_headers_changed_is_listed_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with many("a") as (servers, relay):
        await names(relay)
        await trio.sleep(10)
        schema = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "R"}}}
        servers["a"].tools[0]["inputSchema"] = schema
        legacy = await relay.legacy()
        assert "(-32020)" in text_of(await legacy.call("a__t", {"r": "x"}))
        await trio.sleep(0.1)
        assert "result" in await legacy.call("a__t", {"r": "x"})


HOSTILE: dict[str, Any] = {
    "type that is a list": {"inputSchema": {"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}}},
    "name that is half a character": {"name": "\ud800"},
    "title that is half a character": {"title": "\ud800"},
    "name of another kind": {"name": 7},
    "no name": {"name": ""},
    "schema of another kind": {"inputSchema": []},
    "annotations of another kind": {"annotations": [], "title": 1, "description": {}},
    "long name": {"name": "x" * 100_000},
    "infinite": {"big": float("inf")},
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_no_tool_of_one_upstream_can_spoil_everybodys_list(case: str) -> None:
    async with many("ab") as (servers, relay):
        servers["a"].tools.append({"name": "odd", "inputSchema": {}, **HOSTILE[case]})
        listed = await names(relay)
        assert listed[-1] == "b__t"
        assert (await states(relay))["b"]["state"] == "connected"
        for name in listed:
            answer = await relay.modern().call(name)
            assert "result" in answer or answer["error"]["code"] == -32602
        assert "result" in await (await relay.legacy()).call("b__t")


@pytest.mark.requirement("JS1")
async def test_a_deeply_nested_tool_is_garbage() -> None:
    for depth in (100, 120, 150, 400, 900, 990, 5000):
        async with many("ab") as (servers, relay):
            nested = b'{"a":' * depth + b"1" + b"}" * depth

            async def script(incoming: Incoming, nested: bytes = nested) -> Raw:
                id = json.dumps(incoming.message["id"]).encode()
                listing = b'{"tools":[{"name":"deep","inputSchema":' + nested + b"}]}"
                return Raw(chunks=[b'{"jsonrpc":"2.0","id":' + id + b',"result":' + listing + b"}"])

            servers["a"].scripts["tools/list"] = script
            assert await names(relay) == (["a__deep", "b__t"] if depth <= 120 else ["b__t"])
            await trio.testing.wait_all_tasks_blocked()
            assert await names(relay) == (["a__deep", "b__t"] if depth <= 120 else ["b__t"])


@pytest.mark.parametrize("prefix", ["", "a"])
async def test_a_name_belongs_to_the_first_configured_and_the_loser_is_reported(prefix: str) -> None:
    async with many("ab", upstreams={"a": {"prefix": prefix}, "b": {"prefix": ""}}) as (servers, relay):
        servers["a"].tool("own")
        servers["b"].tool("a__t" if prefix else "T")
        servers["b"].tool("gateway__status")
        servers["b"].tool("Gateway__x")
        listed = await names(relay)
        assert len({name.casefold() for name in listed}) == len(listed)
        left_out = (await states(relay))["b"]["leftOut"]
        assert any("already belongs to a" in reason for reason in left_out)
        assert sum("gateway__" in reason for reason in left_out) == 2
        await relay.modern().call("a__t" if prefix else "t")
        assert len(servers["a"].calls()) == 1
        assert not servers["b"].calls()


async def test_nobody_takes_over_the_names_of_an_upstream_that_is_down(autojump_clock: trio.testing.MockClock) -> None:
    async with many("ab", upstreams={"b": {"prefix": ""}}) as (servers, relay):
        servers["a"].dead = "cannot connect"
        servers["b"].tool("a__t")
        servers["b"].tool("A__other")
        assert await names(relay) == ["t"]
        assert len((await states(relay))["b"]["leftOut"]) == 2
        assert "upstream a: cannot connect" in text_of(await relay.modern().call("a__t"))
        assert not servers["b"].calls()
        servers["a"].dead = None
        await trio.sleep(LAST_RETRY * 1.2)
        assert await names(relay) == ["a__t", "t", "A__other"]
        await relay.modern().call("a__t")
        assert (len(servers["a"].calls()), len(servers["b"].calls())) == (1, 0)


async def test_many_reasons_are_cut_short() -> None:
    async with many("a") as (servers, relay):
        for i in range(500):
            servers["a"].tools.append({"name": f"{i}" + "x" * 10_000, "inputSchema": 1})
        left_out = (await states(relay))["a"]["leftOut"]
        assert len(left_out) == 21
        assert left_out[-1] == "and 480 more"
        assert all(len(reason) < 400 for reason in left_out)


async def test_filters_choose_by_an_upstreams_own_names() -> None:
    from aggregator.config.model import ToolFilter

    filters = {"a": {"tools": ToolFilter(("get_*", "t"), ("*_secret",))}}
    async with many("a", upstreams=filters) as (servers, relay):
        for name in ("get_a", "get_secret", "set_a", "GET_b"):
            servers["a"].tool(name)
        assert await names(relay) == ["a__t", "a__get_a"]
        for name in ("a__get_secret", "a__set_a"):
            assert (await relay.modern().call(name))["error"]["code"] == -32602
        assert not servers["a"].calls()


async def test_an_asker_who_gives_up_leaves_the_list_usable(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelled after every number of checkpoints that a cold list takes."""
    for checkpoints in range(40):
        async with many("ab") as (_, relay):
            with trio.CancelScope() as scope:

                async def cancel(scope: trio.CancelScope = scope, checkpoints: int = checkpoints) -> None:
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                relay.nursery.start_soon(cancel)
                await relay.listings.catalog(await relay.listings.view(Principal("https://idp.example.com", "alice")))
            assert await names(relay) == ["a__t", "b__t"]
            assert relay.is_idle()


async def test_nothing_is_asked_before_the_first_question_unless_warmed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with many("ab") as (servers, relay):
        await trio.sleep(100)
        assert not servers["a"].requests
        relay.listings.warm()
        await trio.sleep(1)
        assert len(servers["a"].calls("tools/list")) == 1
        before = trio.current_time()
        assert await names(relay) == ["a__t", "b__t"]
        assert trio.current_time() == before


async def test_on_one_persons_machine_a_list_waits_a_moment_only_and_the_rest_comes_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(incoming: Incoming) -> None:
        await trio.sleep(1.2)  # for discovery, and again for the list

    async with many("abc") as (servers, relay):
        servers["a"].before = slow
        servers["b"].hung = True
        relay.listings._patience = 1.5
        started = trio.current_time()
        assert await names(relay) == ["c__t"]
        assert trio.current_time() - started == pytest.approx(1.5)
        await trio.sleep(2)
        started = trio.current_time()
        assert await names(relay) == ["a__t", "c__t"]
        assert trio.current_time() - started <= 1.5
