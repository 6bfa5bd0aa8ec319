"""What an older process may ask in the middle of a call, and of whom."""

from __future__ import annotations

from typing import Any

import trio

from aggregator.protocol.jsonrpc import Call, Notice, Success
from aggregator.protocol.translate import Envelope
from aggregator.upstream.command import CommandUpstream
from aggregator.upstream.peers import Outgoing

from ..fakes.child import FakeChild, answer
from .test_command import MODERN, OLDER, commanding


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
                await answer(child, call, {"content": [], "told": message.get("result")})
            case _:
                pass


async def ask_and_answer(upstream: CommandUpstream, together: int = 1, owner: str = "alice") -> list[Any]:
    """What calls that run at once are told; each answers with its own number."""
    told: list[Any] = [None] * together

    async def ignore(notice: Notice) -> None: ...

    async def call(number: int) -> None:
        async def answer_mine(question: Call) -> Success:
            await trio.sleep(5)
            return Success(question.id, {"roots": [number]})

        outgoing = Outgoing(
            "tools/call", {"name": str(together)}, Envelope(MODERN, {}), owner, capabilities={"roots": {}}
        )
        outcome = (await upstream.request(outgoing, ignore, answer_mine)).outcome
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


async def test_a_process_that_asks_while_two_calls_run_is_told_that_nobody_can_be_asked(autojump_clock: Any) -> None:
    async with commanding(asking, one_person=True) as (upstream, _):
        assert await ask_and_answer(upstream, together=2) == [None, None]


async def test_a_process_that_serves_several_people_asks_nobody(autojump_clock: Any) -> None:
    async with commanding(asking) as (upstream, starts):
        assert await ask_and_answer(upstream) == [None]
        (initialize,) = [message for message in starts.runs[0].heard if message.get("method") == "initialize"]
        assert not {"elicitation", "sampling", "roots"} & set(initialize["params"]["capabilities"])
    async with commanding(asking, one_person=True) as (upstream, _):
        assert await ask_and_answer(upstream) == [{"roots": [0]}]
        assert await ask_and_answer(upstream, owner="bob") == [None], "whatever was said of it"
