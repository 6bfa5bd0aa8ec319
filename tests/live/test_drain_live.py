"""The real configuration in a process of its own: it starts, is told to stop, and finishes what it began."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port
from tests.parts.scripted_clients import run_client
from tests.parts.servers import open_everything, open_oidc_provider, open_python_server

from .asking import LEGACY, MODERN, Asking, message, open_asking, read_events, text_of
from .own_process import WAYS, Way, configuration, open_own_process, stop

pytestmark = pytest.mark.live

NOBODY_LOGS_IN = "http://127.0.0.1:9"
DRAIN = 100  # seconds


@pytest.mark.parametrize("way", WAYS)
async def test_calls_in_flight_at_a_sigterm_are_answered_and_the_exit_code_is_0(way: Way, tmp_path: Path) -> None:
    """After a real login: a call that waits and one that streams, in both revisions."""
    port = free_port()
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(open_oidc_provider(f"http://127.0.0.1:{port}/callback"))
        upstreams = {
            "python": await stack.enter_async_context(open_python_server()),
            "everything": await stack.enter_async_context(open_everything()),
        }
        config = configuration(issuer, port, upstreams, storage=str(tmp_path / "store.sqlite"), drain=f"{DRAIN}s")
        process = await stack.enter_async_context(open_own_process(way, config))
        run = await run_client("python2", f"http://127.0.0.1:{port}/mcp", tool="everything__echo",
                               arguments={"message": "hi"}, mode="2026")  # fmt: skip
        assert run.authorized
        assert run.result is not None

        answers: dict[str, list[dict[str, Any]]] = {}
        async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
            watcher = await clients.enter_async_context(open_asking(config["issuerUrl"]))
            for revision in (MODERN, LEGACY):
                client = await clients.enter_async_context(open_asking(config["issuerUrl"], revision))
                waiting = {"name": "python__wait", "arguments": {"label": revision}}
                nursery.start_soon(collect, client, answers, f"wait {revision}", waiting)
                counting = {"name": "python__count", "arguments": {"to": 8, "pause": 0.25}}
                counting["_meta"] = {"progressToken": "p"}
                nursery.start_soon(collect, client, answers, f"count {revision}", counting)
            with trio.fail_after(PATIENCE):
                while text_of(await watcher.call("python__endings")).count("started") < 2:  # noqa: ASYNC110
                    await trio.sleep(LOOK_AGAIN)
            assert (await readiness(port)).status_code == 200
            started = trio.current_time()
            os.kill(process.process.pid, signal.SIGTERM)
            await process.wait_output("finishing the calls in flight")
            assert (await readiness(port)).status_code == 503
            late = await watcher.call("python__release")  # accepted still: the others may need it, as here
            assert text_of(late) == "released"
        with trio.fail_after(PATIENCE):
            assert await process.process.wait() == 0, process.output()
        assert trio.current_time() - started < DRAIN, "it ends with its last call"
        for revision in (MODERN, LEGACY):
            assert text_of(answers[f"wait {revision}"][-1]["result"]) == revision
            *progress, last = answers[f"count {revision}"]
            assert text_of(last["result"]) == "counted to 8"
            assert len([notice for notice in progress if notice["method"] == "notifications/progress"]) == 8
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("way", WAYS)
async def test_what_outlasts_the_drain_is_cancelled_at_its_end(way: Way) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        python = await stack.enter_async_context(open_python_server())
        config = configuration(NOBODY_LOGS_IN, port, {"python": python}, drain="1s")
        process = await stack.enter_async_context(open_own_process(way, config))
        async with trio.open_nursery() as nursery:
            client = await stack.enter_async_context(open_asking(config["issuerUrl"]))
            nursery.start_soon(call_in_vain, client)
            with trio.fail_after(PATIENCE):
                while "vain: started" not in text_of(await client.call("python__endings")):  # noqa: ASYNC110
                    await trio.sleep(LOOK_AGAIN)
            assert await stop(process) == 0, process.output()
        assert "Traceback" not in process.output()
        another = free_port()
        config = configuration(NOBODY_LOGS_IN, another, {"python": python})
        await stack.enter_async_context(open_own_process(way, config))
        client = await stack.enter_async_context(open_asking(config["issuerUrl"]))
        with trio.fail_after(PATIENCE):
            while "vain: cancelled" not in text_of(await client.call("python__endings")):  # noqa: ASYNC110
                await trio.sleep(LOOK_AGAIN)


async def collect(client: Asking, answers: dict[str, list[dict[str, Any]]], name: str, params: dict[str, Any]) -> None:
    answers[name] = read_events(await client.post(message("tools/call", params, client.revision)))


async def call_in_vain(client: Asking) -> None:
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await client.call("python__wait", label="vain")


async def readiness(port: int) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        return await http.get(f"http://127.0.0.1:{port}/readyz")
