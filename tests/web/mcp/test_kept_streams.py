"""What is kept of streams, how much of it, and for how long. Bytes only; who takes a stream up is `test_taking_up`."""

from __future__ import annotations

import pytest
import trio

from aggregator.protocol.jsonrpc import Call
from aggregator.web.mcp.kept_streams import IN_ALL, KEPT_FOR, LOOK, OF_PERSON, OF_STREAM, KeptStream, KeptStreams

CALL = Call(1, "tools/call", {})
LARGE = b'"' + b"x" * 2**20 + b'"'


@pytest.fixture
def kept() -> KeptStreams:
    return KeptStreams("0123456789ab")


class Taker:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def replaced(self) -> None:
        self.heard.append("replaced")

    def asked_to_poll(self, retry: float) -> None:
        self.heard.append(retry)


def begin(kept: KeptStreams, owner: str = "alice", session: str = "s") -> KeptStream:
    return kept.begin(owner, session, [CALL])


def numbers(events: bytes) -> list[str]:
    """The positions of events."""
    return [line.rpartition(b".")[2].decode() for line in events.splitlines() if line.startswith(b"id: ")]


async def test_what_came_after_a_position_is_there_and_nothing_else(kept: KeptStreams) -> None:
    stream = begin(kept)
    sent = [stream.add(b'"a"'), stream.add(b'"b"'), stream.finish(b'"c"')]
    assert stream.after(0) == b"".join(sent)
    assert stream.after(2) == sent[2]
    assert stream.after(3) == b""
    assert numbers(stream.after(0)) == ["1", "2", "3e"]


async def test_a_stream_is_found_by_its_own_person_and_session_only(kept: KeptStreams) -> None:
    stream = begin(kept)
    assert kept.find(stream.name, "alice", "s") is stream
    assert kept.find(stream.name, "bob", "s") is None
    assert kept.find(stream.name, "alice", "other") is None
    assert kept.find(stream.name[:-1], "alice", "s") is None


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_stream_is_kept_while_it_runs_and_a_minute_behind_its_end(
    is_answered: bool, kept: KeptStreams, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        stream = begin(kept)
        await trio.sleep(10 * KEPT_FOR)
        if is_answered:
            stream.finish(b"{}")
        else:
            stream.end()
        assert (stream.is_over, stream.is_answered) == (True, is_answered)
        await trio.sleep(KEPT_FOR - 1)
        assert kept.find(stream.name, "alice", "s") is stream
        await trio.sleep(1 + LOOK)
        assert (len(kept), kept.size) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_of_many_messages_before_the_answer_the_newest_are_kept_and_always_the_answer(kept: KeptStreams) -> None:
    stream = begin(kept)
    for number in range(3000):
        stream.add(b'"%d%s"' % (number, b"x" * 100))
    assert stream.size < OF_STREAM + 5000
    assert numbers(stream.after(0))[-1] == "3000"
    stream.finish(LARGE)
    assert LARGE in stream.after(3000)


async def test_a_question_outlives_the_notifications_around_it(kept: KeptStreams) -> None:
    stream = begin(kept)
    stream.add(b'"before"')
    stream.add(b'"the question"', is_question=True)
    for _ in range(3000):
        stream.add(b'"%s"' % (b"x" * 100))
    assert b"the question" in stream.after(0)
    assert b"before" not in stream.after(0)


async def test_questions_are_bounded_too(kept: KeptStreams) -> None:
    stream = begin(kept)
    for _ in range(10):
        stream.add(LARGE, is_question=True)
    assert numbers(stream.after(0)) == ["10"], "the newest is kept however large it is"


async def test_a_persons_oldest_ended_stream_makes_room_for_the_newest_answer(kept: KeptStreams) -> None:
    bobs = begin(kept, "bob")
    bobs.finish(b'"small"')
    streams = [begin(kept) for _ in range(OF_PERSON // 2**20 + 2)]
    for stream in streams:
        stream.finish(LARGE)
    found = [kept.find(stream.name, "alice", "s") is not None for stream in streams]
    assert found == sorted(found), "the oldest went first"
    assert 0 < found.count(False) <= 3
    assert kept.find(bobs.name, "bob", "s") is bobs, "nobody else's"
    assert kept.size < OF_PERSON + 2**20


async def test_an_answer_larger_than_everything_a_person_has_room_for_is_kept(kept: KeptStreams) -> None:
    stream = begin(kept)
    stream.add(b'"progress"')
    stream.finish(b'"' + b"x" * (OF_PERSON + 1) + b'"')
    assert numbers(stream.after(0)) == ["2e"]


async def test_all_people_together_have_so_much_room(kept: KeptStreams) -> None:
    half = b'"' + b"x" * (OF_PERSON // 2) + b'"'
    people = [f"p{number}" for number in range(2 * IN_ALL // OF_PERSON + 3)]
    streams = [begin(kept, person) for person in people]
    for stream in streams:
        stream.finish(half)
    assert kept.size <= IN_ALL
    assert kept.find(streams[-1].name, people[-1], "s") is streams[-1]
    assert kept.find(streams[0].name, people[0], "s") is None


async def test_streams_that_run_lose_notifications_before_anything_has_no_room(kept: KeptStreams) -> None:
    message = b'"' + b"x" * (OF_STREAM - 1000) + b'"'
    streams = [begin(kept) for _ in range(2 * OF_PERSON // OF_STREAM)]
    for stream in streams:
        stream.add(message)
    assert kept.size <= OF_PERSON
    assert all(kept.find(stream.name, "alice", "s") is stream for stream in streams), "they all run on"
    assert streams[-1].after(0)
    assert not streams[0].after(0)


async def test_the_newest_taker_has_the_stream(kept: KeptStreams) -> None:
    stream, first, second = begin(kept), Taker(), Taker()
    stream.take(first)
    stream.take(second)
    stream.leave(first)  # too late to matter
    stream.poll(0.3)
    assert (first.heard, second.heard) == (["replaced"], [0.3])
    stream.poll(0.3)
    assert second.heard == [0.3], "it has left"
