"""The key of local mode: made once, for its owner only, and the same for every process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio

from aggregator.config.secrets import derive_key
from aggregator.errors import StoreUnavailable
from aggregator.local_key import read_local_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_directory_and_a_key_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = read_local_key(str(tmp_path / "state" / "mcp-aggregator" / "local.sqlite"))
    finally:
        os.umask(before)
    key = tmp_path / "state" / "mcp-aggregator" / "local.key"
    assert (mode(key.parent), mode(key)) == (0o700, 0o600)
    assert len(derive_key(made)) == 32
    assert [path.name for path in key.parent.iterdir()] == ["local.key"]


def test_a_later_start_reads_the_same_key(tmp_path: Path) -> None:
    storage = str(tmp_path / "local.sqlite")
    assert read_local_key(storage) == read_local_key(storage)


async def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    found = set()

    async def read() -> None:
        found.add(await trio.to_thread.run_sync(read_local_key, str(tmp_path / "local.sqlite")))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(read)
    assert len(found) == 1


@pytest.mark.parametrize("bits", [0o640, 0o604])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, bits: int) -> None:
    storage = str(tmp_path / "local.sqlite")
    read_local_key(storage)
    (tmp_path / "local.key").chmod(bits)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        read_local_key(storage)


def test_a_file_that_holds_no_key_is_refused_without_being_quoted(tmp_path: Path) -> None:
    storage = str(tmp_path / "local.sqlite")
    read_local_key(storage)
    (tmp_path / "local.key").write_text("hunter2\n")
    with pytest.raises(StoreUnavailable, match="is no key") as caught:
        read_local_key(storage)
    assert "hunter2" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"file/x/local\.key"):
        read_local_key(str(tmp_path / "file" / "x" / "local.sqlite"))
