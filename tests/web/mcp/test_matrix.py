"""Every cell, with every primitive, in every way that a request can go: what the client sees, what the upstream sees,
and that nothing is left of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from aggregator.upstream.streams import GRACE
from aggregator.web.mcp.listening import ACKNOWLEDGE

from ...fakes.asgi import Ongoing
from ...fakes.mcp_server import LEGACY, META, MODERN, FakeServer, Incoming, Json, Raw, Speaking, Tool, ToolFailure
from ...fakes.relay import CELLS, Client, ModernClient, Relay, in_every_cell, one
from .test_conversing import CAPABILITIES, FORM, ZOE, legacy_client
from .test_listening import listening, settle, updates

TIMEOUT = 20.0  # seconds, the upstream's toolTimeout here
OWN_ERROR: Json = {"code": 7, "message": "not today", "data": {"why": [1]}}


@dataclass(frozen=True)
class Primitive:
    """`params` as the client sends them, `result` as the upstream answers with a text, and `told` finds that again."""

    method: str
    params: Json
    result: Callable[[str], Json]
    told: Callable[[Json], str]
    has_rounds: bool = True  # 2026-07-28: "input_required" may answer it


PRIMITIVES = {
    "tools/call": Primitive(
        "tools/call",
        {"name": "up__it", "arguments": {}},
        lambda text: {"content": [{"type": "text", "text": text}]},
        lambda result: str(result["content"][0]["text"]),
    ),
    "resources/read": Primitive(
        "resources/read",
        {"uri": "mem://it"},
        lambda text: {"contents": [{"uri": "mem://it", "text": text}]},
        lambda result: str(result["contents"][0]["text"]),
    ),
    "prompts/get": Primitive(
        "prompts/get",
        {"name": "up__it"},
        lambda text: {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]},
        lambda result: str(result["messages"][0]["content"]["text"]),
    ),
    "completion/complete": Primitive(
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "up__it"}, "argument": {"name": "a", "value": "b"}},
        lambda text: {"completion": {"values": [text]}},
        lambda result: str(result["completion"]["values"][0]),
        has_rounds=False,
    ),
}
with_every_primitive = pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
ASKING = [name for name, primitive in PRIMITIVES.items() if primitive.has_rounds]
# By client, upstream and primitive: 2026-07-28 asks in the middle of what may be sent again only.
QUESTIONS = [
    (client, upstream, name)
    for client, upstream in CELLS
    for name, primitive in PRIMITIVES.items()
    if primitive.has_rounds or upstream == LEGACY
]


def offers(server: FakeServer, primitive: Primitive, run: Tool) -> None:
    server.capabilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
    server.resources = [{"uri": "mem://it", "name": "it"}]
    server.results["prompts/list"] = lambda incoming: {"prompts": [{"name": "it", "arguments": [{"name": "a"}]}]}
    server.tool("it", run)
    server.doing[primitive.method] = run


async def client_of(relay: Relay, revision: str, person: str = "alice") -> Client:
    """A client that can be asked things."""
    if revision == MODERN:
        return relay.modern(person, meta={f"{META}clientCapabilities": CAPABILITIES})
    return await legacy_client(relay, person)


async def hang(speaking: Speaking) -> Json:
    await trio.sleep_forever()
    raise AssertionError


async def ended(server: FakeServer, relay: Relay) -> None:
    """Nothing of what was asked is left, neither with us nor at the upstream."""
    await trio.sleep(3)
    await trio.testing.wait_all_tasks_blocked()
    assert relay.is_idle()
    assert not server.running
    assert not server.open
    assert len(relay.endpoint._pulse) == 0


@in_every_cell
@with_every_primitive
async def test_an_answer_comes_back(
    client_revision: str, upstream_revision: str, primitive: Primitive, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(speaking: Speaking) -> Json:
        return primitive.result("hello")

    async with one(upstream_revision) as (server, relay):
        offers(server, primitive, run)
        client = await client_of(relay, client_revision)
        received = await client.request(primitive.method, primitive.params, id="mine")
        (message,) = received.messages()
        assert message["id"] == "mine"
        assert primitive.told(message["result"]) == "hello"
        (sent,) = server.calls(primitive.method)
        assert sent.finished
        assert sent.message["id"] != "mine"
        assert server.cancelled == []
        await ended(server, relay)


@in_every_cell
@with_every_primitive
async def test_an_error_of_the_upstreams_own_comes_back(
    client_revision: str, upstream_revision: str, primitive: Primitive, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(speaking: Speaking) -> Json:
        raise ToolFailure(OWN_ERROR)

    async with one(upstream_revision) as (server, relay):
        offers(server, primitive, run)
        client = await client_of(relay, client_revision)
        received = await client.request(primitive.method, primitive.params, id="mine")
        assert received.messages() == [{"jsonrpc": "2.0", "id": "mine", "error": OWN_ERROR}]
        assert len(server.calls(primitive.method)) == 1
        await ended(server, relay)


@in_every_cell
@with_every_primitive
@pytest.mark.parametrize("how", ["cancel", "disconnect"])
async def test_a_client_that_goes_away_or_changes_its_mind(
    client_revision: str, upstream_revision: str, primitive: Primitive, how: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A stateless client cancels by leaving. An older one says so, and whoever leaves without a word cancels nothing:
    its call runs on, for as long as `toolTimeout` allows."""

    async def run(speaking: Speaking) -> Json:
        await trio.sleep(10)
        return primitive.result("late")

    async with one(upstream_revision) as (server, relay):
        offers(server, primitive, run)
        client = await client_of(relay, client_revision)
        async with client.open(primitive.method, primitive.params, id=5) as ongoing:
            await trio.sleep(1)
            (sent,) = server.calls(primitive.method)
            if client_revision == LEGACY and how == "cancel":
                assert (await client.notify("notifications/cancelled", {"requestId": 5})).status == 202
                await ongoing.done.wait()
                assert ongoing.messages()[-1]["error"]["code"] == -32800
            else:
                ongoing.disconnect()
                await ongoing.done.wait()
                assert ongoing.status is None
        await ended(server, relay)
        runs_on = client_revision == LEGACY and how == "disconnect"
        assert server.cancelled == ([] if runs_on else [sent.message["id"]])
        assert sent.finished is runs_on or upstream_revision == LEGACY
        told = [call.params["requestId"] for call in server.calls("notifications/cancelled")]
        assert told == ([sent.message["id"]] if upstream_revision == LEGACY and not runs_on else [])


