"""Rows that still need an older key are found, and given the sealing one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.protocol.sealing import KeyRing, column_key_id, key_id
from aggregator.store import OldRow
from aggregator.store.columns import ENCRYPTED
from aggregator.store.rekey import find_old_rows
from aggregator.store.session_rows import SetLevel
from aggregator.store.sqlite import open_sqlite_store

from .samples import ADA, BOB, KEY, NOW, connection, grant, keys, registration

NEW = b"n" * 32
OTHER = b"o" * 32
OLD_ID = key_id(KEY)


@pytest.fixture
async def path(tmp_path: Path) -> str:
    """A store whose every row was written under the old key."""
    path = str(tmp_path / "store.sqlite")
    async with open_sqlite_store(path, keys()) as store:
        await store.save_connection(connection())
        await store.save_connection(connection(principal=BOB, refresh_token=None, issuer=""))
        await store.save_connection(connection(upstream="ended", access_token=None, refresh_token=None))
        await store.save_registration(registration())
        await store.save_registration(registration(issuer="https://public.example", client_secret=None))
        await store.add_grant(grant(expires_at=NOW + 9999))
        await store.keep_login_token("g1", "refresh-0", next_check_at=NOW, kept_until=NOW)
        await store.change_session("s1", ADA.key, SetLevel("error"), expires_at=NOW + 9999)
    return path


EVERY_ROW = (
    OldRow("connections", (ADA.key, "gmail"), (OLD_ID,), True),
    OldRow("connections", (BOB.key, "gmail"), (OLD_ID,), True),
    OldRow("registrations", ("gmail", "https://as.example"), (OLD_ID,), True),
    OldRow("login_tokens", ("g1",), (OLD_ID,), True),
    OldRow("client_sessions", ("s1",), (OLD_ID,), True),
)


def key_ids(path: str) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as db:
        for table in ENCRYPTED:
            for row in db.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}"):
                yield from (column_key_id(blob) for blob in row if blob is not None)


async def test_under_the_key_that_sealed_them_no_row_is_old(path: str) -> None:
    async with open_sqlite_store(path, KeyRing([KEY, NEW])) as store:
        assert await store.old_rows() == ()


async def test_every_row_of_an_older_key_is_found_and_can_be_given_the_new_one(path: str) -> None:
    async with open_sqlite_store(path, KeyRing([NEW, KEY])) as store:
        assert await store.old_rows() == EVERY_ROW
        for row in EVERY_ROW:
            assert await store.reencrypt(row)
        assert await store.old_rows() == ()
        assert await store.reencrypt(EVERY_ROW[0])  # again: harmless
    assert set(key_ids(path)) == {key_id(NEW)}
    async with open_sqlite_store(path, KeyRing([NEW])) as store:
        assert await store.find_connection(ADA, "gmail") == connection()
        assert await store.find_connection(BOB, "gmail") == connection(principal=BOB, refresh_token=None, issuer="")
        assert await store.find_registration("gmail", "https://as.example") == registration()
        taken = await store.take_login_check("g1", now=NOW, next_check_at=NOW + 1)
        assert taken is not None
        assert taken.refresh_token == "refresh-0"


async def test_a_row_that_no_key_at_hand_opens_is_told_and_left_as_it_is(path: str) -> None:
    before = sorted(key_ids(path))
    async with open_sqlite_store(path, KeyRing([NEW, OTHER])) as store:
        rows = await store.old_rows()
        assert [(row.key, row.is_readable) for row in rows] == [(row.key, False) for row in EVERY_ROW]
        for row in rows:
            assert not await store.reencrypt(row)
    assert sorted(key_ids(path)) == before


async def test_a_row_that_is_gone_or_was_written_anew_meanwhile_does_no_harm(path: str) -> None:
    async with open_sqlite_store(path, KeyRing([NEW, KEY])) as store:
        rows = await store.old_rows()
        await store.forget_connection(ADA, "gmail")
        await store.save_connection(connection(principal=BOB, access_token="newer"))
        assert [await store.reencrypt(row) for row in rows] == [False, True, True, True, True]
        found = await store.find_connection(BOB, "gmail")
        assert found is not None
        assert found.access_token == "newer"


async def test_a_row_in_the_middle_of_two_keys_names_both(path: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        sealed = KeyRing([NEW]).encrypt_column("x", row=(ADA.key, "gmail", "https://as.example", "refresh_token"))
        db.execute("UPDATE connections SET refresh_token = ? WHERE user_key = ?", (sealed, ADA.key))
    with closing(sqlite3.connect(path)) as db:
        first = find_old_rows(db, KeyRing([NEW, KEY]))[0]
    assert first == OldRow("connections", (ADA.key, "gmail"), tuple(sorted((OLD_ID, key_id(NEW)))), True)


async def test_every_column_of_bytes_is_known_as_encrypted(path: str) -> None:
    """A new encrypted column must be listed in `columns.ENCRYPTED`, or a key would leave the ring too early."""
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        blobs = {
            (table, column)
            for table in tables
            for column, kind in db.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
            if kind == "BLOB"
        }
    shorter_lived_than_any_key = {("mail", "body")}
    assert blobs == shorter_lived_than_any_key | {
        (table.name, column) for table in ENCRYPTED for column in table.columns
    }
