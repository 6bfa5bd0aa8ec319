"""Two processes over one SQLite file: what a client says to one takes effect at the other, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, Running, free_port
from tests.parts.servers import open_older_python_server
from tests.parts.servers.fixtures import open_fixture_server

from .asking import LEGACY, MODERN, Asking, Json, bearer_for, message, read_events, text_of
from .own_process import configuration, open_own_process

pytestmark = pytest.mark.live

CAPABILITIES: Json = {"elicitation": {"form": {}}}
ANSWER: Json = {"action": "accept", "content": {"username": "zoe", "email": "zoe@example.com"}}
ASK: Json = {"name": "fixtures__test_elicitation", "arguments": {"message": "Who?"}}
LOOK_AGAIN = 0.1  # seconds


@dataclass
class Pair:
    """Two instances, each at its own address, in front of one upstream."""

    http: httpx2.AsyncClient
    addresses: list[str]
    token: str
    processes: list[Running]

    def client(self, at: int, revision: str, session: str | None = None) -> Asking:
        return Asking(f"{self.addresses[at]}/mcp", self.token, self.http, revision, session)


@asynccontextmanager
async def open_pair(tmp_path: Path) -> AsyncIterator[Pair]:
    ports = [free_port(), free_port()]
    public = f"http://127.0.0.1:{ports[0]}"  # both have one name; a client may come to either
    async with AsyncExitStack() as stack:
        upstreams = {
            "fixtures": await stack.enter_async_context(open_fixture_server("older")),
            "python": await stack.enter_async_context(open_older_python_server()),
        }
        processes = []
        for port in ports:
            config = configuration("http://127.0.0.1:9", port, upstreams)
            config |= {"issuerUrl": public, "storage": str(tmp_path / "store.sqlite"), "allowedHosts": ["127.0.0.1"]}
            processes.append(await stack.enter_async_context(open_own_process("serve", config)))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=PATIENCE))
        http.headers["host"] = f"127.0.0.1:{ports[0]}"
        yield Pair(http, [f"http://127.0.0.1:{port}" for port in ports], bearer_for(public), processes)


async def begin_session(client: Asking) -> str:
    params = {"protocolVersion": LEGACY, "capabilities": CAPABILITIES, "clientInfo": {"name": "t", "version": "1"}}
    answer = await client.post(message("initialize", params))
    client.session = answer.headers["mcp-session-id"]
    return client.session


async def events(answer: httpx2.Response) -> AsyncIterator[Json]:
    async for line in answer.aiter_lines():
        if line.startswith("data:") and (data := line[5:].strip()):  # a stream begins with an empty one
            yield json.loads(data)


# Whoever leaves leaves httpx2's generators to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
)
async def test_whatever_lands_elsewhere_takes_effect(tmp_path: Path) -> None:
    with trio.fail_after(5 * PATIENCE):
        async with open_pair(tmp_path) as pair:
            await an_answer_reaches_the_call(pair)
            await a_cancellation_ends_the_call(pair)
            await a_subscription_is_told_on_the_open_stream(pair)
            await a_level_holds_and_the_end_is_one(pair)
            await a_retry_goes_on_with_the_parked_call(pair)
            await a_broken_stream_goes_on(pair)
            await what_a_killed_instance_had_is_told_to_be_lost(pair)


async def an_answer_reaches_the_call(pair: Pair) -> None:
    here = pair.client(0, LEGACY)
    there = pair.client(1, LEGACY, await begin_session(here))
    call = message("tools/call", ASK)
    async with pair.http.stream("POST", here.url, json=call, headers=here.headers(call)) as answer:
        messages = []
        async for one in events(answer):
            messages.append(one)
            if one.get("method") == "elicitation/create":
                reply: Json = {"jsonrpc": "2.0", "id": one["id"], "result": ANSWER}
                assert (await there.post(reply)).status_code == 202
    assert "action=accept" in text_of(messages[-1]["result"])
    assert "zoe@example.com" in text_of(messages[-1]["result"])


async def a_cancellation_ends_the_call(pair: Pair) -> None:
    here = pair.client(0, LEGACY)
    there = pair.client(1, LEGACY, await begin_session(here))
    call = message("tools/call", {"name": "python__wait", "arguments": {"label": "elsewhere", "seconds": 120}})
    async with trio.open_nursery() as nursery:

        async def wait_cancelled() -> None:
            answer = await pair.http.post(here.url, json=call, headers=here.headers(call), timeout=120)
            assert read_events(answer)[-1]["error"]["message"] == "The request was cancelled"

        nursery.start_soon(wait_cancelled)
        await wait_ending(there, "elsewhere: started")
        await there.notify("notifications/cancelled", {"requestId": call["id"]})
    await wait_ending(there, "elsewhere: cancelled")


async def wait_ending(client: Asking, ending: str) -> None:
    while ending not in text_of(await client.call("python__endings")):  # noqa: ASYNC110  told by polling only
        await trio.sleep(LOOK_AGAIN)


async def a_subscription_is_told_on_the_open_stream(pair: Pair) -> None:
    here = pair.client(0, LEGACY)
    there = pair.client(1, LEGACY, await begin_session(here))
    assert await here.tools()
    headers = {**here.headers(message("ping", {})), "accept": "text/event-stream"}
    async with pair.http.stream("GET", here.url, headers=headers) as stream, trio.open_nursery() as nursery:
        assert stream.status_code == 200
        assert await there.ask("resources/subscribe", {"uri": "test://watched-resource"}) == {}

        async def change() -> None:
            while True:  # the first ones may come before the stream's process knows of the subscription
                await there.call("fixtures__test_trigger_resource_change")
                await trio.sleep(LOOK_AGAIN)

        nursery.start_soon(change)
        async for told in events(stream):
            if told["method"] == "notifications/resources/updated":
                assert told["params"]["uri"] == "test://watched-resource"
                nursery.cancel_scope.cancel()


async def a_level_holds_and_the_end_is_one(pair: Pair) -> None:
    here = pair.client(0, LEGACY)
    there = pair.client(1, LEGACY, await begin_session(here))
    assert await logged(here) == 3
    assert await there.ask("logging/setLevel", {"level": "error"}) == {}
    while await logged(here):
        pass
    headers = here.headers(message("ping", {}))
    listening = {**headers, "accept": "text/event-stream"}
    async with pair.http.stream("GET", here.url, headers=listening) as stream:
        assert stream.status_code == 200
        assert (await pair.http.delete(there.url, headers=headers)).status_code == 204
        async for _ in stream.aiter_lines():
            pass
    assert (await here.post(message("ping", {}))).status_code == 404


async def logged(client: Asking) -> int:
    await client.call("fixtures__test_tool_with_logging")
    return sum(one["method"] == "notifications/message" for one in client.seen)


async def a_retry_goes_on_with_the_parked_call(pair: Pair) -> None:
    here, there = pair.client(0, MODERN), pair.client(1, MODERN)
    asked = await here.ask("tools/call", with_capabilities(ASK))
    assert "action=accept" in text_of(await there.ask("tools/call", retry_of(asked)))


async def a_broken_stream_goes_on(pair: Pair) -> None:
    here = pair.client(0, LEGACY)
    there = pair.client(1, LEGACY, await begin_session(here))
    headers = {**there.headers(message("ping", {})), "last-event-id": await ask_and_leave(here)}
    async with pair.http.stream("GET", there.url, headers=headers) as stream:
        messages = []
        async for one in events(stream):
            messages.append(one)
            if one.get("method") == "elicitation/create":
                reply: Json = {"jsonrpc": "2.0", "id": one["id"], "result": ANSWER}
                assert (await there.post(reply)).status_code == 202
    assert [one.get("method") for one in messages] == ["elicitation/create", None]
    assert "action=accept" in text_of(messages[-1]["result"])


async def ask_and_leave(client: Asking) -> str:
    """Make a call that asks, and leave when it does; the id of the event before the question."""
    call = message("tools/call", ASK)
    async with client.http.stream("POST", client.url, json=call, headers=client.headers(call)) as answer:
        id = ""
        async for line in answer.aiter_lines():
            if line.startswith("id: ") and not id:
                id = line[4:]
            elif line.startswith("data: "):
                break
    return id


async def what_a_killed_instance_had_is_told_to_be_lost(pair: Pair) -> None:
    here, there = pair.client(0, MODERN), pair.client(1, MODERN)
    asked = await there.ask("tools/call", with_capabilities(ASK))
    older = pair.client(1, LEGACY)
    await begin_session(older)
    last_event = await ask_and_leave(older)
    pair.processes[1].process.kill()
    await pair.processes[1].process.wait()
    answer = (await here.post(message("tools/call", retry_of(asked), MODERN))).json()
    assert answer["error"]["code"] == -32602
    assert "Call again" in answer["error"]["message"]
    headers = {**older.headers(message("ping", {})), "last-event-id": last_event}
    (lost,) = read_events(await pair.http.get(here.url, headers=headers))
    assert "the answer is lost" in text_of(lost["result"])


def with_capabilities(params: Json) -> Json:
    return {**params, "_meta": {"io.modelcontextprotocol/clientCapabilities": CAPABILITIES}}


def retry_of(asked: dict[str, Any]) -> Json:
    assert asked["resultType"] == "input_required"
    answers = dict.fromkeys(asked["inputRequests"], ANSWER)
    return with_capabilities({**ASK, "requestState": asked["requestState"], "inputResponses": answers})
