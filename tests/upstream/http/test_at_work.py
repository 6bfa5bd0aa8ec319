"""How many requests one upstream is given at once, and that nobody's thinking is among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from aggregator.protocol.jsonrpc import Call, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.http.exchange import Answer, Headers
from aggregator.upstream.http.sessions import TELLING
from aggregator.upstream.http.upstream import AT_WORK, HttpUpstream
from aggregator.upstream.peers import SILENT, Answered, Outgoing, Respondent

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Json, Speaking

CAPABILITIES: Json = {"elicitation": {}}
NAMED: Json = {"action": "accept", "content": {"name": "zoe"}}


class Words:
    """Another way to the same server; `said` counts what went it."""

    def __init__(self, server: FakeServer) -> None:
        self.said = 0
        self._server = server

    def send(self, method: str, headers: Headers, body: bytes) -> AbstractAsyncContextManager[Answer]:
        self.said += 1
        return self._server.send(method, headers, body)


@asynccontextmanager
async def behind(revision: str) -> AsyncIterator[tuple[FakeServer, HttpUpstream, Words]]:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, revision)
        server.tool("quick")
        server.tool("asks", asks)
        words = Words(server)
        upstream = HttpUpstream("up", server, {"name": "us", "version": "1"}, nursery, words=words)
        yield server, upstream, words
        nursery.cancel_scope.cancel()


async def asks(speaking: Speaking) -> Json:
    answer = await speaking.ask("elicitation/create", message="Who?", requestedSchema={})
    return {"content": [{"type": "text", "text": answer["result"]["content"]["name"]}]}


async def call(upstream: HttpUpstream, owner: str, tool: str = "quick", respondent: Respondent = SILENT) -> Answered:
    async def ignore(notice: Notice) -> None:
        pass

    params = {"name": tool, "arguments": {}}
    return await upstream.request(
        Outgoing("tools/call", params, Envelope(MODERN, {}), owner, respondent=respondent), ignore
    )


def text_of(answered: Answered) -> str:
    assert isinstance(answered.outcome, Success)
    return str(answered.outcome.result["content"][0]["text"])


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_so_many_requests_run_at_once_and_the_next_waits(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with behind(revision) as (server, upstream, _):
        await call(upstream, "first")
        go = trio.Event()

        async def hold(incoming: Incoming) -> None:
            if incoming.method == "tools/call":
                await go.wait()

        server.before = hold
        async with trio.open_nursery() as nursery:
            for number in range(AT_WORK + 1):
                nursery.start_soon(call, upstream, f"p{number}")
            await trio.testing.wait_all_tasks_blocked()
            assert len(server.calls()) == 1 + AT_WORK
            go.set()
        assert len(server.calls()) == 1 + AT_WORK + 1


async def test_who_waits_for_a_person_takes_nobodys_place(autojump_clock: trio.testing.MockClock) -> None:
    async with behind(LEGACY) as (_, upstream, _), trio.open_nursery() as nursery:
        thinking = 0
        decided = trio.Event()

        async def think(question: Call) -> Success:
            nonlocal thinking
            thinking += 1
            await decided.wait()
            return Success(question.id, NAMED)

        for number in range(AT_WORK + 20):
            nursery.start_soon(call, upstream, f"p{number}", "asks", Respondent(CAPABILITIES, think))
        await trio.testing.wait_all_tasks_blocked()
        assert thinking == AT_WORK + 20
        with trio.fail_after(1):
            await call(upstream, "somebody else")
        decided.set()


async def test_an_answer_goes_its_own_way_and_is_not_given_up_soon(autojump_clock: trio.testing.MockClock) -> None:
    """However much the upstream has to do, or we: who asked waits for it in vain otherwise."""
    async with behind(LEGACY) as (server, upstream, words):

        async def know(question: Call) -> Success:
            return Success(question.id, NAMED)

        async def dawdle(incoming: Incoming) -> None:
            if incoming.body and "method" not in incoming.message:
                await trio.sleep(TELLING - 1)

        server.before = dawdle
        assert text_of(await call(upstream, "p", "asks", Respondent(CAPABILITIES, know))) == "zoe"
        assert words.said == 1
