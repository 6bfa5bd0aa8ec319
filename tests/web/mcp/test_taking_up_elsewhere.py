"""A client whose connection broke comes back at another instance than the one that runs its call."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aggregator.store.memory import MemoryStore
from aggregator.web.mcp.carried import FIRST_WORD, SILENCE
from aggregator.web.mcp.mailbox import MAX_BODY, MAX_BYTES

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Json, Speaking
from ...fakes.relay import NOW, Relay, open_relay
from .test_elsewhere import pair, twin
from .test_taking_up import COUNT, broken, counts, rest, take_up, told, words


@pytest.mark.parametrize("upstream", [MODERN, LEGACY])
async def test_a_stream_is_taken_up_at_another_instance(upstream: str, autojump_clock: MockClock) -> None:
    async with pair(upstream) as (server, one_, two):
        counts(server)
        client = await one_.legacy()
        last = await broken(one_, client, COUNT, 1)
        received = await rest(twin(client, two), last)
        assert told(received.messages()) == [2, 3, "counted"]
        assert (await rest(twin(client, two), received.event_ids()[-1])).status == 204
        assert told((await rest(client, last)).messages()) == [2, 3, "counted"], "and where it is"


async def test_of_takers_here_and_elsewhere_the_newest_wins(autojump_clock: MockClock) -> None:
    async with pair(MODERN) as (server, one_, two):
        counts(server)
        client = await one_.legacy()
        last = await broken(one_, client, COUNT, 1)
        async with take_up(twin(client, two), last) as elsewhere:
            await elsewhere.wait_messages(1)
            here = await rest(client, last)
            await elsewhere.done.wait()
        assert told(here.messages()) == [2, 3, "counted"]
        assert told(elsewhere.messages())[:1] == [2]


async def test_a_large_answer_is_brought_in_pieces(autojump_clock: MockClock) -> None:
    async def much(speaking: Speaking) -> Json:
        await speaking.progress(1)
        await trio.sleep(10)
        return {"content": [{"type": "text", "text": "é" * (MAX_BODY // 2)}]}

    async with pair(MODERN) as (server, one_, two):
        server.tool("much", much)
        client = await one_.legacy()
        last = await broken(one_, client, {**COUNT, "name": "up__much"}, 1)
        (answer,) = (await rest(twin(client, two), last)).messages()
        assert answer["result"]["content"][0]["text"] == "é" * (MAX_BODY // 2)


async def test_beyond_what_a_person_may_have_brought_a_stream_seems_to_end(autojump_clock: MockClock) -> None:
    async def much(speaking: Speaking) -> Json:
        await speaking.progress(1)
        await trio.sleep(10)
        return {"content": [{"type": "text", "text": "x" * (MAX_BYTES * 2 // 5)}]}

    async with pair(MODERN) as (server, one_, two):
        server.tool("much", much)
        client = await one_.legacy()
        last = await broken(one_, client, {**COUNT, "name": "up__much"}, 1)
        came = [len((await rest(twin(client, two), last)).messages()) for _ in range(3)]
        assert came == [1, 1, 0], "half of an answer is none, and nothing is lost yet"
        assert len((await rest(client, last)).messages()) == 1


@pytest.mark.requirement("RS6")
async def test_nobody_else_gets_anything_of_a_stream_at_another_instance(
    autojump_clock: MockClock,
) -> None:
    async with pair(MODERN) as (server, one_, two):
        counts(server)
        alice = await one_.legacy()
        last = await broken(one_, alice, COUNT, 1)
        began = trio.current_time()
        for stranger in (await two.legacy("bob"), await two.legacy("alice")):
            assert "the answer is lost" in words(await rest(stranger, last))
        assert trio.current_time() - began < FIRST_WORD


async def test_a_stream_whose_instance_has_gone_is_told_to_be_lost_within_seconds(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore(clock=lambda: NOW + trio.current_time())
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, MODERN, name="up")
        counts(server)
        async with open_relay({"up": server}, store=store) as two:
            async with open_relay({"up": server}, store=store) as one_:
                client = await one_.legacy()
                last = await broken(one_, client, COUNT, 1)
            began = trio.current_time()
            assert "the answer is lost" in words(await rest(twin(client, two), last))
            assert trio.current_time() - began < FIRST_WORD + 1
        nursery.cancel_scope.cancel()


async def test_a_stream_whose_instance_goes_while_it_is_read_is_told_to_be_lost(autojump_clock: MockClock) -> None:
    store = MemoryStore(clock=lambda: NOW + trio.current_time())

    async def run(server: FakeServer, *, task_status: trio.TaskStatus[tuple[Relay, trio.CancelScope]]) -> None:
        with trio.CancelScope() as scope:
            async with open_relay({"up": server}, store=store) as relay:
                task_status.started((relay, scope))
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, MODERN, name="up")
        counts(server, pause=15)
        one_, killed = await nursery.start(run, server)
        async with open_relay({"up": server}, store=store) as two:
            client = await one_.legacy()
            last = await broken(one_, client, COUNT, 1)
            async with take_up(twin(client, two), last) as ongoing:
                await trio.sleep(7)
                killed.cancel()
                began = trio.current_time()
                await ongoing.done.wait()
                assert trio.current_time() - began < SILENCE + 1
                assert "the answer is lost" in words(ongoing)
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_lets_the_other_instance_know(autojump_clock: MockClock) -> None:
    async with pair(MODERN) as (server, one_, two):
        counts(server, pause=15)
        client = await one_.legacy()
        last = await broken(one_, client, COUNT, 1)
        async with take_up(twin(client, two), last):
            await trio.sleep(7)
            assert len(one_.taking_up) == 1
        await trio.sleep(2)
        assert len(one_.taking_up) == 0
