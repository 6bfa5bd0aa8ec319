"""A client whose connection broke comes back with `Last-Event-ID`, here or at another instance (2025-11-25)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.web.mcp.kept_streams import KEPT_FOR, LOOK, OF_STREAM

from ...fakes.asgi import Ongoing, Received
from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Json, Speaking
from ...fakes.relay import LegacyClient, Relay, one, text_of
from .test_conversing import CALL, FORM, ZOE, asks, legacy_client
from .test_elsewhere import say

COUNT: Json = {"name": "up__count", "arguments": {}, "_meta": {"progressToken": "p"}}
SLOW: Json = {"name": "up__slow", "arguments": {}}


def take_up(client: LegacyClient, last_event: str) -> AbstractAsyncContextManager[Ongoing]:
    return client._browser.open("GET", "/mcp", going_on(client, last_event))


def going_on(client: LegacyClient, last_event: str) -> list[tuple[str, str]]:
    headers = [header for header in client.headers("", {}) if header[0] not in ("accept", "content-type")]
    return [*headers, ("accept", "text/event-stream"), ("last-event-id", last_event)]


def start(relay: Relay, client: LegacyClient, params: Json, id: Any = 1) -> Ongoing:
    """A call that runs on when its client disconnects."""
    body = client.encode("tools/call", params, id)
    return client._browser.start(relay.nursery, "POST", "/mcp", client.headers("tools/call", params), body)


async def rest(client: LegacyClient, last_event: str) -> Received:
    """What follows, to the end of the stream."""
    async with take_up(client, last_event) as ongoing:
        await ongoing.done.wait()
        return ongoing


def counts(server: FakeServer, *, pause: float = 10.0, to: int = 3) -> None:
    async def count(speaking: Speaking) -> Json:
        for number in range(1, to + 1):
            await speaking.progress(number)
            await trio.sleep(pause)
        return {"content": [{"type": "text", "text": "counted"}]}

    async def slow(speaking: Speaking) -> Json:
        await trio.sleep(30)
        return {"content": [{"type": "text", "text": "slow"}]}

    server.tool("count", count)
    server.tool("slow", slow)


def told(messages: list[Any]) -> list[Any]:
    """Progress as numbers, an answer as its text."""
    return [
        message["params"]["progress"] if "params" in message else message["result"]["content"][0]["text"]
        for message in messages
    ]


async def broken(relay: Relay, client: LegacyClient, params: Json, messages: int, id: Any = 1) -> str:
    """Call, and lose the connection when so many messages have come; the id of the last event."""
    ongoing = start(relay, client, params, id)
    await ongoing.wait_messages(messages)
    if not messages:
        await trio.sleep(15)  # until something means nothing but that we are there
    ongoing.disconnect()
    assert not ongoing.done.is_set()
    return ongoing.event_ids()[-1]


@pytest.mark.parametrize("upstream", [MODERN, LEGACY])
async def test_a_call_whose_connection_broke_is_answered_where_it_is_taken_up(
    upstream: str, autojump_clock: MockClock
) -> None:
    async with one(upstream) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1)
        assert told((await rest(client, last)).messages()) == [2, 3, "counted"]
        assert len(server.calls()) == 1


async def test_an_answer_that_came_while_nobody_was_there_waits_a_minute(
    autojump_clock: MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 2)
        await trio.sleep(30 + KEPT_FOR / 2)
        assert told((await rest(client, last)).messages()) == [3, "counted"]
        assert told((await rest(client, last)).messages()) == [3, "counted"], "once more, if that was not enough"


async def test_a_silent_call_becomes_a_stream_that_can_be_taken_up(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, SLOW, 0)
        received = await rest(client, last)
        assert told(received.messages()) == ["slow"]
        assert received.event_ids()[0] == last, "primed, so that it can break once more before anything comes"


async def test_the_first_event_of_a_stream_primes_and_says_when_to_come_back(
    autojump_clock: MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        received = await (await relay.legacy()).request("tools/call", COUNT)
        first, second, *_ = received.body.decode().split("\n\n")
        assert first.split("\n")[1:] == ["retry: 1000", "data:"]
        assert first.startswith("id: ")
        assert second.startswith("event: message\nid: ")
        assert len(set(received.event_ids())) == 5


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-03-26", "2024-11-05"])
async def test_an_older_client_gets_ids_and_no_event_of_empty_data(revision: str, autojump_clock: MockClock) -> None:
    """Their SDKs take empty data for a message that they cannot read."""
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await older(relay, revision)
        received = await client.request("tools/call", COUNT)
        assert b"data:\n" not in received.body
        assert b"retry:" not in received.body
        assert len(received.event_ids()) == 4
        again = await rest(client, received.event_ids()[1])
        assert told(again.messages()) == [3, "counted"]
        assert b"data:\n" not in again.body
        silent = await client.request("tools/call", SLOW)
        assert b"data:\n" not in silent.body


async def older(relay: Relay, revision: str) -> LegacyClient:
    client = LegacyClient(relay, "alice")
    params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    client.session = (await client.request("initialize", params)).headers["mcp-session-id"]
    return client


async def test_a_client_without_a_session_or_of_2026_gets_no_ids(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        nobody = await relay.legacy()
        nobody.session = None
        for client in (nobody, relay.modern()):
            received = await client.request("tools/call", COUNT)
            assert received.is_stream
            assert b"id: " not in received.body.replace(b'"id: ', b"")
            assert b"retry" not in received.body


async def test_what_breaks_again_and_again_is_taken_up_again_and_again(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server, to=5)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1)
        seen: list[Any] = [1]
        while seen[-1] != "counted":
            async with take_up(client, last) as ongoing:
                seen += told(await ongoing.wait_messages(1))
                last = ongoing.event_ids()[-1]
        assert seen == [1, 2, 3, 4, 5, "counted"]


async def test_a_question_on_a_broken_stream_is_asked_again_and_its_answer_counts_once(
    autojump_clock: MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = await legacy_client(relay)
        ongoing = start(relay, client, CALL)
        await ongoing.wait_messages(1)
        before, last = ongoing.event_ids()[:2]
        ongoing.disconnect()
        async with take_up(client, before) as ongoing:
            (question,) = await ongoing.wait_messages(1)
            assert question["method"] == "elicitation/create"
            assert (await say(client, question["id"])).status == 202
            assert (await say(client, question["id"])).status == 400
            await ongoing.done.wait()
            assert ongoing.messages()[-1]["result"]["content"][0]["text"] == str([ZOE])
        assert told((await rest(client, last)).messages()) == [str([ZOE])], "who had the question is not asked again"


async def test_the_newest_taker_has_the_stream_and_the_older_ones_end(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        first = start(relay, client, COUNT)
        await first.wait_messages(1)
        last = first.event_ids()[0]
        async with take_up(client, last) as second:
            await second.wait_messages(1)
            await first.wait_ended()
            third = await rest(client, last)
            await second.done.wait()
        assert told(third.messages()) == [1, 2, 3, "counted"]
        assert told(first.messages()) == [1]
        assert told(second.messages()) == [1]


async def test_a_client_that_takes_a_stream_up_keeps_the_stream_of_its_session(
    autojump_clock: MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        async with client.open_stream() as own:
            await trio.sleep(1)
            await rest(client, await broken(relay, client, COUNT, 1))
            assert not own.done.is_set()
            assert own.messages() == [], "nothing of another stream"
            assert own.event_ids() == []


async def test_two_streams_of_one_session_are_never_mixed(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        other = {**COUNT, "_meta": {"progressToken": "other"}}
        one_, two = start(relay, client, COUNT), start(relay, client, other, 2)
        for stream in (one_, two):
            await stream.wait_messages(1)
            stream.disconnect()
        ids = [stream.event_ids()[-1] for stream in (one_, two)]
        for id, token in zip(ids, ("p", "other"), strict=True):
            messages = (await rest(client, id)).messages()
            assert {message["params"]["progressToken"] for message in messages[:-1]} == {token}


async def test_behind_the_answer_a_client_is_told_to_come_back_no_more(autojump_clock: MockClock) -> None:
    """The TypeScript SDK 1.x comes back behind an error, and behind anything but 204 once more."""
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        received = await client.request("tools/call", COUNT)
        again = await rest(client, received.event_ids()[-1])
        assert (again.status, again.body) == (204, b"")


def words(received: Received) -> str:
    (answer,) = received.messages()
    assert answer["id"] == 1
    return text_of(answer)


@pytest.mark.requirement("RS6")
async def test_nobody_else_gets_anything_of_a_stream_and_nobody_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        alice = await relay.legacy()
        last = await broken(relay, alice, COUNT, 1)
        for stranger in (await relay.legacy("bob"), await relay.legacy("alice")):
            received = await rest(stranger, last)
            assert "the answer is lost" in words(received)
            assert "counted" not in received.body.decode()
        assert told((await rest(alice, last)).messages()) == [2, 3, "counted"]


async def test_who_comes_too_late_is_told_that_the_answer_is_lost(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1)
        await trio.sleep(30 + KEPT_FOR + LOOK)
        received = await rest(client, last)
        assert "may have run; look before you make it again" in words(received)
        assert (await rest(client, received.event_ids()[-1])).status == 204
        assert len(relay.kept) == 0


@pytest.mark.parametrize("id", ["1", "_GET_stream_7", "0123456789ab.x..1", "a" * 5000])
async def test_what_is_no_event_of_ours_is_refused(id: str, autojump_clock: MockClock) -> None:
    async with one(MODERN) as (_, relay):
        received = await rest(await relay.legacy(), id)
        assert received.status == 400
        assert "names no event of ours" in received.body.decode()


async def test_an_id_that_does_not_say_whose_answer_is_lost_is_refused(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1, "x" * 300)
        assert told((await rest(client, last)).messages()) == [2, 3, "counted"]
        await trio.sleep(KEPT_FOR + LOOK)
        assert (await rest(client, last)).status == 400


async def test_a_call_that_was_cancelled_says_so_to_whoever_comes_back(
    autojump_clock: MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1, 77)
        await client.notify("notifications/cancelled", {"requestId": 77})
        assert (await rest(client, last)).messages()[-1]["error"]["message"] == "The request was cancelled"


async def test_the_end_of_the_session_ends_what_was_taken_up(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1)
        async with take_up(client, last) as ongoing:
            await ongoing.wait_messages(1)
            await client.post(b"", client.headers("", {}), method="DELETE")
            await ongoing.done.wait()
            assert told(ongoing.messages()) == [2]
        assert (await rest(client, last)).status == 404


async def test_a_client_that_prefers_a_stream_gets_one_from_the_start(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        headers = [
            (name, "text/event-stream, application/json" if name == "accept" else value)
            for name, value in client.headers("", {})
        ]
        listed = await client.post(client.encode("tools/list", {}, 5), headers)
        assert listed.is_stream
        assert len(listed.event_ids()) == 2
        assert listed.messages()[-1]["result"]["tools"]
        ongoing = client._browser.start(relay.nursery, "POST", "/mcp", headers, client.encode("tools/call", SLOW, 6))
        await ongoing.wait_messages(0)
        await trio.testing.wait_all_tasks_blocked()
        assert len(ongoing.event_ids()) == 1, "primed at once"
        ongoing.disconnect()
        assert told((await rest(client, ongoing.event_ids()[0])).messages()) == ["slow"]


async def test_nothing_is_left_of_calls_whose_clients_never_come_back(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server)
        client = await relay.legacy()
        for _ in range(5):
            await broken(relay, client, COUNT, 1)
        await trio.sleep(30 + KEPT_FOR + LOOK)
        assert (len(relay.kept), relay.kept.size) == (0, 0)
        assert relay.is_idle()


async def test_a_client_that_does_not_read_what_it_took_up_holds_up_nothing(autojump_clock: MockClock) -> None:
    async with one(MODERN) as (server, relay):
        counts(server, pause=0.01, to=3000)
        client = await relay.legacy()
        last = await broken(relay, client, COUNT, 1)
        async with take_up(client, last) as ongoing:
            ongoing.stalls = True
            await trio.sleep(60)
            assert not server.running, "the call has ended"
            assert relay.kept.size < OF_STREAM + 10_000
        assert told((await rest(client, last)).messages())[-1] == "counted"
