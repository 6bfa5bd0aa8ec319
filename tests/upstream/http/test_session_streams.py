"""What older servers say and ask on the stream of a session, beside the requests that run in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from aggregator.protocol.jsonrpc import Call, Failure, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.http.session_streams import LINGER, PATIENCE
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.peers import SILENT, Answered, Outgoing, Respondent

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Json, Speaking
from .test_upstream import behind

ABLE: Json = {"roots": {}}
ROOTS: Json = {"roots": [{"uri": "file:///home"}]}


class Caller:
    """Calls a tool, answers what it is asked, and keeps what it hears."""

    def __init__(
        self,
        upstream: HttpUpstream,
        owner: str = "alice",
        able: Json = ABLE,
        overheard: bool = False,
        session: str = "",
    ) -> None:
        self.heard: list[Notice] = []
        self.asked: list[Call] = []
        self._upstream = upstream
        self._owner = owner
        self._overheard = overheard
        self._respondent = Respondent(able, self._answer, session) if able else SILENT

    async def call(self, name: str = "ask", **arguments: Any) -> Answered:
        envelope = Envelope(MODERN, {}, "mine", "debug")
        params = {"name": name, "arguments": arguments}
        outgoing = Outgoing(
            "tools/call", params, envelope, self._owner, respondent=self._respondent, overheard=self._overheard
        )
        return await self._upstream.request(outgoing, self._hear)

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


async def at_once(*calls: Callable[[], Awaitable[Answered]]) -> list[Json]:
    """The results of calls that run together, in the order of the calls."""
    results: dict[int, Json] = {}

    async def call(number: int, call: Callable[[], Awaitable[Answered]]) -> None:
        results[number] = result_of(await call())

    async with trio.open_nursery() as nursery:
        for number, one in enumerate(calls):
            nursery.start_soon(call, number, one)
    return [results[number] for number in range(len(calls))]


async def test_a_client_is_asked_for_all_calls_of_its_session(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        callers = [Caller(upstream, session="one") for _ in range(3)]
        assert [result["roots"] for result in await at_once(*(caller.call for caller in callers))] == [ROOTS] * 3
        assert len(server.calls("initialize")) == 1
        assert sum(len(caller.asked) for caller in callers) == 3


async def test_two_clients_of_one_person_never_hear_each_others_questions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        callers = [Caller(upstream, session=session) for session in ("one", "other")]
        assert [result["roots"] for result in await at_once(*(caller.call for caller in callers))] == [ROOTS] * 2
        assert [len(caller.asked) for caller in callers] == [1, 1]
        assert len({call.headers["mcp-session-id"] for call in server.calls("tools/call")}) == 2


async def test_clients_that_can_be_asked_nothing_share_a_session(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        for session in ("one", "other", ""):
            await Caller(upstream, able={}, session=session).call("t")
        assert len({call.headers["mcp-session-id"] for call in server.calls("tools/call")}) == 1


async def test_whose_question_it_is_is_never_guessed(autojump_clock: trio.testing.MockClock) -> None:
    """Two calls of one person without sessions may be two clients'. They run apart as soon as the upstream is known to
    ask so; a first time both are refused."""
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        callers = [Caller(upstream) for _ in range(3)]
        refused = await at_once(*(caller.call for caller in callers))
        assert [answer["roots"] for answer in refused] == [None] * 3
        assert all("ask on the stream" in answer["error"]["message"] for answer in refused)
        assert not any(caller.asked for caller in callers)
        for _ in range(2):
            answers = await at_once(*(caller.call for caller in callers))
            assert [answer["roots"] for answer in answers] == [ROOTS] * 3
        assert [len(caller.asked) for caller in callers] == [2] * 3
        assert len(server.calls("initialize")) == 3, "sessions are used again"


async def test_calls_without_sessions_that_follow_one_another_find_what_they_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server)
        for _ in range(3):
            assert result_of(await Caller(upstream).call())["roots"] == ROOTS
        assert len(server.calls("initialize")) == 1


class Person(Caller):
    """Answers when told to. `standing` counts how many of its calls' clocks stand still."""

    def __init__(self, upstream: HttpUpstream) -> None:
        super().__init__(upstream, session="one")
        self.may_answer = trio.Event()
        self.standing = 0
        self._respondent = Respondent(ABLE, self._answer, "one", self._stand)

    @contextmanager
    def _stand(self) -> Iterator[None]:
        self.standing += 1
        try:
            yield
        finally:
            self.standing -= 1

    async def _answer(self, question: Call) -> Success | Failure:
        self.asked.append(question)
        await self.may_answer.wait()
        return Success(question.id, ROOTS)


async def test_a_question_outlives_the_call_on_whose_stream_it_was_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It may have been about another; and no time counts for any of them meanwhile."""
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 2)
        ends = trio.Event()

        async def brief(speaking: Speaking) -> Json:
            await ends.wait()
            return {"content": []}

        server.tool("brief", brief)
        person = Person(upstream)
        asking: list[Json] = []

        async def ask() -> None:
            asking.append(result_of(await person.call()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            nursery.start_soon(person.call, "brief")
            await trio.sleep(4)
            assert len(person.asked) == 1
            assert person.standing == 2
            ends.set()
            await trio.sleep(1)
            assert asking == []
            person.may_answer.set()
        assert asking[0]["roots"] == ROOTS
        assert person.standing == 0


async def test_a_question_ends_with_the_last_call_that_it_may_be_about(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        person = Person(upstream)
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person.call)
                nursery.start_soon(person.call)
        await trio.testing.wait_all_tasks_blocked()
        assert len(person.asked) == 2
        assert person.standing == 0
        assert not any(answer.came.is_set() for answer in server.answers.values())


async def test_a_question_that_is_taken_back_is_no_longer_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        asks_beside(server, 1)
        person = Person(upstream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(person.call)
            nursery.start_soon(person.call)
            await trio.sleep(3)
            assert person.standing == 4, "two calls, two questions"
            await server.announce("notifications/cancelled", requestId=person.asked[0].id)
            await trio.sleep(1)
            assert person.standing == 2
            nursery.cancel_scope.cancel()


async def test_what_is_said_of_no_call_reaches_a_client_once(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (server, upstream):
        server.tells_of_changes()

        async def slow(speaking: Speaking) -> Json:
            await trio.sleep(5)
            return {"content": []}

        server.tool("slow", slow)
        callers = [Caller(upstream, session="one") for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(caller.call, "slow")
            await trio.sleep(1)
            await server.announce("notifications/message", level="error", data="disk full")
        assert sorted(len(caller.heard) for caller in callers) == [0, 1]


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
