"""A crowd over real sockets: many people with the same ids are asked at once, some leave; each greeting is its own
person's, and every descriptor and task is given back."""

from __future__ import annotations

import json
import os
import random
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, wait_until
from tests.parts.servers.fixtures import open_fixture_server

from .asking import LEGACY, MODERN, Asking, Json, bearer_for, message, text_of
from .deployment import open_deployment
from .oracle import open_files

pytestmark = pytest.mark.live

PEOPLE = 60
CALLS = 240
CAPABILITIES: Json = {"elicitation": {"form": {}}}
TOOL = "test_input_required_result_elicitation"  # asks for a name and greets


class Person:
    """One client of one person. Every request has the id 7."""

    def __init__(self, asking: Asking, name: str) -> None:
        self.name = name
        self._asking = asking

    async def begin(self) -> None:
        if self._asking.revision == LEGACY:
            params = {
                "protocolVersion": LEGACY,
                "capabilities": CAPABILITIES,
                "clientInfo": {"name": "x", "version": ""},
            }
            answer = await self._asking.post({**message("initialize", params), "id": 7})
            self._asking.session = answer.headers["mcp-session-id"]

    async def greet(self, upstream: str, name: str) -> str:
        """The greeting that comes back for `name`."""
        params: Json = {"name": f"{upstream}__{TOOL}", "arguments": {}}
        if self._asking.revision == LEGACY:
            return text_of(await self._answer_live(params, name))
        while True:
            result = await self._post(params)
            if result["resultType"] != "input_required":
                return text_of(result)
            (key,) = result["inputRequests"]
            params["inputResponses"] = {key: {"action": "accept", "content": {"name": name}}}
            if "requestState" in result:
                params["requestState"] = result["requestState"]

    async def _post(self, params: Json) -> Json:
        meta = {"io.modelcontextprotocol/clientCapabilities": CAPABILITIES}
        body = {**message("tools/call", {**params, "_meta": meta}, MODERN), "id": 7}
        body["params"]["_meta"] |= meta
        answer = (await self._asking.post(body)).json()
        assert answer["id"] == 7
        result: Json = answer["result"]
        return result

    async def _answer_live(self, params: Json, name: str) -> Json:
        body = {**message("tools/call", params), "id": 7}
        content, headers = json.dumps(body), self._asking.headers(body)
        final: Json | None = None
        async with self._asking.http.stream("POST", self._asking.url, content=content, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data:") or not line[5:].strip():
                    continue
                came: dict[str, Any] = json.loads(line[5:])
                if came.get("method") == "elicitation/create":
                    result = {"action": "accept", "content": {"name": name}}
                    reply = {"jsonrpc": "2.0", "id": came["id"], "result": result}
                    taken = await self._asking.http.post(self._asking.url, content=json.dumps(reply), headers=headers)
                    assert taken.status_code == 202
                elif "result" in came:
                    assert came["id"] == 7
                    final = came["result"]
        assert final is not None, "the stream ended without an answer"
        return final


# Whoever leaves leaves httpx2's generators to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
)
async def test_a_crowd_is_asked_and_each_is_greeted_by_their_own_name() -> None:
    chance = random.Random(6)
    greeted = left = 0

    async def take_part(person: Person, number: int) -> None:
        nonlocal greeted, left
        await trio.sleep(chance.uniform(0, 6))
        name = f"{person.name}-{number}"
        upstream = ("older", "modern")[number // 3 % 2]
        if number % 10 == 0:
            with trio.move_on_after(0.001 * (1 + number // 10)) as scope:
                await person.greet(upstream, name)
            left += scope.cancelled_caught
            return
        assert await person.greet(upstream, name) == f"Hello, {name}!"
        greeted += 1

    async with AsyncExitStack() as stack:
        upstreams = {
            "older": await stack.enter_async_context(open_fixture_server("older")),
            "modern": await stack.enter_async_context(open_fixture_server("all")),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams, issuer="http://127.0.0.1:9"))
        files = open_files(os.getpid())
        limits = httpx2.Limits(max_connections=1000)
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits) as http:
            people = []
            for number in range(PEOPLE):
                token = bearer_for(deployment.url, subject=f"p{number}")
                asking = Asking(deployment.mcp, token, http, (MODERN, LEGACY)[number % 2])
                people.append(Person(asking, f"p{number}"))
                await people[-1].begin()
            async with trio.open_nursery() as nursery:
                for number in range(CALLS):
                    nursery.start_soon(take_part, people[number % PEOPLE], number)
        assert greeted == CALLS - CALLS // 10
        assert left > 0
        # Connections to upstreams live four seconds longer; a session's own stream a minute, one for each person.
        await wait_until(lambda: open_files(os.getpid()) <= files + PEOPLE + 20)
