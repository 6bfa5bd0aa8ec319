"""A command that dies in the middle of traffic and is started again: only what was running is lost, and its client is
told that it may have run; the others wait, or hear at once that nothing was run."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
import trio

from aggregator.config.model import StdioUpstream

from .asking import LEGACY, MODERN, Asking, open_asking, text_of
from .deployment import Deployment, open_deployment
from .test_healing_live import NOBODY_LOGS_IN, listen

pytestmark = pytest.mark.live

SCRIPT = Path(__file__).parent.parent / "fakes" / "stdio_server.py"
CLIENTS = [(revision, person) for revision in (MODERN, LEGACY) for person in ("alice", "bob", "carol")]
LONGEST = 6.0  # seconds that a call may take: it waits for a start that is at most 3 away
IN_FLIGHT, NOT_SENT = "the tool may have run", "the tool was not run"


def open_behind(revision: str, *arguments: str) -> AbstractAsyncContextManager[Deployment]:
    argv = (sys.executable, "-I", "-S", str(SCRIPT), revision, *arguments)
    command = StdioUpstream("up", "up", command=argv, discovery_timeout=10.0)
    return open_deployment({}, issuer=NOBODY_LOGS_IN, commands=(command,))


class Traffic:
    """Calls of several clients without pause, and when and how each went."""

    def __init__(self) -> None:
        self.failed: list[tuple[float, float, str]] = []  # when it began and ended, and what the client was told
        self.good: list[float] = []
        self.longest = 0.0

    async def call(self, asking: Asking) -> None:
        while True:
            began = trio.current_time()
            result = await asking.call("up__echo", text="hello")
            now = trio.current_time()
            self.longest = max(self.longest, now - began)
            if result.get("isError"):
                self.failed.append((began, now, text_of(result)))
            else:
                assert text_of(result) == "hello"
                self.good.append(now)
            await trio.sleep(0.03)


async def kill(asking: Asking) -> float:
    """Kills the process that answers now; when that was."""
    while (told := await asking.call("up__pid")).get("isError"):
        assert IN_FLIGHT in text_of(told), "it reached one that was dying"
        await trio.sleep(0.05)
    os.kill(int(text_of(told)), signal.SIGKILL)
    return trio.current_time()


async def hold(asking: Asking, lost: list[str]) -> None:
    """A call that is running when the process dies."""
    lost.append(text_of(await asking.call("up__hold", label=f"{asking.revision} {asking.token}")))


@pytest.mark.parametrize("revision", ["modern", "older"])
async def test_only_calls_in_flight_are_lost_when_a_command_is_killed(revision: str) -> None:
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(open_behind(revision))
        clients = [
            await stack.enter_async_context(open_asking(deployment.url, client, subject=person))
            for client, person in CLIENTS
        ]
        nursery = await stack.enter_async_context(trio.open_nursery())
        traffic, lost = Traffic(), list[str]()
        for client in clients:
            nursery.start_soon(traffic.call, client)
            nursery.start_soon(hold, client, lost)
        await trio.sleep(1)
        assert (traffic.failed, lost) == ([], [])
        assert len(traffic.good) > 20
        killed_at = await kill(clients[0])
        await trio.sleep(3)
        assert len(lost) == len(CLIENTS)
        assert all(IN_FLIGHT in text for text in lost), lost
        assert all(began <= killed_at and IN_FLIGHT in text for began, _, text in traffic.failed), traffic.failed
        assert sum(at > killed_at + 1.5 for at in traffic.good) > 20, "who came meanwhile waited, and was answered"
        nursery.cancel_scope.cancel()
        assert traffic.longest < LONGEST


async def test_while_a_command_that_dies_again_and_again_is_left_alone_calls_are_refused_at_once() -> None:
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(open_behind("modern"))
        clients = [
            await stack.enter_async_context(open_asking(deployment.url, client, subject=person))
            for client, person in CLIENTS
        ]
        for _ in range(3):
            killed_at = await kill(clients[0])  # waits for the start before: 1 s, 2 s; after the third it is 4 s
        while IN_FLIGHT in text_of(await clients[0].call("up__pid")):
            pass  # a call that reached it before its end was noticed
        nursery = await stack.enter_async_context(trio.open_nursery())
        traffic = Traffic()
        for client in clients:
            nursery.start_soon(traffic.call, client)
        await trio.sleep(6.5)
        nursery.cancel_scope.cancel()
        refused = [(ended - began, text) for began, ended, text in traffic.failed if NOT_SENT in text]
        assert len(refused) == len(traffic.failed)
        assert refused, "the third wait is longer than a call's patience"
        assert all("it is started again in" in text for _, text in refused)
        assert max(took for took, _ in refused) < 1
        assert sum(at > killed_at + 5.2 for at in traffic.good) > 20
        assert traffic.longest < LONGEST


async def test_whoever_listens_is_told_when_a_command_comes_back_with_other_tools(tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.write_text("before")
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(open_behind("older", str(more)))
        heard = {MODERN: trio.Event(), LEGACY: trio.Event()}
        clients = [await stack.enter_async_context(open_asking(deployment.url, revision)) for revision in heard]
        nursery = await stack.enter_async_context(trio.open_nursery())
        for client in clients:
            assert "up__before" in await client.tools()
            await nursery.start(listen, client, heard[client.revision])
        more.write_text("after")
        await kill(clients[0])
        with trio.fail_after(20):
            for changed in heard.values():
                await changed.wait()
        for client in clients:
            tools = await client.tools()
            assert "up__after" in tools
            assert "up__before" not in tools
        nursery.cancel_scope.cancel()
