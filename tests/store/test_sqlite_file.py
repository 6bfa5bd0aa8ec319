"""Where a SQLite file may be, who may read it, whose it is."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from aggregator.errors import StoreUnavailable
from aggregator.store.migrate import APPLICATION_ID
from aggregator.store.sqlite_file import Kind, connect, identify, prepare_path, use_write_ahead_log
from aggregator.store.sqlite_opening import open_file

from .samples import keys


def local(directory: str) -> str | None:
    return "ext4"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_and_write(path: Path) -> sqlite3.Connection:
    _, connection = open_file(str(path), keys(), issuer=None)
    connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    return connection


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_new_file_and_its_side_files_are_for_the_owner_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "s.sqlite"
    if umask & 0o200 and os.geteuid() != 0:
        umask = 0o077  # an owner who may not write their own file cannot be served
    before = os.umask(umask)
    try:
        connection = open_and_write(path)
    finally:
        os.umask(before)
    found = {entry.name: mode_of(entry) & 0o077 for entry in tmp_path.iterdir()}
    connection.close()
    assert found == {"s.sqlite": 0, "s.sqlite-wal": 0, "s.sqlite-shm": 0}


def test_a_wider_mode_is_tightened_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.sqlite"
    open_and_write(path).close()
    path.chmod(0o664)
    with caplog.at_level(logging.WARNING):
        open_file(str(path), keys(), issuer=None)[1].close()
    assert mode_of(path) == 0o600
    (record,) = caplog.records
    assert record.getMessage().startswith(f"storage: others had access to {path} (0664)")
    assert record.getMessage().endswith("only the owner has now")


def test_what_holds_for_every_connection(tmp_path: Path) -> None:
    connection = open_and_write(tmp_path / "s.sqlite")
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in (
            *("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "secure_delete"),
            *("busy_timeout", "application_id"),
        )
    }
    connection.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "secure_delete": 1,
        "busy_timeout": 5000,
        "application_id": APPLICATION_ID,
    }


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(StoreUnavailable, match="write 'memory'"):
        prepare_path(path, file_system=local)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"no directory {tmp_path}/gone; create it"):
        prepare_path(str(tmp_path / "gone" / "s.sqlite"), file_system=local)


def test_a_file_that_cannot_be_created_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be created: File name too long"):
        prepare_path(str(tmp_path / ("s" * 300)), file_system=local)


def test_a_database_without_a_write_ahead_log_is_refused() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreUnavailable, match="SQLite answers 'memory'"):
        use_write_ahead_log(connection, "s.sqlite")
    connection.close()


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"{tmp_path} is not a file; name a file"):
        prepare_path(str(tmp_path), file_system=local)


def test_a_network_file_system_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    asked = []

    def remote(directory: str) -> str:
        asked.append(directory)
        return "nfs4"

    with pytest.raises(StoreUnavailable, match=r"network file system \(nfs4\)"):
        open_file(str(tmp_path / "s.sqlite"), keys(), issuer=None, file_system=remote)
    assert asked == [str(tmp_path)]
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed_before_the_file_system_is_asked(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "real" / "s.sqlite")
    assert prepare_path(str(tmp_path / "link.sqlite"), file_system=local) == str(tmp_path / "real" / "s.sqlite")
    assert mode_of(tmp_path / "real" / "s.sqlite") == 0o600


@pytest.mark.parametrize("content", [b"hello", b"# notes\n" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_not_sqlite_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt: file is not a database .* name another path"):
        open_file(str(path), keys(), issuer=None)
    assert path.read_bytes() == content
    assert mode_of(path) == 0o644


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA application_id = 1; CREATE TABLE a (x);",
        "PRAGMA user_version = 3;",
        "CREATE TABLE moz_cookies (x);",
        "CREATE TABLE upstream_tokens (user_id, something_else);",
        "CREATE TABLE upstream_registrations (upstream_name, client_id, client_secret, registration_json);",
        "CREATE VIEW upstream_tokens AS SELECT 1;",
    ],
)
def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "other.sqlite"
    other = sqlite3.connect(path)
    other.executescript(sql)
    other.close()
    path.chmod(0o644)
    content = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="database of another program"):
        open_file(str(path), keys(), issuer="https://idp.example")
    assert path.read_bytes() == content
    assert mode_of(path) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.sqlite"]


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    connection = open_and_write(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="has layout 99, written by a newer mcp-aggregator"):
        open_file(str(path), keys(), issuer=None)


def test_an_empty_file_becomes_ours(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.touch(mode=0o644)
    open_and_write(path).close()
    connection = connect(str(path))
    assert identify(connection) is Kind.OURS
    connection.close()
    assert mode_of(path) == 0o600


def test_a_file_that_vanished_is_not_created_by_sqlite(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        connect(str(tmp_path / "gone.sqlite"))
    assert not list(tmp_path.iterdir())
