"""Calls of stateless clients to older upstreams that ask something: what a leg waits for, and what outlives it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from aggregator.upstream.http.exchange import Answer, Headers
from aggregator.web.mcp.parking import QUESTIONS_PER_CALL

from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Json, Speaking
from ...fakes.relay import ModernClient, Relay, one, text_of
from .test_conversing import CALL, CAPABILITIES, FORM, ZOE, asks


def client_of(relay: Relay, capabilities: Json = CAPABILITIES) -> ModernClient:
    return relay.modern(meta={f"{META}clientCapabilities": capabilities})


async def leg(client: ModernClient, first: Json | None = None, **answers: Json) -> Json:
    """One leg; with `first`, the retry of it, which answers whatever it asked with `ZOE`, unless `answers` has more."""
    params = dict(CALL)
    if first is not None:
        given = dict.fromkeys(first["inputRequests"], ZOE) | answers
        params |= {"requestState": first["requestState"], "inputResponses": given}
    message: Json = (await client.request("tools/call", params)).messages()[-1]
    return message


def gives_up_after(server: FakeServer, seconds: float) -> None:
    """A tool that asks, withdraws its question after a while, and has an answer without."""

    async def run(speaking: Speaking) -> Json:
        with trio.move_on_after(seconds):
            await speaking.ask("elicitation/create", **FORM)
            return {"content": [{"type": "text", "text": "answered"}]}
        await speaking.notify("notifications/cancelled", requestId="ask-0")
        return {"content": [{"type": "text", "text": "nobody answered"}]}

    server.tool("ask", run)


async def test_what_an_upstream_answers_while_nobody_waits_is_kept_for_the_retry(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        gives_up_after(server, 30)
        client = client_of(relay)
        first = (await leg(client))["result"]
        await trio.sleep(60)
        assert len(relay.parking) == 1
        assert (await leg(client, first))["result"]["content"][0]["text"] == "nobody answered"
        assert len(server.calls()) == 1, "and nothing ran twice"
        await trio.testing.wait_all_tasks_blocked()
        assert relay.is_idle()


async def test_an_answer_that_nobody_comes_back_for_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY, input_timeout=600.0) as (server, relay):
        gives_up_after(server, 30)
        first = (await leg(client_of(relay)))["result"]
        await trio.sleep(590)
        assert len(relay.parking) == 1
        await trio.sleep(20)
        assert relay.is_idle()
        assert (await leg(client_of(relay), first))["error"]["code"] == -32602


async def test_a_time_out_while_nobody_waits_is_told_to_the_retry(autojump_clock: trio.testing.MockClock) -> None:
    async def run(speaking: Speaking) -> Json:
        with trio.move_on_after(5):
            await speaking.ask("elicitation/create", **FORM)
        await speaking.notify("notifications/cancelled", requestId="ask-0")
        await trio.sleep_forever()
        raise AssertionError

    async with one(LEGACY, upstreams={"up": {"tool_timeout": 20.0}}) as (server, relay):
        server.tool("ask", run)
        first = (await leg(client_of(relay)))["result"]
        await trio.sleep(100)
        assert "no answer within toolTimeout (20 s)" in text_of(await leg(client_of(relay), first))
        assert server.cancelled


async def test_a_question_that_is_withdrawn_at_once_is_not_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY) as (server, relay):
        gives_up_after(server, 0.01)
        assert (await leg(client_of(relay)))["result"]["content"][0]["text"] == "nobody answered"


async def test_questions_that_come_together_are_asked_together_and_may_be_answered_one_by_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    answers: list[Json] = []

    async def run(speaking: Speaking) -> Json:
        async def ask(number: int) -> None:
            answers.append(await speaking.ask("elicitation/create", **FORM, number=number))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(ask, number)
        return {"content": []}

    async with one(LEGACY) as (server, relay):
        server.tool("ask", run)
        client = client_of(relay)
        first = (await leg(client))["result"]
        assert len(first["inputRequests"]) == 3
        key, *others = first["inputRequests"]
        part = {**first, "inputRequests": {key: first["inputRequests"][key]}}
        second = (await leg(client, part))["result"]
        assert set(second["inputRequests"]) == set(others)
        assert (await leg(client, second))["result"]["resultType"] == "complete"
        assert [answer["result"] for answer in answers] == [ZOE] * 3


async def test_one_call_asks_a_bounded_number_of_questions_at_once(autojump_clock: trio.testing.MockClock) -> None:
    refused: list[int] = []

    async def run(speaking: Speaking) -> Json:
        async def ask() -> None:
            answer = await speaking.ask("elicitation/create", **FORM)
            if "error" in answer:
                refused.append(answer["error"]["code"])

        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(ask)
        return {"content": []}

    async with one(LEGACY) as (server, relay):
        server.tool("ask", run)
        client = client_of(relay)
        first = (await leg(client))["result"]
        assert len(first["inputRequests"]) == QUESTIONS_PER_CALL
        assert (await leg(client, first))["result"]["resultType"] == "complete"
        assert len(refused) == 500 - QUESTIONS_PER_CALL


async def test_a_retry_that_is_sent_twice_goes_on_once(autojump_clock: trio.testing.MockClock) -> None:
    """The second takes over, for whoever sends it lost the first; and the first one's end does not end the call."""

    async def run(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", **FORM)
        await trio.sleep(10)
        return {"content": [{"type": "text", "text": "done"}]}

    async with one(LEGACY) as (server, relay):
        server.tool("ask", run)
        client = client_of(relay)
        first = (await leg(client))["result"]
        retry = {
            **CALL,
            "requestState": first["requestState"],
            "inputResponses": dict.fromkeys(first["inputRequests"], ZOE),
        }
        async with client.open("tools/call", retry) as lost:
            await trio.sleep(1)
            async with client.open("tools/call", retry) as again:
                await trio.sleep(1)
                lost.disconnect()
                await again.done.wait()
        assert again.messages()[-1]["result"]["content"][0]["text"] == "done"
        assert len(server.calls()) == 1


async def test_a_parked_call_is_found_though_its_upstream_became_stateless(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = client_of(relay)
        first = (await leg(client))["result"]
        server.revision = MODERN
        relay.upstreams["up"].doubt()
        await relay.upstreams["up"].meet()
        await leg(client, first)
        assert len(server.calls()) == 1
        assert all("mcpa_pk_" not in call.body.decode() for call in server.requests), "our state stays with us"


async def test_the_client_that_disconnects_during_a_leg_ends_the_call(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY) as (server, relay):

        async def run(speaking: Speaking) -> Json:
            await speaking.ask("elicitation/create", **FORM)
            await trio.sleep_forever()
            raise AssertionError

        server.tool("ask", run)
        client = client_of(relay)
        first = (await leg(client))["result"]
        given = dict.fromkeys(first["inputRequests"], ZOE)
        retry = {**CALL, "requestState": first["requestState"], "inputResponses": given}
        async with client.open("tools/call", retry) as ongoing:
            await trio.sleep(1)
            ongoing.disconnect()
            await ongoing.done.wait()
        await trio.sleep(3)
        assert server.cancelled
        assert relay.is_idle()


async def test_a_parked_call_that_fails_unexpectedly_fails_alone(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Exploding:
        def send(self, method: str, headers: Headers, body: bytes) -> AbstractAsyncContextManager[Answer]:
            raise KeyError("a mistake of ours")

    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = client_of(relay)
        await client.names()
        relay.upstreams["up"]._in_session._exchange = Exploding()
        received = await client.request("tools/call", CALL)
        assert received.status == 500
        assert "a mistake of ours" in caplog.text
        assert relay.is_idle()
        assert len(await client.names()) > 1


@pytest.mark.parametrize("asked", ["elicitation/create", "of/tomorrow"])
async def test_a_question_of_a_kind_that_older_clients_have_not_is_not_put_to_them(
    asked: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(MODERN) as (server, relay):
        asks(server, (asked, FORM))
        nobody = await relay.legacy()
        nobody.session = None  # a client without a session has shown no capabilities
        answer = await nobody.call("up__ask")
        if asked == "elicitation/create":
            assert answer["error"]["code"] == -32021
        else:
            assert "of/tomorrow" in text_of(answer)
