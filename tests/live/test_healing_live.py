"""Each kind of real upstream is killed in the middle of traffic and started again: only what was running is lost, and
its client is told whether it may have run."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio

from aggregator.upstream.absence import RESTART
from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port, wait_until
from tests.parts.servers import open_older_python_server, open_python_server

from .asking import LEGACY, MODERN, Asking, message, open_asking, text_of
from .deployment import open_deployment
from .oracle import children

pytestmark = pytest.mark.live

Open = Callable[[int], AbstractAsyncContextManager[str]]
KINDS: dict[str, Open] = {
    "stateless": open_python_server,
    "older with sessions": open_older_python_server,
    "older without sessions": partial(open_older_python_server, sessions=False),
}
NOBODY_LOGS_IN = "http://127.0.0.1:9"


@asynccontextmanager
async def open_killable(open_server: Open, port: int) -> AsyncIterator[Callable[[], None]]:
    """The server, and what kills it."""
    before = children(os.getpid())
    async with open_server(port):
        (pid,) = children(os.getpid()) - before
        yield partial(os.kill, pid, signal.SIGKILL)


class Traffic:
    """Calls without pause, and how each went: `good` counts those of each client, `failed` has the words."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.good: Counter[str] = Counter()
        self.lost: list[str] = []

    async def call(self, asking: Asking) -> None:
        while True:
            result = await asking.call("up__echo", message="hello")
            if result.get("isError"):
                self.failed.append(text_of(result))
            else:
                assert text_of(result) == "Echo: hello"
                self.good[asking.revision] += 1
            await trio.sleep(0.05)

    async def wait(self, asking: Asking) -> None:
        """A call that is running when the upstream is killed."""
        self.lost.append(text_of(await asking.call("up__wait", label="in flight", seconds=60)))

    async def wait_good(self, calls: int) -> None:
        """Until so many more calls of each client were answered."""
        known = self.good.copy()
        await wait_until(lambda: all(self.good[client] >= known[client] + calls for client in (MODERN, LEGACY)))


async def wait_running(asking: Asking, label: str, calls: int) -> None:
    """Until so many `wait` calls have begun at the upstream."""
    with trio.fail_after(PATIENCE):
        while text_of(await asking.call("up__endings")).count(f"{label}: started") < calls:  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN)


@pytest.mark.parametrize("kind", KINDS)
async def test_only_calls_in_flight_are_lost_and_they_say_so(kind: str) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        traffic = Traffic()
        async with open_killable(KINDS[kind], port) as kill:
            deployment = await stack.enter_async_context(
                open_deployment({"up": f"http://127.0.0.1:{port}/mcp"}, issuer=NOBODY_LOGS_IN)
            )
            clients = [
                await stack.enter_async_context(open_asking(deployment.url, revision)) for revision in (MODERN, LEGACY)
            ]
            nursery = await stack.enter_async_context(trio.open_nursery())
            for client in clients:
                nursery.start_soon(traffic.call, client)
                nursery.start_soon(traffic.wait, client)
            await wait_running(clients[0], "in flight", len(clients))
            await traffic.wait_good(5)
            assert traffic.failed == []
            kill()
            killed_at = trio.current_time()
        async with KINDS[kind](port):
            took = trio.current_time() - killed_at
            await traffic.wait_good(5)
            known = len(traffic.failed)
            await traffic.wait_good(10)
            assert len(traffic.failed) == known, "all is as before"
            # One call of each client may have been on its way. Others wait, unless this machine took too long.
            on_its_way = [text for text in traffic.failed if "the tool may have run" in text]
            assert len(on_its_way) <= len(clients)
            assert all("the tool was not run" in text for text in traffic.failed if text not in on_its_way)
            assert traffic.failed == on_its_way or took > RESTART / 2
            await wait_until(lambda: len(traffic.lost) == len(clients))
            assert all("the tool may have run" in text for text in traffic.lost), traffic.lost
            nursery.cancel_scope.cancel()


async def test_whoever_listens_is_told_when_an_upstream_comes_back_with_other_tools() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        heard = {MODERN: trio.Event(), LEGACY: trio.Event()}
        async with open_older_python_server(port):
            deployment = await stack.enter_async_context(
                open_deployment({"up": f"http://127.0.0.1:{port}/mcp"}, issuer=NOBODY_LOGS_IN)
            )
            clients = [
                await stack.enter_async_context(open_asking(deployment.url, revision)) for revision in (MODERN, LEGACY)
            ]
            nursery = await stack.enter_async_context(trio.open_nursery())
            for client in clients:
                assert "up__echo" in await client.tools()
                await nursery.start(listen, client, heard[client.revision])
        async with open_older_python_server(port, pages=1):
            await clients[0].call("up__echo", message="its session is gone, and it is met anew")
            with trio.fail_after(PATIENCE):
                for changed in heard.values():
                    await changed.wait()
            for client in clients:
                assert "up__tool_0007" in await client.tools()
            nursery.cancel_scope.cancel()


async def listen(
    asking: Asking, changed: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Wait on the client's stream for a change of its tools."""
    body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, MODERN)
    headers = asking.headers(body) if asking.revision == MODERN else asking.headers({"method": "", "params": {}})
    how = ("POST", json.dumps(body)) if asking.revision == MODERN else ("GET", None)
    headers = headers if asking.revision == MODERN else {**headers, "accept": "text/event-stream"}
    async with asking.http.stream(how[0], asking.url, content=how[1], headers=headers, timeout=None) as answer:
        assert answer.status_code == 200
        task_status.started()
        async for line in answer.aiter_lines():
            if line.startswith("data:") and json.loads(line[5:])["method"] == "notifications/tools/list_changed":
                changed.set()
