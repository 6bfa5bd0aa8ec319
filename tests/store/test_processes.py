"""Several processes on one SQLite file decide as one."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from aggregator.store.sqlite import open_sqlite_store

from .contender import CODES
from .samples import NOW, grant, keys
from .test_seed import write_seed

pytestmark = pytest.mark.live

PROCESSES = 3


def run_contenders(path: Path, what: str) -> list[list[Any]]:
    """The answers of each process; all have opened the file before the first asks."""
    with ExitStack() as ending:
        running = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.store.contender", str(path), what],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ending.enter_context(process)
            ending.callback(process.kill)
            running.append(process)
        for process in running:
            assert process.stdout is not None
            assert process.stderr is not None
            ready = process.stdout.readline()
            assert ready == "ready\n", process.stderr.read()
        outputs = []
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
            outputs.append(json.loads(output))
        return outputs


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.sqlite"
    async with open_sqlite_store(str(path), keys()) as store:
        for number in range(CODES):
            await store.add_grant(grant(f"g{number}"))
    return path


@pytest.mark.requirement("TK2")
async def test_each_code_is_redeemed_by_one_process_and_its_grant_is_revoked(path: Path) -> None:
    outputs = run_contenders(path, "redeem")
    for answers in zip(*outputs, strict=True):
        assert Counter(answers) == {"Redeemed": 1, "Replayed": PROCESSES - 1}
    async with open_sqlite_store(str(path), keys()) as store:
        assert await store.revoked_since(NOW) == {f"g{number}" for number in range(CODES)}


@pytest.mark.requirement("TK7")
async def test_each_refresh_is_swapped_by_one_process_and_the_others_get_the_same_generation(path: Path) -> None:
    outputs = run_contenders(path, "rotate")
    for answers in zip(*outputs, strict=True):
        assert Counter(map(tuple, answers)) == {(False, 1): 1, (True, 1): PROCESSES - 1}


async def test_each_check_at_the_identity_provider_is_made_by_one_process(path: Path) -> None:
    async with open_sqlite_store(str(path), keys()) as store:
        for number in range(CODES):
            await store.keep_login_token(f"g{number}", "refresh", next_check_at=NOW, kept_until=NOW)
    outputs = run_contenders(path, "check")
    assert [sum(answers) for answers in zip(*outputs, strict=True)] == [1] * CODES


async def test_processes_that_create_the_file_together_share_it(tmp_path: Path) -> None:
    outputs = run_contenders(tmp_path / "new.sqlite", "consume")
    assert [sum(answers) for answers in zip(*outputs, strict=True)] == [1] * CODES


async def test_processes_that_find_the_predecessors_file_together_import_it_once(tmp_path: Path) -> None:
    path = tmp_path / "seed.sqlite"
    write_seed(path)
    outputs = run_contenders(path, "consume")
    assert [sum(answers) for answers in zip(*outputs, strict=True)] == [1] * CODES
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM connections").fetchone() == (40,)
