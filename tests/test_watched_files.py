from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from aggregator.watched_files import WatchedFiles, look

INTERVAL = 5.0


async def waited(watched: WatchedFiles) -> float | None:
    """Seconds until a change is told; None if none is within a minute."""
    started = trio.current_time()
    with trio.move_on_after(60):
        await watched.wait_changed()
        return trio.current_time() - started
    return None


async def test_what_is_known_is_no_change_and_what_is_new_is_told_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    watched = WatchedFiles([str(file)], INTERVAL, known=look([str(file)]))
    assert await waited(watched) is None
    file.write_text("three")
    assert await waited(watched) == pytest.approx(INTERVAL)
    assert await waited(watched) is None
    file.unlink()
    assert await waited(watched) == pytest.approx(INTERVAL)
    assert await waited(watched) is None


async def test_without_knowledge_the_first_content_is_a_change(tmp_path: Path, autojump_clock: MockClock) -> None:
    watched = WatchedFiles([str(tmp_path / "absent")], INTERVAL)
    assert await waited(watched) == pytest.approx(INTERVAL)
    assert await waited(watched) is None


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "a"
    file.write_text("")
    watched = WatchedFiles([str(file)], INTERVAL, known=look([str(file)]))

    async def write() -> None:
        for _ in range(10):
            with file.open("a") as out:
                out.write("more")
            await trio.sleep(INTERVAL - 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        told = await waited(watched)
    assert told is not None
    assert told > 9 * (INTERVAL - 1)


async def test_a_symlink_to_another_directory_is_a_change(tmp_path: Path, autojump_clock: MockClock) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text("same")
    data = tmp_path / "..data"
    data.symlink_to(tmp_path / "one")
    files = [str(data / "secret")]
    watched = WatchedFiles(files, INTERVAL, known=look(files))
    new = tmp_path / "new"
    new.symlink_to(tmp_path / "two")
    os.replace(new, data)
    assert await waited(watched) == pytest.approx(INTERVAL)
