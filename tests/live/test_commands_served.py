"""`serve` with upstreams that are programs: what people get, and what is left when it ends in any way."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port

from ..upstream.commands.test_child import is_alive, wait_gone
from .asking import LEGACY, MODERN, open_asking, text_of
from .own_process import configuration, open_own_process, stop

pytestmark = pytest.mark.live

NOBODY_LOGS_IN = "http://127.0.0.1:9"
SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
LISTED_WITHIN = 5.0  # seconds
PYTHON = [sys.executable, "-I", "-S"]
STUBBORN = "import signal, sys; signal.signal(15, signal.SIG_IGN); exec(open(sys.argv.pop(1)).read())"


def serving(port: int, **commands: Any) -> dict[str, Any]:
    config = configuration(NOBODY_LOGS_IN, port, {}, storage="memory", discoveryTimeout=round(LISTED_WITHIN * 1000))
    return {**config, "upstreams": [{"name": name, "command": command} for name, command in commands.items()]}


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
@pytest.mark.parametrize("of_server", ["modern", "older"])
async def test_people_of_each_revision_call_a_program_of_each_revision(revision: str, of_server: str) -> None:
    config = serving(free_port(), good=[*PYTHON, SCRIPT, of_server])
    async with open_own_process("serve", config), open_asking(config["issuerUrl"], revision) as client:
        assert "good__echo" in await client.tools()
        assert text_of(await client.call("good__echo", text="hello")) == "hello"


async def test_one_that_hangs_one_that_crashes_and_one_that_babbles_cost_the_others_nothing() -> None:
    config = serving(
        free_port(),
        hangs=[*PYTHON, "-c", "import time; time.sleep(600)"],
        crashes=[*PYTHON, "-c", "import sys; sys.exit('no key')"],
        babbles=[*PYTHON, "-c", "while True: print('Starting...' * 100)"],
        chatters=["sh", "-c", "while :; do echo Starting; done"],
        missing=["/no/such/server"],
        good=[*PYTHON, SCRIPT, "modern"],
    )
    async with open_own_process("serve", config) as process, open_asking(config["issuerUrl"]) as client:
        began = trio.current_time()
        assert "good__echo" in await client.tools()
        assert trio.current_time() - began < 2 * LISTED_WITHIN, "three never answer, and are waited for together"
        assert text_of(await client.call("good__echo", text="hello")) == "hello"
        with trio.fail_after(PATIENCE):
            while "ended with exit code 1" not in str((status := await client.status())["crashes"]):  # noqa: ASYNC110
                await trio.sleep(LOOK_AGAIN)
        assert {name for name, row in status.items() if row["state"] == "connected"} == {"good"}
        assert "there is no such file" in str(status["missing"])
        await process.wait_output("upstream crashes stderr: no key")
        assert len(process.output()) < 1_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_however_it_ends_no_program_is_left(number: signal.Signals) -> None:
    config = serving(
        free_port(),
        good=[*PYTHON, SCRIPT, "modern"],
        forks=["sh", "-c", f"sleep 603 & exec {' '.join(PYTHON)} {SCRIPT} older"],
        stubborn=[*PYTHON, "-c", STUBBORN, SCRIPT, "modern"],
    )
    async with open_own_process("serve", config) as process:
        async with open_asking(config["issuerUrl"]) as client:
            pids = [int(text_of(await client.call(f"{name}__pid"))) for name in ("good", "forks", "stubborn")]
            grandchild = int(text_of(await client.call("forks__fork")))
        if number == signal.SIGTERM:
            assert await stop(process) == 0
            assert not any(map(is_alive, pids))
        else:
            process.process.send_signal(number)
            await process.process.wait()
        await wait_gone(*pids, grandchild)


async def test_a_program_sees_what_is_configured_and_nothing_of_the_aggregators(tmp_path: Path) -> None:
    config = serving(free_port(), good=[*PYTHON, SCRIPT, "modern"])
    config["upstreams"][0] |= {"env": {"TOKEN": "its-own-secret"}, "cwd": str(tmp_path), "idleStop": "1s"}
    os.environ["MCP_AGGREGATOR_TEST_CANARY"] = "ours"
    try:
        async with open_own_process("serve", config) as process, open_asking(config["issuerUrl"]) as client:
            seen = json.loads(text_of(await client.call("good__environment")))
            pid = int(text_of(await client.call("good__pid")))
            assert (seen["env"]["TOKEN"], seen["cwd"]) == ("its-own-secret", str(tmp_path))
            assert not [name for name in seen["env"] if name.startswith(("MCP_", "PYTHON"))]
            await wait_gone(pid)
            assert "good__pid" in await client.tools(), "its tools are known while it is stopped"
            assert int(text_of(await client.call("good__pid"))) != pid
            assert "its-own-secret" not in process.output()
    finally:
        del os.environ["MCP_AGGREGATOR_TEST_CANARY"]
