"""What a server asks in the middle of a call reaches the client's person, in all four cells."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Json, Speaking, ToolFailure
from ...fakes.relay import Client, LegacyClient, Relay, one, text_of

FORM: Json = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
CAPABILITIES: Json = {"elicitation": {"form": {}}, "sampling": {}, "roots": {"listChanged": True}}
ZOE: Json = {"action": "accept", "content": {"name": "Zoe"}}

Answering = Callable[[str, Json], Awaitable[Json]]


async def zoe(method: str, params: Json) -> Json:
    return ZOE


async def legacy_client(relay: Relay, person: str = "alice", capabilities: Json = CAPABILITIES) -> LegacyClient:
    client = LegacyClient(relay, person)
    params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "0"}}
    client.session = (await client.request("initialize", params)).headers["mcp-session-id"]
    return client


async def answer_live(client: LegacyClient, call: Json, answering: Answering) -> list[Json]:
    """Everything that came on the stream of one call, questions answered by POSTs of their own."""
    messages: list[Json] = []
    async with client.open("tools/call", call) as ongoing, trio.open_nursery() as nursery:

        async def reply(question: Json) -> None:
            body = {"jsonrpc": "2.0", "id": question["id"]}
            body["result"] = await answering(question["method"], question["params"])
            received = await client.post(json.dumps(body).encode(), client.headers("", {}))
            assert received.status == 202

        async for message in ongoing.events():
            messages.append(message)
            if "method" in message and "id" in message:
                nursery.start_soon(reply, message)
    return messages


async def answer_rounds(client: Client, call: Json, answering: Answering) -> list[Json]:
    """Every result of one call of a stateless client, its questions answered by retries."""
    results: list[Json] = []
    params = dict(call)
    for _ in range(10):
        answer = (await client.request("tools/call", params)).messages()[-1]
        results.append(answer)
        result = answer.get("result", {})
        if result.get("resultType") != "input_required":
            return results
        params = {**call, "requestState": result["requestState"]} if "requestState" in result else dict(call)
        params["inputResponses"] = {
            key: await answering(question["method"], question["params"])
            for key, question in result["inputRequests"].items()
        }
    raise AssertionError("it never ends")


def asks(server: FakeServer, *questions: tuple[str, Json]) -> None:
    """A tool ``ask`` that asks all `questions` and tells the answers, in the way of the server's revision."""

    async def live(speaking: Speaking) -> Json:
        answers = [await speaking.ask(method, **params) for method, params in questions]
        return {"content": [{"type": "text", "text": str([answer.get("result") for answer in answers])}]}

    async def rounds(speaking: Speaking) -> Json:
        params = speaking.incoming.params
        done = int(params.get("requestState", "0"))
        if done:
            assert set(params["inputResponses"]) == {f"k{done}"}
            told.append(params["inputResponses"][f"k{done}"])
        if done < len(questions):
            method, asked = questions[done]
            request = {"method": method, "params": asked}
            return {
                "resultType": "input_required",
                "inputRequests": {f"k{done + 1}": request},
                "requestState": str(done + 1),
            }
        return {"content": [{"type": "text", "text": str(told)}]}

    told: list[Any] = []
    server.tool("ask", live if server.revision == LEGACY else rounds)


CALL: Json = {"name": "up__ask", "arguments": {}}


