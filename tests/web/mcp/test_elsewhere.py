"""Two instances over one store: what a client says to one takes effect at the other, for whoever may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from aggregator.protocol.jsonrpc import Success, failure
from aggregator.store.memory import MemoryStore
from aggregator.store.session_rows import SessionRow
from aggregator.upstream.peers import Answered
from aggregator.web.mcp.carried import FIRST_WORD
from aggregator.web.mcp.carried_legs import _parse_outcome, _render_outcome
from aggregator.web.mcp.mailbox import MAX_BODY
from aggregator.web.mcp.running_calls import CANCELLED

from ...fakes.asgi import Ongoing, Received
from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Json, Speaking, ToolFailure
from ...fakes.relay import NOW, LegacyClient, ModernClient, Relay, open_relay, text_of
from .test_conversing import CALL, CAPABILITIES, FORM, ZOE, answer_rounds, asks, legacy_client, zoe

WITHIN = 1.5  # seconds in which what is said at one instance takes effect at the other

in_both_revisions = pytest.mark.parametrize("revision", [MODERN, LEGACY])


class CountingStore(MemoryStore):
    """Counts the looks at session rows."""

    looks = 0

    async def find_session(self, session: str) -> SessionRow | None:
        self.looks += 1
        return await super().find_session(session)


@asynccontextmanager
async def pair(revision: str, **config: Any) -> AsyncIterator[tuple[FakeServer, Relay, Relay]]:
    """Two instances before one upstream, ``up``."""
    store = CountingStore(clock=lambda: NOW + trio.current_time())
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, revision, name="up")
        server.tells_of_changes("mem://a", "mem://b")
        async with (
            open_relay({"up": server}, store=store, **config) as one,
            open_relay({"up": server}, store=store, **config) as two,
        ):
            yield server, one, two
            nursery.cancel_scope.cancel()


def twin(client: LegacyClient, relay: Relay, person: str | None = None) -> LegacyClient:
    """The same client, whose requests reach the other instance."""
    other = LegacyClient(relay, person or client.person)
    other.session = client.session
    return other


async def question_in(ongoing: Ongoing) -> Json:
    (question,) = await ongoing.wait_messages(1)
    assert isinstance(question, dict)
    return question


async def say(client: LegacyClient, id: str, result: Json = ZOE) -> Received:
    body = json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode()
    return await client.post(body, client.headers("", {}))


@in_both_revisions
async def test_an_answer_that_lands_elsewhere_is_brought_to_the_call(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair(revision) as (server, one, two):
        asks(server, ("elicitation/create", FORM))
        client = await legacy_client(one)
        async with client.open("tools/call", CALL) as ongoing:
            question = await question_in(ongoing)
            asked_at = trio.current_time()
            assert (await say(twin(client, two), question["id"])).status == 202
            await ongoing.done.wait()
            assert ongoing.messages()[-1]["result"]["content"][0]["text"] == str([ZOE])
            assert trio.current_time() - asked_at < WITHIN


@pytest.mark.requirement("RS6")
async def test_an_answer_of_somebody_else_or_of_another_session_counts_nowhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair(LEGACY) as (server, one, two):
        asks(server, ("elicitation/create", FORM))
        client = await legacy_client(one)
        async with client.open("tools/call", CALL) as ongoing:
            question = await question_in(ongoing)
            await say(await legacy_client(two, "bob"), question["id"])
            await say(await legacy_client(two), question["id"])  # hers, but another session
            assert (await say(twin(client, two, "bob"), question["id"])).status == 404
            await trio.sleep(5)
            assert not ongoing.done.is_set()
            assert len(one.questions) == 1
            await say(client, question["id"])
            await ongoing.done.wait()


@pytest.mark.parametrize("id", ["x", "*.AAAAAAAAAAAAAAAA", "0123456789ab", "0123456789ab.short", 7])
async def test_what_is_no_id_of_ours_is_refused_where_it_lands(id: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with pair(LEGACY) as (_, one, _two):
        assert (await say(await legacy_client(one), id)).status == 400


@in_both_revisions
async def test_a_cancellation_that_lands_elsewhere_ends_the_call(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def forever(speaking: Speaking) -> Json:
        await trio.sleep_forever()
        raise AssertionError

    async with pair(revision) as (server, one, two):
        server.tool("run", forever)
        client = await legacy_client(one)
        async with client.open("tools/call", {"name": "up__run"}, id="mine") as ongoing:
            await trio.sleep(3)
            bob = await legacy_client(two, "bob")
            await bob.notify("notifications/cancelled", {"requestId": "mine"})
            await (await legacy_client(two)).notify("notifications/cancelled", {"requestId": "mine"})
            await trio.sleep(3)
            assert not ongoing.done.is_set(), "neither another person nor another session"
            told_at = trio.current_time()
            received = await twin(client, two).notify("notifications/cancelled", {"requestId": "mine"})
            assert received.status == 202
            await ongoing.done.wait()
            assert trio.current_time() - told_at < WITHIN
            assert ongoing.messages()[-1]["error"]["code"] == CANCELLED
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.cancelled) == 1


async def test_a_log_level_set_elsewhere_holds_for_the_next_call(autojump_clock: trio.testing.MockClock) -> None:
    async def speak(speaking: Speaking) -> Json:
        for level in ("info", "error"):
            await speaking.log(level, level)
        return {"content": []}

    async with pair(MODERN) as (server, one, two):
        server.tool("run", speak)
        client = await legacy_client(one)
        elsewhere = twin(client, two)
        for each in (client, elsewhere):
            assert len((await each.request("tools/call", {"name": "up__run"})).messages()) == 3
        assert (await elsewhere.request("logging/setLevel", {"level": "error"})).json()["result"] == {}
        await trio.sleep(WITHIN)
        for each in (client, elsewhere):
            assert len((await each.request("tools/call", {"name": "up__run"})).messages()) == 2


@in_both_revisions
async def test_what_is_subscribed_to_elsewhere_is_told_on_the_open_stream(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair(revision) as (server, one, two):
        client = await legacy_client(one)
        elsewhere = twin(client, two)
        async with client.open_stream() as ongoing:
            await trio.sleep(1)
            assert (await elsewhere.request("resources/subscribe", {"uri": "mem://a"})).json()["result"] == {}
            await trio.sleep(WITHIN + 1)
            await server.announce("notifications/resources/updated", uri="mem://a")
            await trio.sleep(1)
            assert updates(ongoing) == ["mem://a"]
            await elsewhere.request("resources/unsubscribe", {"uri": "mem://a"})
            await trio.sleep(WITHIN)
            await server.announce("notifications/resources/updated", uri="mem://a")
            await trio.sleep(1)
            assert updates(ongoing) == ["mem://a"]


async def test_a_stream_opened_elsewhere_knows_what_was_subscribed_to(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(LEGACY) as (server, one, two):
        client = await legacy_client(one)
        await client.request("resources/subscribe", {"uri": "mem://b"})
        async with twin(client, two).open_stream() as ongoing:
            await trio.sleep(2)
            await server.announce("notifications/resources/updated", uri="mem://b")
            await trio.sleep(1)
            assert updates(ongoing) == ["mem://b"]


async def test_a_session_that_ends_elsewhere_ends_everywhere(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(LEGACY) as (_, one, two):
        client = await legacy_client(one)
        elsewhere = twin(client, two)
        async with client.open_stream() as ongoing:
            await trio.sleep(1)
            received = await elsewhere.post(b"", elsewhere.headers("", {}), method="DELETE")
            assert received.status == 204
            with trio.fail_after(WITHIN):
                await ongoing.done.wait()
        for each in (client, elsewhere):
            assert (await each.request("ping")).status == 404


@pytest.mark.parametrize("pause", [0.0, 5.0])
async def test_the_newest_stream_of_a_session_replaces_those_elsewhere(
    pause: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair(LEGACY) as (_, one, two):
        client = await legacy_client(one)
        async with client.open_stream() as older:
            await older.wait_messages(0)
            await trio.sleep(0.01 + pause)
            async with twin(client, two).open_stream() as newer:
                with trio.fail_after(WITHIN):
                    await older.done.wait()
                await trio.sleep(10)
                assert not newer.done.is_set()


async def test_a_client_that_says_nothing_costs_one_look_at_the_store_by_each_other_instance(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair(LEGACY) as (_, one, two):
        store = one.mailbox._store
        assert isinstance(store, CountingStore)
        client = await legacy_client(one)
        for _ in range(5):
            await client.request("ping")
        assert store.looks == 0, "it began here"
        for _ in range(5):
            await twin(client, two).request("ping")
        assert store.looks == 1


def updates(ongoing: Ongoing) -> list[str]:
    return [
        message["params"]["uri"]
        for message in ongoing.messages()
        if message["method"] == "notifications/resources/updated"
    ]


# Parked calls


def modern(relay: Relay, person: str = "alice") -> ModernClient:
    return relay.modern(person, meta={f"{META}clientCapabilities": CAPABILITIES})


async def leg(relay: Relay, state: Json | None = None, person: str = "alice", **changes: Any) -> Json:
    params: Json = {**CALL, **changes}
    if state is not None:
        params["requestState"] = state["requestState"]
        params["inputResponses"] = dict.fromkeys(state["inputRequests"], ZOE)
    message: Json = (await modern(relay, person).request("tools/call", params)).messages()[-1]
    return message


async def test_a_retry_that_lands_elsewhere_goes_on_with_the_parked_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair(LEGACY) as (server, one, two):
        asks(server, ("elicitation/create", FORM), ("elicitation/create", FORM))
        first = (await leg(one))["result"]
        began = trio.current_time()
        second = (await leg(two, first))["result"]  # it asks again, and is parked where it was
        assert second["resultType"] == "input_required"
        last = await leg(two, second)
        assert last["result"]["content"][0]["text"] == str([ZOE, ZOE])
        assert trio.current_time() - began < 2 * WITHIN
        assert len(server.calls()) == 1
        await trio.sleep(1)
        assert one.is_idle()
        assert two.is_idle()


async def test_a_failure_of_the_call_is_brought_back_too(autojump_clock: trio.testing.MockClock) -> None:
    async def fail(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", **FORM)
        raise ToolFailure({"code": -32099, "message": "no", "data": {"why": "because"}})

    async with pair(LEGACY) as (server, one, two):
        server.tool("ask", fail)
        first = (await leg(one))["result"]
        assert (await leg(two, first))["error"] == {"code": -32099, "message": "no", "data": {"why": "because"}}


async def test_a_leg_elsewhere_is_bounded_by_the_upstreams_own_time(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", **FORM)
        await trio.sleep(1000)
        return {"content": []}

    async with pair(LEGACY) as (server, one, two):
        server.tool("ask", slow)
        first = (await leg(one))["result"]
        await trio.sleep(100)  # a person's time, which does not count
        began = trio.current_time()
        assert "no answer within toolTimeout (60 s)" in text_of(await leg(two, first))
        assert 55 < trio.current_time() - began < 65
        assert one.is_idle()


@pytest.mark.requirement("MR1")
@pytest.mark.parametrize("wrong", [{"person": "bob"}, {"arguments": {"other": 1}}])
async def test_a_state_of_somebody_else_or_of_another_call_goes_on_with_nothing(
    wrong: Json, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair(LEGACY) as (server, one, two):
        asks(server, ("elicitation/create", FORM))
        first = (await leg(one))["result"]
        assert (await leg(two, first, **wrong))["error"]["code"] == -32602
        assert (await leg(two, first))["result"]["content"][0]["text"] == str([ZOE])


async def test_a_call_whose_instance_has_gone_is_told_so_within_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore(clock=lambda: NOW + trio.current_time())
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, LEGACY, name="up")
        asks(server, ("elicitation/create", FORM))
        async with open_relay({"up": server}, store=store) as two:
            async with open_relay({"up": server}, store=store) as one:
                first = (await leg(one))["result"]
            began = trio.current_time()
            answer = await leg(two, first)
            assert (answer["error"]["code"], "Call again" in answer["error"]["message"]) == (-32602, True)
            assert trio.current_time() - began < FIRST_WORD + 1
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_takes_the_call_with_it(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", **FORM)
        await trio.sleep(50)
        return {"content": []}

    async with pair(LEGACY) as (server, one, two):
        server.tool("ask", slow)
        state = (await leg(one))["result"]
        params = {**CALL, "requestState": state["requestState"]}
        params["inputResponses"] = dict.fromkeys(state["inputRequests"], ZOE)
        async with modern(two).open("tools/call", params):
            await trio.sleep(10)
            assert len(one.parking) == 1
        await trio.sleep(3)
        assert one.is_idle()
        assert len(server.cancelled) == 1


async def test_every_leg_may_come_to_another_instance(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(LEGACY) as (server, one, two):
        asks(server, *[("elicitation/create", FORM)] * 4)
        client = modern(one)
        relays = [two, one, two, one, two]

        async def answering(method: str, params: Json) -> Json:
            client._browser = modern(relays.pop(0))._browser
            return await zoe(method, params)

        results = await answer_rounds(client, CALL, answering)
        assert results[-1]["result"]["content"][0]["text"] == str([ZOE] * 4)


async def test_an_answer_that_is_too_large_to_be_brought_back_is_told_in_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def much(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", **FORM)
        return {"content": [{"type": "text", "text": "x" * MAX_BODY}]}

    async with pair(LEGACY) as (server, one, two):
        server.tool("ask", much)
        first = (await leg(one))["result"]
        assert "could not be brought to the instance that was asked" in text_of(await leg(two, first))


@pytest.mark.parametrize(
    "outcome",
    [
        Answered(Success("x", {"content": []}), MODERN),
        Answered(failure(7, -32099, "no", {"a": 1}), LEGACY),
        ConnectNeeded("up", "it asks for a login"),
        UpstreamRefused(503, "HTTP 503", retry_after=7.0),
        UpstreamLost("broke off", executed=False),
        UpstreamLost("broke off"),
        trio.TooSlowError(),
        None,
    ],
)
def test_however_a_leg_ends_it_ends_the_same_at_the_other_instance(outcome: Any) -> None:
    brought = _parse_outcome(json.loads(json.dumps(_render_outcome(outcome))))
    if not isinstance(outcome, Exception):
        assert brought == outcome
        return
    assert type(brought) is type(outcome)
    assert (str(brought), vars(brought)) == (str(outcome), vars(outcome))


def test_another_failure_is_told_as_that_of_the_upstream() -> None:
    brought = _parse_outcome(_render_outcome(StoreUnavailable("disk full")))
    assert isinstance(brought, UpstreamLost)
    assert str(brought) == "disk full"
