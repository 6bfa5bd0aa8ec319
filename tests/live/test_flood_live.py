"""F18 and F23: a thousand unpleasant connections, and too few file descriptors, in each way to start."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from statistics import median

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, Running, free_port, wait_until

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
# Seconds that a healthy request may take meanwhile, at the median of many: one second, on a machine of their own. Who
# waits for the unpleasant ones waits for their deadlines, which are longer.
HEALTHY = 5.0


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """A thousand connections have two ends; what is started inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def timed(asking: Asking) -> float:
    started = trio.current_time()
    await asking.call("gateway__status")
    return trio.current_time() - started


async def wait_files(process: Running, is_right: Callable[[int], bool]) -> None:
    """Until so many descriptors of the process are right."""
    await wait_until(lambda: is_right(open_files(process.process.pid)))


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
    with trio.fail_after(5 * PATIENCE):
        async with (
            open_own_process(way, configuration(NOBODY, port, {"gone": f"{NOBODY}/mcp"})) as process,
            open_asking(issuer) as asking,
        ):
            await timed(asking)
            before = open_files(process.process.pid)
            async with open_flood(port, kinds):
                await wait_files(process, lambda count: count - before > 900)
                await trio.sleep(1)  # the stalled readers begin to ask
                took = [await timed(asking) for _ in range(30)]
                async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as newcomer:
                    started = trio.current_time()
                    assert (await newcomer.get(f"{issuer}/healthz")).status_code == 200
                    took.append(trio.current_time() - started)
            assert median(took) < HEALTHY, sorted(took)[-5:]
            await wait_files(process, lambda count: count <= before)
            await timed(asking)
            assert "Traceback" not in process.output()
            assert await stop(process) == 0


@pytest.mark.requirement("AF23")
@pytest.mark.parametrize("way", WAYS)
async def test_a_process_that_runs_out_of_file_descriptors_lives_on_and_accepts_again(way: Way) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    with trio.fail_after(5 * PATIENCE):
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(
                open_own_process(way, configuration(NOBODY, port, {"gone": f"{NOBODY}/mcp"}))
            )
            resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (64, 64))
            asking = await stack.enter_async_context(open_asking(issuer))
            await timed(asking)
            before = open_files(process.process.pid)
            async with open_flood(port, {idle: 80, sated: 40}):
                await wait_files(process, lambda count: count >= 60)  # it has none left
                await process.wait_output("no connection can be accepted now")
                assert median([await timed(asking) for _ in range(5)]) < HEALTHY, "who is connected already is served"
                assert process.process.poll() is None
            await wait_files(process, lambda count: count <= before)
            async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as newcomer:
                assert (await newcomer.get(f"{issuer}/healthz")).status_code == 200
            await timed(asking)
            said = process.output().count("no connection can be accepted now: Too many open files")
            assert 1 <= said <= 5, "once a minute, not ten times a second"
            assert "Traceback" not in process.output(), "and it does not fill the disk with complaints"
            assert await stop(process) == 0
