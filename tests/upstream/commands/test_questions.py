"""What an older process may ask in the middle of a call, and of whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from aggregator.protocol.jsonrpc import Call, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.commands.upstream import CommandUpstream
from aggregator.upstream.peers import Outgoing, Respondent

from ...fakes.child import FakeChild, answer
from .test_upstream import MODERN, OLDER, commanding


async def asking(child: FakeChild) -> None:
    """A server of 2025-11-25 whose calls ask for roots, all together once `calls` of them run, and tell the answers."""
    calls: list[Any] = []
    while True:
        message = await child.hear()
        match message.get("method"):
            case "initialize":
                await answer(child, message, {"protocolVersion": OLDER, "able": message["params"]["capabilities"]})
            case "tools/call":
                calls.append(message)
                if len(calls) % int(message["params"]["name"]) == 0:
                    for call in calls[-int(message["params"]["name"]) :]:
                        await child.send(id=f"for {call['id']}", method="roots/list", params={})
            case None if str(message["id"]).startswith("for "):
                call = next(call for call in calls if f"for {call['id']}" == message["id"])
                told = message["result"] if "result" in message else message["error"]["message"]
                await answer(child, call, {"content": [], "told": told})
            case _:
                pass


async def ask_and_answer(
    upstream: CommandUpstream, together: int = 1, owner: str = "alice", sessions: Sequence[str] = ()
) -> list[Any]:
    """What calls that run at once are told; each answers with its own number. `sessions` are those of their clients."""
    told: list[Any] = [None] * together

    async def ignore(notice: Notice) -> None: ...

    async def call(number: int) -> None:
        async def answer_mine(question: Call) -> Success:
            await trio.sleep(5)
            return Success(question.id, {"roots": [number]})

        outgoing = Outgoing(
            "tools/call",
            {"name": str(together)},
            Envelope(MODERN, {}),
            owner,
            respondent=Respondent({"roots": {}}, answer_mine, sessions[number] if sessions else ""),
        )
        outcome = (await upstream.request(outgoing, ignore)).outcome
        assert isinstance(outcome, Success)
        told[number] = outcome.result["told"]

    async with trio.open_nursery() as nursery:
        for number in range(together):
            nursery.start_soon(call, number)
    return told


async def test_where_there_is_one_person_an_older_process_may_ask_them(autojump_clock: Any) -> None:
    async with commanding(asking, one_person=True) as (upstream, starts):
        assert await ask_and_answer(upstream) == [{"roots": [0]}]
        [child] = starts.runs
        (initialize,) = [message for message in child.heard if message.get("method") == "initialize"]
        assert set(initialize["params"]["capabilities"]) >= {"elicitation", "sampling", "roots"}


UNCLEAR = "several requests run in this process, and nothing says which of them asks"
NOBODY = "roots/list is not available"


async def test_a_process_that_asks_while_two_calls_run_is_told_why_nobody_is_asked(autojump_clock: Any) -> None:
    async with commanding(asking, one_person=True) as (upstream, _):
        assert await ask_and_answer(upstream, together=2) == [UNCLEAR, UNCLEAR]


async def test_a_process_may_ask_a_client_while_only_its_calls_run(autojump_clock: Any) -> None:
    """Which of them asks is not known, and makes no difference: the same person sits before the same program."""
    async with commanding(asking, one_person=True) as (upstream, _):
        told = await ask_and_answer(upstream, together=2, sessions=("one", "one"))
        assert all(answer["roots"] for answer in told)
        assert await ask_and_answer(upstream, together=2, sessions=("one", "other")) == [UNCLEAR, UNCLEAR]
        assert await ask_and_answer(upstream, together=2, sessions=("one", "")) == [UNCLEAR, UNCLEAR]


async def asking_once(child: FakeChild) -> None:
    """A server whose call `asks` asks for roots when a second call, `ends`, runs too; that one ends at once."""
    calls: dict[str, Any] = {}
    while True:
        message = await child.hear()
        match message.get("method"):
            case "initialize":
                await answer(child, message, {"protocolVersion": OLDER})
            case "tools/call":
                calls[message["params"]["name"]] = message
                if len(calls) == 2:
                    await child.send(id="roots", method="roots/list", params={})
            case "end":
                await answer(child, calls.pop("ends"), {"content": []})
            case "take back":
                await child.send(method="notifications/cancelled", params={"requestId": "roots"})
            case None:
                await answer(child, calls.pop("asks"), {"content": [], "told": message.get("result")})
            case _:
                pass


@dataclass
class TwoCalls:
    """The calls of one client to `asking_once`. Whom it asks waits until `may_answer`; `standing` clocks stand."""

    upstream: CommandUpstream
    asked: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    standing: Counter[str] = field(default_factory=Counter)
    may_answer: trio.Event = field(default_factory=trio.Event)
    running: list[trio.CancelScope] = field(default_factory=list)

    async def call(self, name: str) -> None:
        async def respond(question: Call) -> Success:
            self.asked.append(name)
            await self.may_answer.wait()
            return Success(question.id, {"roots": [name]})

        @contextmanager
        def stand() -> Iterator[None]:
            self.standing[name] += 1
            try:
                yield
            finally:
                self.standing[name] -= 1

        async def ignore(notice: Notice) -> None: ...

        respondent = Respondent({"roots": {}}, respond, "one", stand)
        outgoing = Outgoing("tools/call", {"name": name}, Envelope(MODERN, {}), "alice", respondent=respondent)
        with trio.CancelScope() as scope:
            self.running.append(scope)
            outcome = (await self.upstream.request(outgoing, ignore)).outcome
            assert isinstance(outcome, Success)
            self.told[name] = outcome.result.get("told")

    async def do(self, method: str) -> None:
        """Have the process do what `asking_once` does for a message of this name."""
        life = self.upstream._life
        assert life is not None
        life.wire.post(Notice(method, {}))
        await trio.sleep(10)


@asynccontextmanager
async def two_calls() -> AsyncIterator[TwoCalls]:
    """The first one runs, the second one, which is newer, is the one that is asked."""
    async with commanding(asking_once, one_person=True) as (upstream, _), trio.open_nursery() as nursery:
        calls = TwoCalls(upstream)
        for name in ("asks", "ends"):
            nursery.start_soon(calls.call, name)
            await trio.sleep(10)
        assert calls.asked == ["ends"]
        assert calls.standing == {"asks": 1, "ends": 1}
        yield calls


async def test_a_question_moves_on_when_the_call_ends_in_which_it_was_asked(autojump_clock: Any) -> None:
    async with two_calls() as calls:
        await calls.do("end")
        assert calls.asked == ["ends", "asks"]
        assert calls.standing == {"asks": 1, "ends": 0}
        calls.may_answer.set()
    assert calls.told == {"ends": None, "asks": {"roots": ["asks"]}}


async def test_a_question_that_a_process_takes_back_is_asked_of_nobody_any_more(autojump_clock: Any) -> None:
    async with two_calls() as calls:
        await calls.do("take back")
        assert calls.standing == {"asks": 0, "ends": 0}
        await calls.do("end")
        assert calls.asked == ["ends"]
        calls.running[0].cancel()


async def test_a_process_that_serves_several_people_asks_nobody(autojump_clock: Any) -> None:
    async with commanding(asking) as (upstream, starts):
        assert await ask_and_answer(upstream) == [NOBODY]
        (initialize,) = [message for message in starts.runs[0].heard if message.get("method") == "initialize"]
        assert not {"elicitation", "sampling", "roots"} & set(initialize["params"]["capabilities"])
    async with commanding(asking, one_person=True) as (upstream, _):
        assert await ask_and_answer(upstream) == [{"roots": [0]}]
        assert await ask_and_answer(upstream, owner="bob") == [NOBODY], "whatever was said of it"
