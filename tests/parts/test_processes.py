"""A started process ends with its block, and what went wrong is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .processes import ProcessFailed, free_port, open_process, wait_until

pytestmark = pytest.mark.live


async def test_the_whole_group_ends_with_the_block() -> None:
    """Children that ignore SIGTERM too."""
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    parent = (
        f"import subprocess, sys; print('child', subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True)"
    )
    command = [sys.executable, "-c", f"{parent}; import time; time.sleep(60)"]
    async with open_process("parent", command) as process:
        pid = int((await process.wait_output(r"child (\d+)"))[1])
    await wait_until(lambda: not _is_running(pid))


async def test_the_words_of_a_process_that_fails_are_shown() -> None:
    async with open_process("broken", [sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"]) as process:
        with pytest.raises(ProcessFailed, match="broken ended with 3:\nno such luck"):
            await process.wait_listening(free_port())


async def test_silence_has_an_end() -> None:
    async with open_process("silent", [sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        with pytest.raises(ProcessFailed, match=r"within 0\.3 s"):
            await process.wait_output("never", within=0.3)


async def test_a_line_is_read_once_it_is_whole_and_the_last_words_even_without_an_end() -> None:
    write = "import sys, time; sys.stdout.write('port 12'); sys.stdout.flush(); time.sleep(0.3); sys.stdout.write('34')"
    async with open_process("slow to speak", [sys.executable, "-c", write]) as process:
        assert (await process.wait_output(r"port (\d+)"))[1] == "1234"


def test_nobody_else_is_given_a_port_that_was_given() -> None:
    given = [free_port() for _ in range(20)]
    script = "from tests.parts.processes import free_port; print(*(free_port() for _ in range(20)))"
    here = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=True)
    assert len({*given, *map(int, told.stdout.split())}) == 40


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
