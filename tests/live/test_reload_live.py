"""SIGHUP and a changed file under `serve`: F19 over real sockets and processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.parts.processes import PATIENCE, free_port

from .asking import MODERN, open_asking, text_of
from .own_process import configuration, open_own_process

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")


def program(name: str, *, extra: str = "modern") -> dict[str, Any]:
    return {"name": name, "command": [sys.executable, "-I", "-S", SCRIPT, extra]}


async def wait_logged(process: Any, text: str, *, times: int = 1) -> None:
    with trio.fail_after(PATIENCE):
        while process.output().count(text) < times:  # noqa: ASYNC110 - another process, which tells us nothing
            await trio.sleep(0.05)


def config_file(process: Any) -> Path:
    arguments = Path(f"/proc/{process.process.pid}/cmdline").read_bytes().split(b"\0")
    return Path(arguments[arguments.index(b"-c") + 1].decode())


@pytest.mark.parametrize("how", ["SIGHUP", "watch"])
async def test_upstreams_change_under_calls_and_no_other_call_fails(how: str) -> None:
    config = configuration("http://127.0.0.1:9", free_port(), {}, storage="memory")
    config["upstreams"] = [program("stays"), program("goes")]
    flags = ("--watch",) if how == "watch" else ()
    async with open_own_process("serve", config, *flags) as process:
        file = config_file(process)
        done, finished = 0, False

        def change(*upstreams: dict[str, Any]) -> None:
            file.write_text(json.dumps({**config, "upstreams": upstreams}, indent=2))
            if how == "SIGHUP":
                os.kill(process.process.pid, signal.SIGHUP)

        async with open_asking(config["issuerUrl"], MODERN) as client:
            pid = text_of(await client.call("stays__pid"))
            assert "goes__echo" in await client.tools()

            async def use() -> None:
                nonlocal done
                async with open_asking(config["issuerUrl"], MODERN) as mine:
                    while not finished:
                        assert text_of(await mine.call("stays__echo", text="x")) == "x"
                        done += 1

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(use)
                change(program("comes", extra="older"), program("stays"))
                await wait_logged(process, "added comes; removed goes")
                with trio.fail_after(PATIENCE):
                    while "comes__echo" not in (names := await client.tools()):  # noqa: ASYNC110 - the same
                        await trio.sleep(0.1)
                assert "goes__echo" not in names
                change({"name": "stays", "ulr": "http://x"})
                await wait_logged(process, "was not taken up")
                with trio.fail_after(PATIENCE):
                    while done < 20:  # noqa: ASYNC110 - a busy machine
                        await trio.sleep(0.1)
                finished = True
            assert text_of(await client.call("stays__pid")) == pid, "its process was left alone"
            assert "comes__echo" in await client.tools()


async def test_sigusr1_tries_what_fails_now() -> None:
    config = configuration("http://127.0.0.1:9", free_port(), {}, storage="memory")
    config["upstreams"] = [program("good"), {"name": "crashes", "command": ["/no/such/server"]}]
    async with open_own_process("serve", config) as process:
        await wait_logged(process, "upstream crashes: ")
        os.kill(process.process.pid, signal.SIGUSR1)
        await wait_logged(process, "SIGUSR1: trying crashes now")