async def conversation(relay: Relay, revision: str, answering: Answering = zoe, person: str = "alice") -> Json:
    if revision == MODERN:
        client = relay.modern(person, meta={f"{META}clientCapabilities": CAPABILITIES})
        return (await answer_rounds(client, CALL, answering))[-1]
    return (await answer_live(await legacy_client(relay, person), CALL, answering))[-1]


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_a_question_is_answered_in_every_cell(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[tuple[str, Json]] = []

    async def answering(method: str, params: Json) -> Json:
        heard.append((method, params))
        return {"elicitation/create": ZOE, "roots/list": {"roots": []}}[method]

    async with one(upstream_revision) as (server, relay):
        asks(server, ("elicitation/create", FORM), ("roots/list", {}))
        answer = await conversation(relay, client_revision, answering)
        assert answer["result"]["content"][0]["text"] == str([ZOE, {"roots": []}])
        assert heard == [("elicitation/create", FORM), ("roots/list", {})]
        await trio.testing.wait_all_tasks_blocked()
        assert relay.is_idle()


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
@pytest.mark.parametrize("client_revision", [MODERN, LEGACY])
async def test_the_time_that_a_person_takes_is_not_the_upstreams(
    client_revision: str, upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def slowly(method: str, params: Json) -> Json:
        await trio.sleep(300)
        return ZOE

    async with one(upstream_revision) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        answer = await conversation(relay, client_revision, slowly)
        assert answer["result"]["content"][0]["text"] == str([ZOE])


async def test_an_older_upstream_learns_what_this_client_can_be_asked() -> None:
    async with one(LEGACY) as (server, relay):
        asks(server)
        await conversation(relay, LEGACY)
        told = {name: server.client["capabilities"].get(name) for name in CAPABILITIES}
        assert told == {**CAPABILITIES, "roots": {}}
        await (await relay.legacy("bob")).call("up__ask")
        assert not set(server.client["capabilities"]) & set(CAPABILITIES)


async def test_a_stateless_upstream_that_asks_what_the_client_cannot_answer_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (server, relay):
        asks(server, ("sampling/createMessage", {"messages": [], "maxTokens": 1}))
        for client in (relay.modern(), await relay.legacy()):
            error = (await client.call("up__ask"))["error"]
            assert error["code"] == -32021
            assert error["data"] == {"requiredCapabilities": {"sampling": {}}}


async def test_an_older_upstream_that_asks_nobody_is_told_so() -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        assert (await (await relay.legacy()).call("up__ask"))["result"]["content"][0]["text"] == "[None]"
        (answer,) = server.answers.values()
        assert answer.message is not None
        assert answer.message["error"]["code"] == -32601


async def test_a_parked_call_that_nobody_comes_back_for_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY, input_timeout=600.0) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = relay.modern(meta={f"{META}clientCapabilities": CAPABILITIES})
        first = (await client.request("tools/call", CALL)).messages()[-1]["result"]
        assert first["resultType"] == "input_required"
        assert len(relay.parking) == 1
        await trio.sleep(601)
        assert len(relay.parking) == 0
        assert server.cancelled, "the upstream was told to stop"
        late = {**CALL, "requestState": first["requestState"], "inputResponses": {}}
        error = (await client.request("tools/call", late)).messages()[-1]["error"]
        assert error["code"] == -32602
        assert "Call again" in error["message"]


@pytest.mark.requirement("MR1")
@pytest.mark.parametrize("change", ["person", "arguments", "mutated"])
async def test_a_parked_call_is_its_persons_and_its_requests(
    change: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = relay.modern(meta={f"{META}clientCapabilities": CAPABILITIES})
        first = (await client.request("tools/call", CALL)).messages()[-1]["result"]
        state = first["requestState"]
        retry = {**CALL, "requestState": state, "inputResponses": dict.fromkeys(first["inputRequests"], ZOE)}
        wrong, who = dict(retry), "alice"
        match change:
            case "person":
                who = "bob"
            case "arguments":
                wrong["arguments"] = {"x": 1}
            case _:
                wrong["requestState"] = state[:-4] + ("AAAA" if state[-4:] != "AAAA" else "BBBB")
        other = relay.modern(who, meta={f"{META}clientCapabilities": CAPABILITIES})
        assert (await other.request("tools/call", wrong)).messages()[-1]["error"]["code"] == -32602
        assert (await client.request("tools/call", retry)).messages()[-1]["result"]["resultType"] == "complete"


async def test_an_answer_counts_from_the_person_and_session_that_were_asked_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        alice, same, bob = await legacy_client(relay), await legacy_client(relay), await legacy_client(relay, "bob")

        async def forged(method: str, params: Json) -> Json:
            (id,) = relay.questions._waiting
            body = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}}).encode()
            for other in (same, bob):
                assert (await other.post(body, other.headers("", {}))).status == 400
            return ZOE

        answer = (await answer_live(alice, CALL, forged))[-1]
        assert answer["result"]["content"][0]["text"] == str([ZOE])


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_client_that_never_answers_is_told_to_forget_the_question(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision, input_timeout=30.0) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client = await legacy_client(relay)
        async with client.open("tools/call", CALL) as ongoing:
            messages = [message async for message in ongoing.events()]
        question, forget, answer = messages
        assert forget["method"] == "notifications/cancelled"
        assert forget["params"]["requestId"] == question["id"]
        if upstream_revision == MODERN:
            assert "nobody answered within 30 s" in text_of(answer)
        else:
            assert answer["result"]["content"][0]["text"] == "[None]"


