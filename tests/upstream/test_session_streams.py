"""What older servers say and ask on the stream of a session, beside the requests that run in it."""

from __future__ import annotations

import pytest
import trio

from aggregator.protocol.jsonrpc import Call, Failure, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.http import HttpUpstream
from aggregator.upstream.peers import Answered, Outgoing
from aggregator.upstream.session_streams import LINGER, PATIENCE

from ..fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Json, Speaking
from .test_http import behind

ABLE: Json = {"roots": {}}
ROOTS: Json = {"roots": [{"uri": "file:///home"}]}


class Caller:
    """Calls a tool, answers what it is asked, and keeps what it hears."""

    def __init__(
        self, upstream: HttpUpstream, owner: str = "alice", able: Json = ABLE, overheard: bool = False
    ) -> None:
        self.heard: list[Notice] = []
        self.asked: list[Call] = []
        self._upstream = upstream
        self._owner = owner
        self._more: Json = {"capabilities": able, "overheard": overheard}

    async def call(self, name: str = "ask") -> Answered:
        envelope = Envelope(MODERN, {}, "mine", "debug")
        outgoing = Outgoing("tools/call", {"name": name}, envelope, self._owner, **self._more)
        return await self._upstream.request(outgoing, self._hear, self._answer)

    async def _hear(self, notice: Notice) -> None:
        self.heard.append(notice)

    async def _answer(self, question: Call) -> Success | Failure:
        self.asked.append(question)
        return Success(question.id, ROOTS)


def asks_beside(server: FakeServer, seconds: float = 0.0) -> None:
    async def run(speaking: Speaking) -> Json:
        await trio.sleep(seconds)
        answer = await speaking.ask("roots/list", beside=True)
        return {"content": [], "roots": answer.get("result"), "error": answer.get("error")}

    server.tool("ask", run)
    server.tells_of_changes()


def result_of(answered: Answered) -> Json:
    assert isinstance(answered.outcome, Success)
    return answered.outcome.result


async def test_a_question_on_the_stream_of_the_session_is_the_running_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server)
        caller = Caller(upstream)
        for _ in range(2):
            assert result_of(await caller.call())["roots"] == ROOTS
        assert len(server.calls("GET")) == 1, "one stream serves the calls of a session"
        assert len(caller.asked) == 2


async def test_whose_question_it_is_is_never_guessed(autojump_clock: trio.testing.MockClock) -> None:
    """Two calls of one person may be two clients'."""
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        callers, answers = [Caller(upstream), Caller(upstream)], []

        async def call(caller: Caller) -> None:
            answers.append(result_of(await caller.call()))

        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(call, caller)
        assert [answer["roots"] for answer in answers] == [None, None]
        assert all("ask on the stream" in answer["error"]["message"] for answer in answers)
        assert not callers[0].asked
        assert not callers[1].asked


async def test_each_person_has_a_stream_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        callers = [Caller(upstream, owner) for owner in ("alice", "bob")]
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(caller.call)
        assert [len(caller.asked) for caller in callers] == [1, 1]
        assert len({call.headers["mcp-session-id"] for call in server.calls("GET")}) == 2


async def test_a_session_that_was_told_of_a_change_passes_it_on_even_after_its_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        server.tells_of_changes()
        caller = Caller(upstream, able={}, overheard=True)
        await caller.call("t")
        await trio.sleep(1)
        await server.announce("notifications/tools/list_changed")
        await server.announce("notifications/message", level="error", data="of nobody's call")
        await trio.sleep(1)
        assert caller.heard == [Notice("notifications/tools/list_changed", {})]


async def test_a_stream_ends_some_time_after_the_last_call(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server)
        await Caller(upstream).call()
        await trio.sleep(LINGER - 1)
        assert len(server.listeners) == 1
        await trio.sleep(2)
        assert server.listeners == []
        assert len(upstream._session_streams) == 0
        assert result_of(await Caller(upstream).call())["roots"] == ROOTS


@pytest.mark.parametrize("able", [{}, ABLE])
async def test_a_server_without_such_streams_is_not_asked_for_one_with_every_call(
    able: Json, autojump_clock: trio.testing.MockClock
) -> None:
    async with behind(LEGACY) as (server, upstream):
        for owner in ("alice", "bob"):
            for _ in range(3):
                await Caller(upstream, owner, able).call("t")
        assert len(server.calls("GET")) == (1 if able else 0)


async def test_a_server_that_never_opens_its_stream_delays_one_call_a_little(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):

        async def before(incoming: Incoming) -> None:
            if incoming.http_method == "GET":
                await trio.sleep_forever()

        server.before = before
        began = trio.current_time()
        for _ in range(5):
            await Caller(upstream).call("t")
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        await trio.sleep(LINGER + 1)
        assert not server.open


async def test_a_stream_that_breaks_is_opened_again(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 20)
        async with trio.open_nursery() as nursery:
            caller = Caller(upstream)
            nursery.start_soon(caller.call)
            await trio.sleep(1)
            for out, _ in list(server.listeners):
                out.write(None)
        assert len(caller.asked) == 1
        assert len(server.calls("GET")) == 2


async def test_a_call_that_is_cancelled_while_it_waits_for_the_stream_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        await upstream.meet()
        server.hung = True
        with trio.move_on_after(PATIENCE / 2):
            await Caller(upstream).call("t")
        server.hung = False
        await trio.sleep(LINGER + 1)
        assert len(upstream._session_streams) == 0
        assert not server.calls("tools/call")
