"""Daemons and their programs, killed again and again in every way: nothing is left running, and no descriptor is lost.

`KILLED_DAEMONS=500` runs as many as issue 7 asks for; a run of all tests has a few.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from aggregator.cli.daemon import Daemon, NotRunning
from tests.parts.processes import LOOK_AGAIN, PATIENCE, Running, open_process, wait_until

pytestmark = pytest.mark.live

DAEMONS = int(os.environ.get("KILLED_DAEMONS", "20"))  # each with three programs, one of which has a child
TOGETHER = 5
SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
PYTHON = [sys.executable, "-I", "-S"]
DEAF = f"import signal, sys; signal.signal(15, signal.SIG_IGN); sys.argv.pop(0); exec(open({SCRIPT!r}).read())"
PROGRAMS: Mapping[str, list[str]] = {
    "good": [*PYTHON, SCRIPT, "modern"],
    "forks": ["sh", "-c", f"trap '' TERM; sleep 604 & exec {' '.join(PYTHON)} {SCRIPT} older"],
    "deaf": [*PYTHON, "-c", DEAF, SCRIPT, "modern"],
}


def marked(mark: str) -> set[int]:
    """Every process that has `mark` in its environment, as programs and their guards have, and all that they start."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            pass  # it has ended, or is about to
    return found


def commands_of(pids: set[int], what: str) -> set[int]:
    """Those of `pids` whose arguments begin with `what`."""
    begins = "\0".join(PROGRAMS[what]).encode()
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(begins):
                found.add(pid)
        except OSError:
            pass
    return found


def states(daemon: Daemon) -> dict[str, str]:
    try:
        return {row["name"]: row["state"] for row in daemon.ask("GET", "/control/status")["upstreams"]}
    except NotRunning:
        return {}


async def wait_well(daemon: Daemon) -> None:
    with trio.fail_after(PATIENCE):
        while set((await trio.to_thread.run_sync(states, daemon)).values()) != {"connected"}:  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN)


def descriptors(process: Running) -> int:
    return len(os.listdir(f"/proc/{process.process.pid}/fd"))


async def killed(number: int, folder: Path) -> None:
    """One daemon: begun, ended in the way that is `number`'s turn, and looked after."""
    mark, at = f"{os.getpid()}-{number}", str(folder / f"{number}.sock")
    upstreams: list[dict[str, Any]] = [
        {"name": name, "command": command, "env": {"MARK": mark}} for name, command in PROGRAMS.items()
    ]
    config = folder / f"{number}.json"
    config.write_text(
        json.dumps({"socket": at, "storage": "memory", "discoveryTimeout": 60_000, "upstreams": upstreams})
    )
    command = [sys.executable, "-m", "aggregator", "serve", "-c", str(config)]
    daemon = Daemon("", "localhost", 0, "localhost", socket=at)
    async with open_process(f"daemon {number}", command) as process:
        await process.wait_output("MCP endpoint")
        await wait_well(daemon)
        assert len(marked(mark)) == 7, "three programs, their guards, and a child"
        match number % 4:
            case 0:
                process.process.send_signal(signal.SIGKILL)
            case 1:
                process.process.send_signal(signal.SIGTERM)
            case 2:
                before, (good,) = descriptors(process), commands_of(marked(mark), "good")
                os.kill(good, signal.SIGKILL)
                await wait_until(lambda: bool(commands_of(marked(mark), "good") - {good}))
                await wait_well(daemon)
                await wait_until(lambda: descriptors(process) <= before)
                process.process.send_signal(signal.SIGKILL)
            case _:
                process.process.send_signal(signal.SIGTERM)
                for pid in commands_of(marked(mark), "deaf"):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.process.send_signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            code = await process.process.wait()
        assert code == 0 or (number % 4 != 1 and code == -signal.SIGKILL), process.output()
        await wait_until(lambda: not marked(mark))


async def test_nothing_is_left_of_daemons_that_are_killed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for first in range(0, DAEMONS, TOGETHER):
        async with trio.open_nursery() as nursery:
            for number in range(first, min(first + TOGETHER, DAEMONS)):
                nursery.start_soon(killed, number, tmp_path)
    assert len(os.listdir("/proc/self/fd")) <= before
