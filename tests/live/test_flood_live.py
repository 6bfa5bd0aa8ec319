"""F18 and F23: a thousand unpleasant connections, and too few file descriptors, in each way to start."""

from __future__ import annotations

import resource
from contextlib import AsyncExitStack

import httpx2
import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, Running, free_port

from .asking import Asking, bearer_for, open_asking
from .flooding import (
    Kind,
    idle,
    open_flood,
    pipelining,
    sated,
    slow_body,
    slow_head,
    stalled_reader,
)
from .oracle import open_files
from .own_process import WAYS, Way, configuration, open_own_process, stop

pytestmark = pytest.mark.live

NOBODY = "http://127.0.0.1:9"
HEALTHY = 1.0  # seconds that a healthy request may take meanwhile


async def timed(asking: Asking) -> float:
    started = trio.current_time()
    await asking.call("gateway__status")
    return trio.current_time() - started


async def wait_files(process: Running, expected: int, *, within: float) -> int:
    """How many descriptors the process has, once it is `expected` or the time is over."""
    with trio.move_on_after(within):
        while open_files(process.process.pid) > expected:  # noqa: ASYNC110  another process has no events
            await trio.sleep(LOOK_AGAIN)
    return open_files(process.process.pid)


@pytest.mark.requirement("AF18")
@pytest.mark.parametrize("way", WAYS)
async def test_a_thousand_connections_that_take_and_do_not_give_leave_a_healthy_one_alone(way: Way) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    body = slow_body("/mcp", f"authorization: Bearer {bearer_for(issuer)}", "content-type: application/json")
    kinds: dict[Kind, int] = {
        idle: 350,
        sated: 250,
        slow_head: 100,
        slow_body("/token", "content-type: application/x-www-form-urlencoded"): 50,
        body: 100,
        stalled_reader: 100,
        pipelining: 50,
    }
    assert sum(kinds.values()) == 1000
    with trio.fail_after(60):
        async with (
            open_own_process(way, configuration(NOBODY, port, {"gone": f"{NOBODY}/mcp"})) as process,
            open_asking(issuer) as asking,
        ):
            await timed(asking)
            before = open_files(process.process.pid)
            async with open_flood(port, kinds):
                await trio.sleep(2)
                held = open_files(process.process.pid) - before
                took = [await timed(asking) for _ in range(30)]
                async with httpx2.AsyncClient(trust_env=False) as newcomer:
                    started = trio.current_time()
                    assert (await newcomer.get(f"{issuer}/healthz")).status_code == 200
                    took.append(trio.current_time() - started)
            assert held > 900, "they were there"
            assert max(took) < HEALTHY, sorted(took)[-5:]
            assert await wait_files(process, before, within=15) <= before
            assert await timed(asking) < HEALTHY
            assert "Traceback" not in process.output()
            assert await stop(process, within=20) == 0


@pytest.mark.requirement("AF23")
@pytest.mark.parametrize("way", WAYS)
async def test_a_process_that_runs_out_of_file_descriptors_lives_on_and_accepts_again(way: Way) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(
                open_own_process(way, configuration(NOBODY, port, {"gone": f"{NOBODY}/mcp"}))
            )
            resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (64, 64))
            asking = await stack.enter_async_context(open_asking(issuer))
            await timed(asking)
            before = open_files(process.process.pid)
            async with open_flood(port, {idle: 80, sated: 40}):
                await trio.sleep(2)
                assert open_files(process.process.pid) >= 60, "it has none left"
                assert await timed(asking) < HEALTHY, "who is connected already is served"
                assert process.process.poll() is None
            assert await wait_files(process, before, within=15) <= before
            async with httpx2.AsyncClient(trust_env=False, timeout=5) as newcomer:
                assert (await newcomer.get(f"{issuer}/healthz")).status_code == 200
            assert await timed(asking) < HEALTHY
            assert process.output().count("no connection can be accepted now: Too many open files") == 1
            assert "Traceback" not in process.output(), "and it does not fill the disk with complaints"
            assert await stop(process, within=20) == 0
