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
from tests.parts.processes import LOOK_AGAIN, PATIENCE, wait_until

from .asking import LEGACY, MODERN, Asking, open_asking, text_of
from .deployment import Deployment, open_deployment
from .test_healing_live import NOBODY_LOGS_IN, listen

pytestmark = pytest.mark.live

SCRIPT = Path(__file__).parent.parent / "fakes" / "stdio_server.py"
CLIENTS = [(revision, person) for revision in (MODERN, LEGACY) for person in ("alice", "bob", "carol")]
PATIENCE_OF_A_CALL = 3.0  # seconds that the next start may be away for a call to wait for it
IN_FLIGHT, NOT_SENT = "the tool may have run", "the tool was not run"


def open_behind(revision: str, *arguments: str) -> AbstractAsyncContextManager[Deployment]:
    argv = (sys.executable, "-I", "-S", str(SCRIPT), revision, *arguments)
    command = StdioUpstream("up", "up", command=argv, discovery_timeout=PATIENCE)
    return open_deployment({}, issuer=NOBODY_LOGS_IN, commands=(command,))


class Traffic:
    """Calls of several clients without pause, and how each went."""

    def __init__(self) -> None:
        self.failed: list[tuple[float, str]] = []  # seconds it took, and what the client was told
        self.good: list[Asking] = []  # whose call it was

    async def call(self, asking: Asking) -> None:
        while True:
            began = trio.current_time()
            result = await asking.call("up__echo", text="hello")
            if result.get("isError"):
                self.failed.append((trio.current_time() - began, text_of(result)))
            else:
                assert text_of(result) == "hello"
                self.good.append(asking)
            await trio.sleep(0.03)

    async def wait_good_for_all(self, clients: list[Asking]) -> None:
        """Until every client has had three more answers."""
        known = len(self.good)
        await wait_until(lambda: all(self.good[known:].count(client) >= 3 for client in clients))

    async def wait_good_or_refused(self) -> None:
        known = len(self.good)
        await wait_until(lambda: len(self.good) > known or bool(self.refused()))

    def refused(self) -> list[tuple[float, str]]:
        """Those who were told when the next start is."""
        return [(took, text) for took, text in self.failed if NOT_SENT in text and "it is started again in" in text]


async def kill(asking: Asking) -> None:
    """Kills the process that answers now, or next."""
    with trio.fail_after(PATIENCE):
        while (told := await asking.call("up__pid")).get("isError"):  # noqa: ASYNC110 - a foreign process
            await trio.sleep(LOOK_AGAIN)  # it reached one that was dying, or the next start is too far away to wait
    os.kill(int(text_of(told)), signal.SIGKILL)


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
        await traffic.wait_good_for_all(clients)
        with trio.fail_after(PATIENCE):
            while text_of(await clients[0].call("up__heard")).count('"hold"') < len(clients):  # noqa: ASYNC110
                await trio.sleep(LOOK_AGAIN)
        assert (traffic.failed, lost) == ([], [])
        await kill(clients[0])
        await wait_until(lambda: len(lost) == len(clients))
        await traffic.wait_good_for_all(clients)  # who came meanwhile waited, and was answered
        assert all(IN_FLIGHT in text for text in lost), lost
        assert all(IN_FLIGHT in text for _, text in traffic.failed), traffic.failed
        nursery.cancel_scope.cancel()


async def test_while_a_command_that_dies_again_and_again_is_left_alone_calls_are_refused_at_once() -> None:
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(open_behind("modern"))
        clients = [
            await stack.enter_async_context(open_asking(deployment.url, client, subject=person))
            for client, person in CLIENTS
        ]
        nursery = await stack.enter_async_context(trio.open_nursery())
        traffic = Traffic()
        for client in clients:
            nursery.start_soon(traffic.call, client)
        await traffic.wait_good_for_all(clients)
        kills = 0
        while not traffic.refused():  # started again after 1 s, 2 s, 4 s, 8 s: longer at last than anybody waits
            await kill(clients[0])
            kills += 1
            await traffic.wait_good_or_refused()
        assert kills > 2
        await traffic.wait_good_for_all(clients)
        nursery.cancel_scope.cancel()
        assert all(IN_FLIGHT in text or NOT_SENT in text for _, text in traffic.failed), traffic.failed
        assert min(took for took, _ in traffic.refused()) < PATIENCE_OF_A_CALL


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
        with trio.fail_after(PATIENCE):
            for changed in heard.values():
                await changed.wait()
        for client in clients:
            tools = await client.tools()
            assert "up__after" in tools
            assert "up__before" not in tools
        nursery.cancel_scope.cancel()
