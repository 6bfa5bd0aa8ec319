"""Local mode with the usual settings and one program of each bad kind: what a client gets at once, what it gets later,
and what `status` advises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.parts.processes import PATIENCE, free_port

from .asking import LEGACY, MODERN, Asking, message, open_asking, text_of
from .own_process import open_own_process

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
PYTHON = [sys.executable, "-I", "-S"]
# Starts to speak once the file that is its first argument is there.
LATE = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
del sys.argv[1]
exec(open(sys.argv.pop(1)).read())
"""
SOON = 5.0  # seconds; a list that waits for every program takes longer: `discoveryTimeout`


def bad_programs(port: int, awaited: Path) -> dict[str, Any]:
    """One good one among them, and one that is good once the file `awaited` is there."""
    commands = {
        "hangs": [*PYTHON, "-c", "import time; time.sleep(600)"],
        "crashes": [*PYTHON, "-c", "import sys; sys.exit('no key')"],
        "babbles": [*PYTHON, "-c", "while True: print('Starting...' * 100)"],
        "late": [*PYTHON, "-c", LATE, str(awaited), SCRIPT, "modern"],
        "good": [*PYTHON, SCRIPT, "modern"],
    }
    return {
        "host": "127.0.0.1",
        "port": port,
        "storage": "memory",
        "upstreams": [{"name": name, "command": command} for name, command in commands.items()],
    }


async def listen(
    asking: Asking, changed: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set `changed` once the client is told that its tools have changed."""
    body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, asking.revision)
    if asking.revision == MODERN:
        headers, how, content = asking.headers(body), "POST", json.dumps(body)
    else:
        headers, how, content = asking.headers({"method": "", "params": {}}), "GET", None
        headers["accept"] = "text/event-stream"
    async with asking.http.stream(how, asking.url, content=content, headers=headers, timeout=None) as answer:
        assert answer.status_code == 200
        task_status.started()
        async for line in answer.aiter_lines():
            if line.startswith("data:") and json.loads(line[5:])["method"] == "notifications/tools/list_changed":
                changed.set()


async def read_status(config: Path) -> dict[str, Any]:
    """What ``mcp-aggregator status --json`` prints, by upstream."""
    done = await trio.run_process(
        [sys.executable, "-m", "aggregator", "status", "--json", "-c", str(config)], capture_stdout=True, check=False
    )
    return {row["name"]: row for row in json.loads(done.stdout)["upstreams"]}


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_the_first_list_has_the_good_one_soon_and_the_late_one_is_told(revision: str, tmp_path: Path) -> None:
    config = bad_programs(port := free_port(), awaited := tmp_path / "now")
    issuer = f"http://127.0.0.1:{port}"
    async with open_own_process("serve", config) as process, open_asking(issuer, revision) as client:
        changed, began = trio.Event(), trio.current_time()
        async with trio.open_nursery() as nursery:
            first = await client.tools()
            assert trio.current_time() - began < SOON
            with trio.fail_after(PATIENCE):
                while "good__echo" not in first:  # on a machine where even its start takes longer than a list waits
                    first = await client.tools()
            assert not [name for name in first if name.startswith("late__")]
            await nursery.start(listen, client, changed)
            awaited.touch()
            with trio.fail_after(PATIENCE):
                await changed.wait()
                while "late__echo" not in await client.tools():  # noqa: ASYNC110 - another process
                    await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        began = trio.current_time()
        assert text_of(await client.call("good__echo", text="hello")) == "hello"
        assert text_of(await client.call("late__echo", text="hello")) == "hello"
        assert {"good__echo", "late__echo"} <= set(await client.tools())
        assert trio.current_time() - began < SOON, "nobody waits for the bad ones a second time"
        file = config_file(process)
        rows = await read_status(file)
        with trio.fail_after(PATIENCE):
            while any(row["state"] == "connecting" for row in rows.values()):
                await trio.sleep(0.5)
                rows = await read_status(file)
        assert {name for name, row in rows.items() if row["state"] == "connected"} == {"good", "late"}
        for name in ("hangs", "crashes", "babbles"):
            assert rows[name]["fix"].startswith(f"mcp-aggregator retry {name}"), rows[name]
        assert "ended with exit code 1" in rows["crashes"]["error"]
        for name in ("hangs", "babbles"):
            assert "has not spoken MCP yet; the log has what it wrote" in rows[name]["error"]
        await process.wait_output("upstream crashes stderr: no key")
        assert len(process.output()) < 1_000_000


def config_file(process: Any) -> Path:
    """What `serve` was started with."""
    arguments = Path(f"/proc/{process.process.pid}/cmdline").read_bytes().split(b"\0")
    return Path(arguments[arguments.index(b"-c") + 1].decode())
