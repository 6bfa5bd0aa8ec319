"""Whoever only listens, and a call that waits for its person, do not hold a process that is told to stop."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
import trio

from tests.parts.processes import free_port
from tests.parts.servers.fixtures import open_fixture_server

from .asking import LEGACY, MODERN, Asking, Json, message, open_asking
from .own_process import WAYS, Way, configuration, open_own_process, stop

pytestmark = pytest.mark.live

DRAIN = 100  # seconds
ASKS = "up__test_input_required_result_elicitation"


@pytest.mark.parametrize("way", WAYS)
async def test_streams_end_in_order_and_parked_calls_end_at_once(way: Way) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(open_fixture_server("older"))
        config = configuration("http://127.0.0.1:9", port, {"up": upstream}, drain=f"{DRAIN}s")
        process = await stack.enter_async_context(open_own_process(way, config))
        clients = {
            revision: await stack.enter_async_context(open_asking(config["issuerUrl"], revision))
            for revision in (MODERN, LEGACY)
        }
        parked = message("tools/call", {"name": ASKS, "arguments": {}}, MODERN)
        parked["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {"form": {}}}
        answer = (await clients[MODERN].post(parked)).json()
        assert answer["result"]["resultType"] == "input_required"
        heard: dict[str, list[Json]] = {MODERN: [], LEGACY: []}
        async with trio.open_nursery() as nursery:
            for revision, client in clients.items():
                await nursery.start(listen, client, heard[revision])
            started = trio.current_time()
            assert await stop(process) == 0, process.output()
        assert trio.current_time() - started < DRAIN, "nobody has to wait for them"
        assert "result" in heard[MODERN][-1], "the subscription was ended in order"
        assert "Traceback" not in process.output()


async def listen(
    asking: Asking, heard: list[Json], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """All that comes on the client's stream for changes, to its end."""
    body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, MODERN)
    headers = asking.headers(body)
    method, content = ("POST", json.dumps(body)) if asking.revision == MODERN else ("GET", None)
    async with asking.http.stream(method, asking.url, content=content, headers=headers, timeout=None) as answer:
        assert answer.status_code == 200
        task_status.started()
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                heard.append(json.loads(line[5:]))