@pytest.mark.parametrize("upstream_revision", [MODERN, LEGACY])
async def test_a_question_ends_with_the_session_that_was_asked_and_no_other(
    upstream_revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision, input_timeout=300.0) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        client, other = await legacy_client(relay), await legacy_client(relay)
        async with client.open("tools/call", CALL) as ongoing:
            (question,) = await ongoing.wait_messages(1)
            assert (await other.post(b"", other.headers("", {}), method="DELETE")).status == 204
            await trio.sleep(5)
            assert len(relay.questions) == 1
            assert (await client.post(b"", client.headers("", {}), method="DELETE")).status == 204
            with trio.fail_after(1):
                _, forget, answer = [message async for message in ongoing.events()]
        assert forget["params"] == {"requestId": question["id"], "reason": "the session is over"}
        if upstream_revision == MODERN:
            assert "the client ended its session" in text_of(answer)
        else:
            assert answer["result"]["content"][0]["text"] == "[None]"
        assert len(relay.questions) == 0


URL_ERROR: Json = {
    "code": -32042,
    "message": "open this",
    "data": {
        "elicitations": [
            {"mode": "url", "elicitationId": "e1", "url": "https://up.example.com/pay", "message": "Pay first"}
        ]
    },
}
SHOWS: Json = {"elicitation": {"url": {}}}


def wants_payment(server: FakeServer) -> list[bool]:
    paid: list[bool] = []

    async def run(speaking: Speaking) -> Json:
        if not paid:
            raise ToolFailure(URL_ERROR)
        return {"content": []}

    server.tool("ask", run)
    return paid


async def test_a_page_that_an_older_upstream_wants_opened_is_a_question_to_a_stateless_client() -> None:
    async with one(LEGACY) as (server, relay):
        paid = wants_payment(server)
        client = relay.modern(meta={f"{META}clientCapabilities": SHOWS})
        result = (await client.call("up__ask"))["result"]
        ((key, question),) = result["inputRequests"].items()
        assert question == {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://up.example.com/pay", "message": "Pay first"},
        }
        declined = await client.call("up__ask", inputResponses={key: {"action": "decline"}})
        assert "did not want" in text_of(declined)
        paid.append(True)
        answer = await client.call("up__ask", inputResponses={key: {"action": "accept"}})
        assert answer["result"]["resultType"] == "complete"
        assert "inputResponses" not in server.calls()[-1].params


@pytest.mark.parametrize("beside", [False, True])
async def test_an_older_client_is_told_that_the_page_it_opened_is_done(
    beside: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """2025-11-25, completion notifications for URL mode. Clients of 2026-07-28 have no name for the question."""
    page = {"mode": "url", "elicitationId": "up-7", "url": "https://up.example.com/pay", "message": "Pay"}

    async def run(speaking: Speaking) -> Json:
        await speaking.ask("elicitation/create", beside=beside, **page)
        await trio.sleep(5)
        method, params = "notifications/elicitation/complete", {"elicitationId": "up-7"}
        if beside:
            await server.announce(method, **params)
            await trio.sleep(1)
        else:
            await speaking.notify(method, **params)
        return {"content": []}

    async with one(LEGACY) as (server, relay):
        server.tells_of_changes()
        server.tool("ask", run)

        async def accept(method: str, params: Json) -> Json:
            return {"action": "accept"}

        messages = await answer_live(await legacy_client(relay, capabilities=SHOWS), CALL, accept)
        assert messages[0]["params"] == page
        assert messages[1] == {
            "jsonrpc": "2.0",
            "method": "notifications/elicitation/complete",
            "params": {"elicitationId": "up-7"},
        }
        assert messages[2]["result"]["content"] == []
        stateless = relay.modern(meta={f"{META}clientCapabilities": SHOWS})
        *_, last = await answer_rounds(stateless, CALL, accept)
        assert last["result"]["content"] == []


async def test_a_page_to_open_is_told_in_words_where_it_cannot_be_shown() -> None:
    async with one(LEGACY) as (server, relay):
        wants_payment(server)
        for client in (relay.modern(), await relay.legacy()):
            text = text_of(await client.call("up__ask"))
            assert "Pay first https://up.example.com/pay" in text
            assert "the tool was not run" in text
        shows = await legacy_client(relay, capabilities=SHOWS)
        assert (await shows.call("up__ask"))["error"] == URL_ERROR
