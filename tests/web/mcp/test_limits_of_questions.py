"""How many questions may wait for one person, and that nobody else notices."""

from __future__ import annotations

import trio

from aggregator.web.mcp.conversing import MAX_ROUNDS
from aggregator.web.mcp.parking import PARKED_PER_PERSON
from aggregator.web.mcp.questions import MAX_WAITING

from ...fakes.asgi import Ongoing
from ...fakes.mcp_server import LEGACY, META, MODERN, Json, Speaking
from ...fakes.relay import one, text_of
from .test_conversing import CALL, CAPABILITIES, FORM, answer_live, answer_rounds, asks, legacy_client, zoe
from .test_parking import client_of, leg


async def test_one_person_has_a_bounded_number_of_parked_calls_and_others_have_theirs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        alice = client_of(relay)
        parked = [(await leg(alice))["result"] for _ in range(PARKED_PER_PERSON)]
        assert len(relay.parking) == PARKED_PER_PERSON
        refused = (await leg(alice))["result"]
        assert refused["resultType"] == "complete", "its upstream heard that nobody can be asked now"
        assert refused["content"][0]["text"] == "[None]"
        bob = relay.modern("bob", meta={f"{META}clientCapabilities": CAPABILITIES})
        (_, last) = await answer_rounds(bob, CALL, zoe)
        assert "Zoe" in last["result"]["content"][0]["text"]
        assert (await leg(alice, parked.pop()))["result"]["resultType"] == "complete"
        await trio.testing.wait_all_tasks_blocked()
        assert (await leg(alice))["result"]["resultType"] == "input_required", "there is room again"


async def test_one_person_is_asked_a_bounded_number_of_questions_live_and_others_theirs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    many = MAX_WAITING + 5
    answers: list[Json] = []

    async def run(speaking: Speaking) -> Json:
        async def ask() -> None:
            answers.append(await speaking.ask("elicitation/create", **FORM))

        async with trio.open_nursery() as nursery:
            for _ in range(many if speaking.arguments.get("many") else 1):
                nursery.start_soon(ask)
        return {"content": []}

    async with one(LEGACY) as (server, relay):
        server.tool("ask", run)
        alice, bob = await legacy_client(relay), await legacy_client(relay, "bob")
        async with alice.open("tools/call", {**CALL, "arguments": {"many": True}}) as ongoing:
            await ongoing.wait_messages(MAX_WAITING)
            await trio.sleep(1)
            assert asked(ongoing) == len(relay.questions) == MAX_WAITING
            assert len(answers) == many - MAX_WAITING
            assert all("questions wait for this person already" in answer["error"]["message"] for answer in answers)
            assert "result" in (await answer_live(bob, CALL, zoe))[-1]
            assert (await alice.post(b"", alice.headers("", {}), method="DELETE")).status == 204
            await ongoing.done.wait()


def asked(ongoing: Ongoing) -> int:
    return sum(message.get("method") == "elicitation/create" for message in ongoing.messages())


async def test_a_stateless_upstream_that_asks_again_and_again_is_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def run(speaking: Speaking) -> Json:
        await trio.lowlevel.checkpoint()
        question = {"method": "elicitation/create", "params": FORM}
        return {"resultType": "input_required", "inputRequests": {"k": question}, "requestState": "more"}

    async with one(MODERN) as (server, relay):
        server.tool("ask", run)
        *asked, last = await answer_live(await legacy_client(relay), CALL, zoe)
        assert len(asked) == MAX_ROUNDS
        assert f"asked more than {MAX_ROUNDS} times" in text_of(last)
