"""What must be true after any fault: it answers, it has told no secret, and what it took it has given back.

`open_deployment` and `open_own_process` ask it at their end, so that every test over them ends with it.
"""

from __future__ import annotations

import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import trio

from aggregator.cli.logs import TextLines
from aggregator.cli.redaction import Redaction
from tests.parts.processes import LOOK_AGAIN, PATIENCE

_TOKENS = ("mcpa_at_", "mcpa_rt_", "mcpa_ac_", "Bearer ey")  # how what we issue begins


def open_files(pid: int) -> int:
    """How many file descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> set[int]:
    """The processes that a process has started and not seen the end of."""
    found: set[int] = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(map(int, file.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has just ended
    return found


async def assert_healthy(url: str) -> None:
    """`/healthz` says 200."""
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE, verify=False) as client:
        with trio.fail_after(PATIENCE):
            assert (await client.get(f"{url}/healthz")).status_code == 200


def assert_tells_no_secret(text: str, secrets: tuple[str, ...] = ()) -> None:
    """Neither one of these nor anything that looks like one of ours, in a log, a page or a file."""
    for secret in (*secrets, *_TOKENS):
        assert secret not in text, f"...{text[max(0, text.index(secret) - 300) : text.index(secret)]}<the secret>"


@contextmanager
def kept_log() -> Iterator[Callable[[], str]]:
    """What is logged in this process meanwhile, as `serve` would write it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines())
    handler.addFilter(Redaction())
    logging.getLogger().addHandler(handler)
    try:
        yield stream.getvalue
    finally:
        logging.getLogger().removeHandler(handler)


def running_tasks() -> Counter[str]:
    """The tasks of this run, by what they run."""
    found: Counter[str] = Counter()
    pending = [trio.lowlevel.current_root_task()]
    while pending:
        task = pending.pop()
        if task is not None:
            found[task.name] += 1
            pending.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found


class Balance:
    """What this process has now, to be compared with later."""

    def __init__(self) -> None:
        self._files, self._children, self._tasks = self._count()

    @staticmethod
    def _count() -> tuple[int, set[int], Counter[str]]:
        return open_files(os.getpid()), children(os.getpid()), running_tasks()

    @classmethod
    async def take(cls) -> Balance:
        """Once the tasks that have just been started have started theirs."""
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        return cls()

    async def assert_even(self) -> None:
        """No more file descriptors, children and tasks than then."""
        with trio.move_on_after(PATIENCE):
            while not self._is_even():  # noqa: ASYNC110  what ends elsewhere tells nobody
                await trio.sleep(LOOK_AGAIN)
        files, processes, tasks = self._count()
        assert files <= self._files, f"{files - self._files} file descriptors too many"
        assert processes <= self._children, f"processes left: {processes - self._children}"
        assert tasks <= self._tasks, f"tasks left: {tasks - self._tasks}"

    def _is_even(self) -> bool:
        files, processes, tasks = self._count()
        return files <= self._files and processes <= self._children and tasks <= self._tasks
