"""Cancelling for real: a client goes away or says so, and the tool of a real upstream stops; or it goes on, where the
revision says so."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, PATIENCE, open_process
from tests.parts.scripted_clients import CLIENTS
from tests.parts.servers import open_older_python_server, open_python_server

from .asking import LEGACY, MODERN, Asking, message, open_asking, text_of
from .deployment import Deployment, open_deployment

pytestmark = pytest.mark.live

Upstream = Literal["newer", "older"]
UPSTREAMS: tuple[Upstream, ...] = ("newer", "older")
NOBODY_LOGS_IN = "http://127.0.0.1:9"


@asynccontextmanager
async def open_both() -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        upstreams = {
            "newer": await stack.enter_async_context(open_python_server()),
            "older": await stack.enter_async_context(open_older_python_server()),
        }
        fields = {"tool_timeout": 600.0}  # what cancels here is not the end of a time
        yield await stack.enter_async_context(open_deployment(upstreams, issuer=NOBODY_LOGS_IN, upstream_fields=fields))


async def wait_ending(watcher: Asking, upstream: Upstream, ending: str) -> None:
    """Return when the upstream's `wait` has come to `ending`; how soon, test_mcp_cancellation shows in virtual time."""
    with trio.fail_after(PATIENCE):
        while ending not in text_of(await watcher.call(f"{upstream}__endings")):  # noqa: ASYNC110 - a foreign process
            await trio.sleep(LOOK_AGAIN)


@pytest.mark.requirement("AF17")
async def test_a_2026_client_that_disconnects_cancels() -> None:
    async with open_both() as deployment, open_asking(deployment.url) as watcher:
        for upstream in UPSTREAMS:
            async with open_asking(deployment.url) as asking, trio.open_nursery() as nursery:
                nursery.start_soon(call_to_be_cancelled, asking, f"{upstream}__wait")
                await wait_ending(watcher, upstream, "gone: started")
                nursery.cancel_scope.cancel()
            await wait_ending(watcher, upstream, "gone: cancelled")
        rows = await watcher.status()
        assert (rows["newer"]["revision"], rows["older"]["revision"]) == (MODERN, LEGACY)


async def test_so_does_the_python_sdk_when_its_program_is_ended() -> None:
    async with open_both() as deployment, open_asking(deployment.url) as watcher:
        for upstream in UPSTREAMS:
            command = [sys.executable, str(CLIENTS / "python2.py"), deployment.mcp, "--mode", "2026"]
            command += ["--tool", f"{upstream}__wait", "--arguments", '{"label": "gone"}']
            async with open_process("python2", command, env={"TOKEN": watcher.token}):
                await wait_ending(watcher, upstream, "gone: started")
            await wait_ending(watcher, upstream, "gone: cancelled")


async def test_a_2025_client_says_that_it_cancels() -> None:
    async with (
        open_both() as deployment,
        open_asking(deployment.url) as watcher,
        open_asking(deployment.url, LEGACY) as asking,
    ):
        for upstream in UPSTREAMS:
            call = message("tools/call", {"name": f"{upstream}__wait", "arguments": {"label": "told"}})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asking.post, call)
                await wait_ending(watcher, upstream, "told: started")
                await asking.notify("notifications/cancelled", {"requestId": call["id"], "reason": "enough"})
                await wait_ending(watcher, upstream, "told: cancelled")


async def test_a_2025_client_that_disconnects_cancels_nothing() -> None:
    async with open_both() as deployment, open_asking(deployment.url) as watcher:
        for upstream in UPSTREAMS:
            async with open_asking(deployment.url, LEGACY) as asking, trio.open_nursery() as nursery:
                nursery.start_soon(call_to_be_cancelled, asking, f"{upstream}__wait", 2.0)
                await wait_ending(watcher, upstream, "gone: started")
                nursery.cancel_scope.cancel()
            await wait_ending(watcher, upstream, "gone: finished")


async def test_tool_timeout_ends_the_call_and_the_upstreams_work() -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            "newer": await stack.enter_async_context(open_python_server()),
            "older": await stack.enter_async_context(open_older_python_server()),
        }
        deployment = await stack.enter_async_context(
            open_deployment(upstreams, issuer=NOBODY_LOGS_IN, upstream_fields={"tool_timeout": 2.0})
        )
        asking = await stack.enter_async_context(open_asking(deployment.url))
        for upstream in UPSTREAMS:
            await asking.tools()
            started = trio.current_time()
            with trio.fail_after(PATIENCE):
                while True:  # once, but on a machine where the call itself does not arrive in that time
                    result = await asking.call(f"{upstream}__wait", label="late")
                    assert result["isError"]
                    assert f"upstream {upstream}: no answer within toolTimeout (2 s)" in text_of(result)
                    if "late: started" in text_of(await asking.call(f"{upstream}__endings")):
                        break
            assert trio.current_time() - started > 1.9
            await wait_ending(asking, upstream, "late: cancelled")


async def call_to_be_cancelled(asking: Asking, tool: str, seconds: float = 600.0) -> None:
    await asking.call(tool, label="gone", seconds=seconds)