@in_every_cell
@with_every_primitive
async def test_an_upstream_that_takes_too_long(
    client_revision: str, upstream_revision: str, primitive: Primitive, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(upstream_revision, upstreams={"up": {"tool_timeout": TIMEOUT}}) as (server, relay):
        offers(server, primitive, hang)
        client = await client_of(relay, client_revision)
        began = trio.current_time()
        message = (await client.request(primitive.method, primitive.params, id="mine")).messages()[-1]
        assert trio.current_time() - began == pytest.approx(TIMEOUT, abs=1)
        assert message["id"] == "mine"
        if primitive.method == "tools/call":
            assert message["result"]["isError"] is True
            text = primitive.told(message["result"])
        else:
            text = message["error"]["message"]
        assert "up" in text
        assert f"no answer within toolTimeout ({TIMEOUT:g} s); it was told to stop" in text
        (sent,) = server.calls(primitive.method)
        await ended(server, relay)
        assert server.cancelled == [sent.message["id"]]


def asking(server: FakeServer, primitive: Primitive) -> Tool:
    async def live(speaking: Speaking) -> Json:
        answer = await speaking.ask("elicitation/create", **FORM)
        return primitive.result(json.dumps(answer.get("result", "refused")))

    async def rounds(speaking: Speaking) -> Json:
        if (answers := speaking.incoming.params.get("inputResponses")) is not None:
            assert speaking.incoming.params["requestState"] == "s"
            return primitive.result(json.dumps(answers["k"]))
        question = {"method": "elicitation/create", "params": FORM}
        return {"resultType": "input_required", "inputRequests": {"k": question}, "requestState": "s"}

    return live if server.revision == LEGACY else rounds


async def answer_all(client: Client, primitive: Primitive, patience: float) -> Json:
    """The answer to a request, whose questions are answered `patience` seconds after they came."""
    params = dict(primitive.params)
    if client.revision == MODERN:
        while True:
            (message,) = (await client.request(primitive.method, params)).messages()
            result: Json = message["result"]
            if result["resultType"] != "input_required":
                return result
            await trio.sleep(patience)
            answers = {key: ZOE for key, asked in result["inputRequests"].items() if asked["params"] == FORM}
            params = {**primitive.params, "requestState": result["requestState"], "inputResponses": answers}
    async with client.open(primitive.method, params) as ongoing:
        async for message in ongoing.events():
            if "method" in message:
                assert message["params"] == FORM
                await trio.sleep(patience)
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": ZOE}).encode()
                assert (await client.post(body, client.headers("", {}))).status == 202
    final: Json = ongoing.messages()[-1]["result"]
    return final


@pytest.mark.parametrize(("client_revision", "upstream_revision", "name"), QUESTIONS)
async def test_an_upstream_that_asks_the_person(
    client_revision: str, upstream_revision: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Answered long after `toolTimeout`. Where the client's revision has no way to ask within this request, the
    upstream is told so, and answers without."""
    primitive = PRIMITIVES[name]
    async with one(upstream_revision, upstreams={"up": {"tool_timeout": TIMEOUT}}) as (server, relay):
        offers(server, primitive, asking(server, primitive))
        client = await client_of(relay, client_revision)
        result = await answer_all(client, primitive, 3 * TIMEOUT)
        can = primitive.has_rounds or client_revision == LEGACY
        assert primitive.told(result) == json.dumps(ZOE if can else "refused")
        assert len(server.calls(primitive.method)) == (2 if upstream_revision == MODERN else 1)
        assert server.cancelled == []
        await ended(server, relay)


@in_every_cell
@pytest.mark.parametrize("name", ASKING)
async def test_a_client_that_goes_away_when_it_is_asked(
    client_revision: str, upstream_revision: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """In the end nothing is left: a parked call, or a question that waits for an answer, ends after `inputTimeout`."""
    primitive = PRIMITIVES[name]
    async with one(upstream_revision, input_timeout=100.0) as (server, relay):
        offers(server, primitive, asking(server, primitive))
        client = await client_of(relay, client_revision)
        async with client.open(primitive.method, primitive.params) as ongoing:
            await ongoing.wait_messages(1)
            ongoing.disconnect()
            await ongoing.done.wait() if client_revision == MODERN else None
        await trio.sleep(101)
        await ended(server, relay)


LISTS: dict[str, tuple[str, Json, str]] = {
    "tools/list": ("tools", {"name": "it", "inputSchema": {"type": "object"}}, "up__it"),
    "prompts/list": ("prompts", {"name": "it"}, "up__it"),
    "resources/list": ("resources", {"uri": "mem://it", "name": "it"}, "it"),
    "resources/templates/list": ("resourceTemplates", {"uriTemplate": "mem://{it}", "name": "it"}, "it"),
}


@in_every_cell
@pytest.mark.parametrize("method", LISTS)
@pytest.mark.parametrize("ending", ["normal", "error", "time-out", "disconnect"])
async def test_a_list_however_its_upstream_answers(
    client_revision: str,
    upstream_revision: str,
    method: str,
    ending: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A list never fails for an upstream: it has what there is, at the latest at `discoveryTimeout`; nor does it end
    with the client that asked for it first."""
    key, item, name = LISTS[method]
    hangs = True

    def listed(incoming: Incoming) -> Json:
        if ending == "error":
            raise ToolFailure(OWN_ERROR)
        return {key: [item]}

    async def before(incoming: Incoming) -> None:
        while incoming.method == method and hangs:
            await trio.sleep(2 if ending == "disconnect" else 1000)
            if ending == "disconnect":
                return

    async with one(upstream_revision) as (server, relay):
        server.capabilities = {"tools": {}, "prompts": {}, "resources": {}}
        for other, (kind, _, _) in LISTS.items():
            if other not in ("tools/list", method):
                server.results[other] = lambda incoming, kind=kind: {kind: []}  # type: ignore[misc]
        if method == "tools/list" and ending != "error":
            server.tools.append(item)
        else:
            server.results[method] = listed
        if method == "tools/list" and ending == "error":
            server.scripts["tools/list"] = _refusing
        if ending in ("time-out", "disconnect"):
            server.before = before
        client = await client_of(relay, client_revision)
        began = trio.current_time()
        if ending == "disconnect":
            async with client.open(method) as ongoing:
                await trio.sleep(1)
                ongoing.disconnect()
            await trio.sleep(2)
        received = await client.request(method)
        shown = [one["name"] for one in received.json()["result"][key] if not one["name"].startswith("gateway__")]
        assert shown == ([name] if ending in ("normal", "disconnect") else [])
        assert trio.current_time() - began <= 5.5
        if ending == "disconnect":
            assert len(server.calls(method)) == 1, "the listing that was begun goes on for everybody"
        hangs = False
        await trio.sleep(10)
        assert relay.is_idle()


async def _refusing(incoming: Incoming) -> Raw:
    message = {"jsonrpc": "2.0", "id": incoming.message["id"], "error": OWN_ERROR}
    return Raw(200, chunks=[json.dumps(message).encode()])


@in_every_cell
@pytest.mark.parametrize("ending", ["normal", "error", "time-out", "cancel", "disconnect"])
async def test_a_stream_for_changes_however_it_goes(
    client_revision: str, upstream_revision: str, ending: str, autojump_clock: trio.testing.MockClock
) -> None:
    hung = ending == "time-out"
    opening = "subscriptions/listen" if upstream_revision == MODERN else "GET"

    async def before(incoming: Incoming) -> None:
        if incoming.method == opening and hung:
            await trio.sleep_forever()

    async with one(upstream_revision) as (server, relay):
        server.tells_of_changes("mem://it")
        server.tells = ending != "error"
        server.before = before
        client = await client_of(relay, client_revision)
        await client.names()
        async with listening(client, "mem://it") as ongoing:
            await settle(ACKNOWLEDGE + 1)
            acknowledged = ongoing.messages()[0]["params"]["notifications"] if client_revision == MODERN else {}
            await server.announce("notifications/resources/updated", uri="mem://it")
            await settle()
            told = ending not in ("error", "time-out")
            assert [message["params"]["uri"] for message in updates(ongoing)] == (["mem://it"] if told else [])
            if client_revision == MODERN:
                assert ("resourceSubscriptions" in acknowledged) is told, "what is honoured, and nothing else"
            await leave(client, ongoing, ending)
        hung = False
        await settle(GRACE + 40)
        assert server.listeners == []
        assert len(relay.streams) == 0
        await ended(server, relay)


async def leave(client: Client, ongoing: Ongoing, how: str) -> None:
    if how == "cancel" and not isinstance(client, ModernClient):
        assert (await client.post(b"", client.headers("", {}), method="DELETE")).status == 204
        await ongoing.done.wait()
        assert ongoing.ended
        return
    ongoing.disconnect()
    await ongoing.done.wait()


def test_the_matrix_is_whole() -> None:
    cells = list(itertools.product((MODERN, LEGACY), repeat=2))
    assert len(cells) * (len(PRIMITIVES) * 7 + len(LISTS) * 4 + 5) == 196
