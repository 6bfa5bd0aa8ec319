"""The reply to a client that can take its stream up: what goes out on its own connection, and what does not."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aggregator.protocol.event_ids import parse_event_id
from aggregator.protocol.jsonrpc import Call, Notice, Success
from aggregator.web.mcp.client_sessions import ClientSession
from aggregator.web.mcp.kept_streams import KeptStream, KeptStreams
from aggregator.web.mcp.resumable_reply import COMING_BACK, FAREWELL, RETRY, ResumableReplies, ResumableReply
from aggregator.web.reply import COMMENT

from ...fakes.asgi import Ongoing

CALL = Call(1, "tools/call", {})
ANSWER = Success(1, {"content": []})
PROGRESS = Notice("notifications/progress", {"progress": 1})


class Answering:
    """One request, its reply, and what is kept of it."""

    def __init__(self, nursery: trio.Nursery, revision: str = "2025-11-25", *, prefers_events: bool = False) -> None:
        self.ongoing = Ongoing([])
        self.kept = KeptStreams("0123456789ab")
        session = ClientSession("s", revision, {}, "alice", 1e12)
        replies = ResumableReplies(self.kept, nursery)
        self.reply: ResumableReply = replies.reply(
            self.ongoing.send, [], session, [CALL], prefers_events=prefers_events
        )

    def stream(self) -> KeptStream:
        id = parse_event_id(self.ongoing.event_ids()[0])
        assert id is not None
        stream = self.kept.find(id.name, "alice", "s")
        assert stream is not None
        return stream


class Taker:
    def replaced(self) -> None: ...

    def asked_to_poll(self, retry: float) -> None: ...


@pytest.mark.parametrize("revision", ["2025-11-25", "2025-06-18", "2024-11-05"])
async def test_one_message_is_json_and_nothing_is_kept_of_it(revision: str) -> None:
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery, revision)
        await answering.reply.begin()
        await answering.reply.finish(ANSWER)
        await answering.reply.close()
        assert answering.ongoing.json()["result"] == {"content": []}
        assert len(answering.kept) == 0


async def test_what_goes_out_is_what_is_kept() -> None:
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery)
        await answering.reply.notice(PROGRESS)
        await answering.reply.keep_alive()
        await answering.reply.finish(ANSWER)
        await answering.reply.close()
        priming, *events = answering.ongoing.body.split(b"\n\n")
        assert priming.endswith(b"\nretry: 1000\ndata:")
        sent = b"\n\n".join(event for event in events if event + b"\n\n" != COMMENT)
        assert sent == answering.stream().after(0)
        assert answering.ongoing.ended


async def test_a_stream_of_which_nothing_was_said_yet_is_primed_instead_of_commented() -> None:
    async with trio.open_nursery() as nursery:
        answering, older = Answering(nursery), Answering(nursery, "2025-06-18")
        for each in (answering, older):
            await each.reply.keep_alive()
            await each.reply.keep_alive()
        assert answering.ongoing.body.startswith(b"id: ")
        assert answering.ongoing.body.count(COMMENT) == 1
        assert older.ongoing.body == 2 * COMMENT


async def test_a_preferred_stream_begins_before_the_answer_and_has_it_at_once_where_it_is_at_hand() -> None:
    async with trio.open_nursery() as nursery:
        slow, quick = (Answering(nursery, prefers_events=True) for _ in range(2))
        await slow.reply.begin()
        assert slow.ongoing.is_stream
        await quick.reply.finish(ANSWER)
        assert [message["id"] for message in quick.ongoing.messages()] == [1]
        assert len(quick.ongoing.event_ids()) == 2
        await slow.reply.close()


async def test_a_connection_that_is_replaced_ends_and_gets_nothing_more() -> None:
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery)
        await answering.reply.notice(PROGRESS)
        answering.stream().take(Taker())
        await answering.reply.notice(PROGRESS)
        await answering.reply.keep_alive()
        await answering.reply.finish(ANSWER)
        await answering.reply.close()
        assert len(answering.ongoing.messages()) == 1
        assert answering.ongoing.ended
        assert answering.stream().position == 3


async def test_the_request_lasts_until_its_replaced_connection_has_ended(autojump_clock: MockClock) -> None:
    """What is sent behind the end of a request is a mistake to the server."""
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery)
        await answering.reply.notice(PROGRESS)
        stream = answering.stream()
        answering.ongoing.stalls = True
        stream.take(Taker())
        await answering.reply.finish(ANSWER)
        began = trio.current_time()
        await answering.reply.close()
        assert trio.current_time() - began == pytest.approx(FAREWELL)
        assert not answering.ongoing.ended, "the server closes it"


async def test_a_client_that_is_to_poll_is_told_when_and_its_connection_ends(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        early, late, older = Answering(nursery), Answering(nursery), Answering(nursery, "2025-06-18")
        await late.reply.notice(PROGRESS)
        for each in (early, late, older):
            await each.reply.poll(0.3)
        await trio.testing.wait_all_tasks_blocked()
        assert early.ongoing.ended
        assert early.ongoing.body.count(b"retry: 300\n") == 1
        assert b"retry: 1000\n" not in early.ongoing.body
        assert late.ongoing.ended
        assert late.ongoing.body.endswith(b"\nretry: 300\ndata:\n\n")
        assert late.ongoing.event_ids()[-1] == late.ongoing.event_ids()[-2], "nothing is skipped"
        assert older.ongoing.status is None, "it does not know how"


@pytest.mark.parametrize(("asked", "told"), [(None, 1000), (0.0, 100), (3600.0, 30_000)])
async def test_what_an_upstream_asks_for_is_bounded(asked: float | None, told: int) -> None:
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery)
        await answering.reply.poll(asked)
        await trio.testing.wait_all_tasks_blocked()
        assert b"retry: %d\n" % told in answering.ongoing.body


async def test_a_request_whose_client_polls_waits_a_moment_for_it_to_be_back(autojump_clock: MockClock) -> None:
    """A process that stops waits for its requests, and would take the answer with it."""
    async with trio.open_nursery() as nursery:
        back, gone = Answering(nursery), Answering(nursery)
        for each in (back, gone):
            await each.reply.poll(None)
            await trio.testing.wait_all_tasks_blocked()
            await each.reply.finish(ANSWER)
        began = trio.current_time()
        back.stream().take(Taker())
        await back.reply.close()
        assert trio.current_time() == began
        await gone.reply.close()
        assert trio.current_time() - began == pytest.approx(RETRY + COMING_BACK)


async def test_a_call_that_ends_without_an_answer_ends_its_stream() -> None:
    async with trio.open_nursery() as nursery:
        answering = Answering(nursery)
        await answering.reply.notice(PROGRESS)
        await answering.reply.close()
        assert (answering.stream().is_over, answering.stream().is_answered) == (True, False)
