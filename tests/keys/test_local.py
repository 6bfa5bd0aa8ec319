"""The key of local mode: made once, for its owner only, and the same for every process."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
import trio

from aggregator.config.secrets import derive_key
from aggregator.errors import StoreUnavailable
from aggregator.keys.local import read_local_key
from aggregator.keys.os_keyring import Keyring


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


FAKE = """
import json, os, sys
verb, service, name = sys.argv[2:]
file = sys.argv[1]
kept = json.load(open(file)) if os.path.exists(file) else {}
if kept.get("locked"):
    sys.exit("keyring.errors.KeyringLocked: Failed to unlock the collection!")
if verb == "set":
    kept[name] = "forgotten" if kept.get("broken") else sys.stdin.read().strip()
    json.dump(kept, open(file, "w"))
elif name in kept:
    print(kept[name])
else:
    sys.exit(1)
"""


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A program that keeps texts in a file, as `keyring` does in the desktop's keyring."""
    (tmp_path / "fake.py").write_text(FAKE)
    return Keyring((sys.executable, "-I", "-S", str(tmp_path / "fake.py"), str(tmp_path / "kept.json")))


def test_where_there_is_a_keyring_the_key_is_in_it_and_in_no_file(tmp_path: Path, keyring: Keyring) -> None:
    storage = str(tmp_path / "state" / "local.sqlite")
    made = read_local_key(storage, keyring)
    assert len(derive_key(made)) == 32
    assert read_local_key(storage, keyring) == made
    assert not (tmp_path / "state" / "local.key").exists()
    assert made.reveal() in (tmp_path / "kept.json").read_text()


def test_a_key_that_is_in_a_file_stays_there(tmp_path: Path, keyring: Keyring) -> None:
    storage = str(tmp_path / "local.sqlite")
    assert read_local_key(storage) == read_local_key(storage, keyring)
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize("fault", ["locked", "broken"])
def test_a_keyring_that_keeps_nothing_leaves_the_key_to_the_file(tmp_path: Path, keyring: Keyring, fault: str) -> None:
    (tmp_path / "kept.json").write_text(json.dumps({fault: True}))
    storage = str(tmp_path / "local.sqlite")
    assert read_local_key(storage, keyring) == read_local_key(storage)


def test_a_locked_keyring_does_not_cost_what_was_sealed_under_its_key(tmp_path: Path, keyring: Keyring) -> None:
    storage = tmp_path / "local.sqlite"
    read_local_key(str(storage), keyring)
    storage.write_text("sealed")
    kept = json.loads((tmp_path / "kept.json").read_text())
    (tmp_path / "kept.json").write_text(json.dumps({**kept, "locked": True}))
    with pytest.raises(StoreUnavailable, match="Unlock it and start again"):
        read_local_key(str(storage), keyring)
    assert not (tmp_path / "local.key").exists()
