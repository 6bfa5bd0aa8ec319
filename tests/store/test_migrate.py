"""The file's layout goes forward, one whole step at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.errors import StoreUnavailable
from aggregator.store import Connection
from aggregator.store.migrate import APPLICATION_ID, immediate, load_migrations, migrate, version_of
from aggregator.store.sqlite_connections import parse_connection, select_connection

from .samples import ADA, keys

ONE = "CREATE TABLE a (x TEXT) STRICT;\nINSERT INTO a VALUES ('a;b');\n"
TWO = "-- two; with a comment\nALTER TABLE a ADD COLUMN y TEXT;\n"
BROKEN = "CREATE TABLE b (x TEXT) STRICT;\nINSERT INTO nowhere VALUES (1);\n"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def delete_and_be_interrupted(db: sqlite3.Connection) -> None:
    with immediate(db):
        db.execute("DELETE FROM a")
        raise KeyboardInterrupt


def test_an_empty_file_takes_every_step_and_says_whose_it_is(db: sqlite3.Connection) -> None:
    migrate(db, "x", load_migrations())
    assert version_of(db) == len(load_migrations())
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    ours = {"spent", "grants", "consents", "connections", "registrations", "meta", "login_tokens", "sign_outs"}
    ours |= {"mail", "client_sessions", "sqlite_sequence"}  # the last is SQLite's own, for AUTOINCREMENT
    assert tables(db) == ours


@pytest.mark.requirement("UP5")
def test_tokens_from_before_issuers_were_noted_are_good_until_they_end_and_are_not_refreshed(
    db: sqlite3.Connection,
) -> None:
    migrate(db, "x", load_migrations()[:2])
    sealed = keys().encrypt_column("access", row=(ADA.key, "gmail", "access_token"))
    refresh = keys().encrypt_column("refresh", row=(ADA.key, "gmail", "refresh_token"))
    db.execute(
        "INSERT INTO upstream_tokens VALUES (?, 'gmail', ?, ?, 'bearer', 'mail', 5.0)", (ADA.key, sealed, refresh)
    )
    db.execute("INSERT INTO upstream_clients VALUES ('gmail', x'00', x'00', x'00')")
    migrate(db, "x", load_migrations())
    row = select_connection(db, ADA, "gmail")
    assert row is not None
    found, trouble = parse_connection(keys(), ADA, row)
    assert trouble is None
    assert found == Connection(ADA, "gmail", found.id, "access", None, "bearer", "mail", 5.0)
    assert len(found.id) == 32
    assert db.execute("SELECT * FROM registrations").fetchall() == []


def test_every_table_is_strict(db: sqlite3.Connection) -> None:
    migrate(db, "x", load_migrations())
    rows = db.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'")
    assert {strict for _, strict in rows} == {1}


def test_a_grant_of_layout_1_counts_as_logged_in_when_it_was_made(db: sqlite3.Connection) -> None:
    one, *_ = load_migrations()
    migrate(db, "x", [one])
    columns = "id issuer subject label client client_name redirect_uri scope resource created_at expires_at generation"
    values = [*columns.split()[:9], 1000.5, 2000.0, 0]
    db.execute(f"INSERT INTO grants ({', '.join(columns.split())}) VALUES ({', '.join('?' * 12)})", values)
    migrate(db, "x", load_migrations())
    assert db.execute("SELECT id, logged_in_at FROM grants").fetchall() == [("id", 1000.5)]


def test_only_the_missing_steps_are_taken(db: sqlite3.Connection) -> None:
    migrate(db, "x", [ONE])
    migrate(db, "x", [ONE, TWO])
    migrate(db, "x", [ONE, TWO])
    assert version_of(db) == 2
    assert db.execute("SELECT x, y FROM a").fetchall() == [("a;b", None)]


def test_a_step_that_fails_leaves_the_steps_before_it_and_nothing_of_itself(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(db, "x", [ONE, BROKEN])
    assert version_of(db) == 1
    assert tables(db) == {"a"}
    assert not db.in_transaction


def test_a_newer_file_is_refused_with_both_versions(db: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(db, "x", [ONE, TWO])
    with pytest.raises(StoreUnavailable, match=r"store\.sqlite has layout 2.* up to 1\. Run the newer version"):
        migrate(db, "store.sqlite", [ONE])
    assert version_of(db) == 2


def test_a_transaction_that_raises_is_rolled_back(db: sqlite3.Connection) -> None:
    migrate(db, "x", [ONE])
    with pytest.raises(KeyboardInterrupt):
        delete_and_be_interrupted(db)
    assert db.execute("SELECT count(*) FROM a").fetchone() == (1,)
