"""Thousands of calls leave nothing behind: no memory, no file descriptor, no task."""

from __future__ import annotations

import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.parts.processes import free_port, wait_until
from tests.parts.servers import open_older_python_server, open_ts_server

from .asking import LEGACY, MODERN, Asking, open_asking, text_of
from .deployment import open_deployment
from .own_process import configuration, open_own_process

pytestmark = pytest.mark.live


async def test_memory_and_descriptors_stay_where_they_were() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        upstreams = {
            "modern": await stack.enter_async_context(open_ts_server("modern")),
            "older": await stack.enter_async_context(open_older_python_server()),
        }
        config = configuration("http://127.0.0.1:9", port, upstreams)
        process = await stack.enter_async_context(open_own_process("serve", config))
        pid = process.process.pid
        await call_many(config["issuerUrl"], 500)
        before, threads = descriptors(pid), len(os.listdir(f"/proc/{pid}/task"))
        grown = []
        for _ in range(6):  # what is kept of each call grows with each batch; what is kept once, with the first ones
            memory = rss(pid)
            await call_many(config["issuerUrl"], 500)
            grown.append(rss(pid) - memory)
            if grown[-1] < 500:  # KiB: one for each call
                break
        assert min(grown) < 500, grown
        # The clients have closed their connections; those to upstreams stay, four each at most.
        await wait_until(lambda: descriptors(pid) <= before + 8)
        await wait_until(lambda: len(os.listdir(f"/proc/{pid}/task")) <= threads + 1)


async def test_no_task_outlives_its_call() -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            "modern": await stack.enter_async_context(open_ts_server("modern")),
            "older": await stack.enter_async_context(open_older_python_server()),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams, issuer="http://127.0.0.1:9"))
        await call_many(deployment.url, 40)
        await trio.sleep(0.5)
        before = trio.lowlevel.current_statistics().tasks_living
        await call_many(deployment.url, 200)
        await wait_until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


async def call_many(issuer_url: str, count: int) -> None:
    """Half of the calls in each revision, to each upstream; one in ten ends before its answer."""

    async def call(asking: Asking, times: int) -> None:
        for number in range(times):
            upstream = ("modern", "older")[number % 8 == 0]  # the older one is slow: 10 ms a call
            if number % 10 == 9:
                with trio.move_on_after(0.002):
                    await asking.call(f"{upstream}__echo", message=str(number))
            else:
                assert text_of(await asking.call(f"{upstream}__echo", message=str(number))) == f"Echo: {number}"

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for revision in (MODERN, LEGACY, MODERN, LEGACY):
            asking = await stack.enter_async_context(open_asking(issuer_url, revision))
            nursery.start_soon(call, asking, count // 4)


def rss(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
