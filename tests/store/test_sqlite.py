"""What only the SQLite store promises. The contract is in test_contract.py."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio

from aggregator.errors import StoreUnavailable
from aggregator.protocol.sealing import KeyRing
from aggregator.store import UNREADABLE, Connection, Gone, Redeemed, Replayed, Rotated, Store
from aggregator.store.sqlite import SqliteStore, open_sqlite_store
from aggregator.store.sqlite_file import connect
from aggregator.store.sqlite_opening import open_file

from .samples import ADA, BOB, DAY, KEY, NOW, connection, grant, keys, registration

UNTIL = NOW + 30 * DAY


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.sqlite")


@contextmanager
def opened(path: str) -> Iterator[tuple[SqliteStore, sqlite3.Connection]]:
    """A store, and its own connection for the test to disturb."""
    _, connection = open_file(path, keys(), issuer=None)
    with closing(connection):
        yield SqliteStore(connection, keys(), path=path), connection


@pytest.mark.requirement("TK2", "TK7", "TK8")
async def test_what_was_refused_before_a_restart_is_refused_after_it(path: str) -> None:
    async with open_sqlite_store(path, keys()) as store:
        for grant_id in ("replayed", "rotated", "revoked"):
            await store.add_grant(grant(grant_id))
            await store.redeem(f"code of {grant_id}", grant_id, now=NOW, expires_at=NOW + 60, grant_until=UNTIL)
        await store.consume("ticket", expires_at=NOW + 60)
        await store.rotate("rotated", 0, now=NOW)
        await store.revoke_grant("revoked", now=NOW)
        await store.save_connection(connection())
    async with open_sqlite_store(path, keys()) as store:
        assert not await store.consume("ticket", expires_at=NOW + 60)
        assert await store.redeem(
            "code of replayed", "replayed", now=NOW, expires_at=NOW + 60, grant_until=UNTIL
        ) == Replayed("replayed")
        assert await store.rotate("rotated", 0, now=NOW + 31) == Replayed("rotated")
        assert await store.rotate("revoked", 0, now=NOW) == Gone()
        assert await store.revoked_since(NOW) == {"replayed", "rotated", "revoked"}
        assert await store.find_connection(ADA, "gmail") == connection()


async def test_closing_leaves_one_file(path: str) -> None:
    async with open_sqlite_store(path, keys()) as store:
        await store.check()
    assert os.listdir(os.path.dirname(path)) == ["store.sqlite"]


async def test_leaving_the_block_by_cancellation_closes_the_file(path: str) -> None:
    with trio.CancelScope() as scope:
        async with open_sqlite_store(path, keys()) as store:
            await store.check()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert os.listdir(os.path.dirname(path)) == ["store.sqlite"]


async def test_a_closed_store_is_unavailable(path: str) -> None:
    async with open_sqlite_store(path, keys()) as store:
        pass
    with pytest.raises(StoreUnavailable):
        await store.find_grant("g1")


async def test_one_call_at_a_time_uses_the_connection(path: str) -> None:
    threads: set[int] = set()
    inside: list[int] = []
    most = 0

    def look() -> int:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        threads.add(threading.get_ident())
        inside.pop()
        return 0

    with opened(path) as (store, connection):
        connection.set_progress_handler(look, 10)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(store.add_grant, grant(f"g{number}"))
        connection.set_progress_handler(None, 10)
        assert most == 1
        assert threading.get_ident() not in threads
        assert repr(store) == f"<SqliteStore {path} [0 waiting]>"


async def test_a_write_that_began_is_finished_when_its_caller_is_cancelled(path: str) -> None:
    """The thread is held inside the statement, the caller is cancelled, the thread goes on."""
    began, go_on = threading.Event(), threading.Event()

    def wait() -> int:
        began.set()
        go_on.wait(120)
        return 0

    with opened(path) as (store, connection):
        await store.add_grant(grant())
        connection.set_progress_handler(wait, 1)
        answers: list[object] = []
        reached = False

        async def call() -> None:
            nonlocal reached
            answers.append(await store.redeem("c", "g1", now=NOW, expires_at=NOW + 60, grant_until=UNTIL))
            await trio.lowlevel.checkpoint()
            reached = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            assert await trio.to_thread.run_sync(began.wait, 120)
            nursery.cancel_scope.cancel()
            go_on.set()
        connection.set_progress_handler(None, 1)
        # The caller has its answer: a rotation that happened is not lost. Then the cancellation is delivered.
        assert isinstance(answers[0], Redeemed)
        assert not reached
        found = await store.find_grant("g1")
        assert found is not None
        assert found.expires_at == UNTIL


# Encryption at rest


def raw_bytes(path: str) -> bytes:
    directory = Path(path).parent
    return b"".join(entry.read_bytes() for entry in directory.iterdir())


async def test_no_token_is_in_the_file_in_plain_text(path: str) -> None:
    with opened(path) as (store, _):
        await store.save_connection(connection())
        await store.renew_connection(
            connection(),
            access_token="access-2",
            refresh_token="refresh-2",
            token_type="Bearer",
            scope=None,
            issued_at=NOW + 9,
            expires_at=None,
        )
        await store.save_registration(registration())
        raw = raw_bytes(path)
    assert b"gmail" in raw
    for secret in (b"access-of-ada", b"refresh-of-ada", b"access-2", b"refresh-2", b"our-secret"):
        assert secret not in raw


async def save_four(store: Store) -> None:
    for who in (ADA, BOB):
        for upstream in ("gmail", "calendar"):
            await store.save_connection(connection(principal=who, upstream=upstream, access_token=f"{who} {upstream}"))


def assert_unreadable(found: Connection | None) -> None:
    """It needs a login, and says why: not absent, or the person would be taken for somebody who never connected."""
    assert found is not None
    assert (found.state, found.reason) == ("needs_login", UNREADABLE)
    assert (found.access_token, found.refresh_token) == (None, None)


ADAS_GMAIL = f"user_key = '{ADA.key}' AND upstream = 'gmail'"


def copy(column: str, row: str) -> str:
    """SQL that copies one cell of `row` into Ada's row for Gmail."""
    return f"{column} = (SELECT {column} FROM connections WHERE {row})"


@pytest.mark.parametrize(
    "change",
    [
        copy("access_token", f"user_key = '{BOB.key}' AND upstream = 'gmail'"),
        copy("access_token", f"user_key = '{ADA.key}' AND upstream = 'calendar'"),
        copy("refresh_token", f"user_key = '{BOB.key}' AND upstream = 'gmail'"),
        "access_token = refresh_token, refresh_token = access_token",
        "issuer = 'https://other.example'",
        "issuer = ''",
        "access_token = zeroblob(40)",
        "access_token = x''",
    ],
    ids=[
        "of another person",
        "of another upstream",
        "refresh token of another",
        "columns swapped",
        "of another issuer",
        "of no issuer",
        "zeros",
        "nothing",
    ],
)
async def test_a_ciphertext_in_another_place_counts_as_absent_and_is_logged_once(
    path: str, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as (store, connection):
        await save_four(store)
        connection.execute(f"UPDATE connections SET {change} WHERE {ADAS_GMAIL}")
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                unreadable = await store.find_connection(ADA, "gmail")
                assert_unreadable(unreadable)
            assert unreadable is not None
            assert await store.take_refresh(unreadable, owner="me", now=NOW, until=NOW + 25) is None
            assert [found.state for found in await store.connections_of(ADA)] == ["connected", "needs_login"]
            found = await store.find_connection(BOB, "gmail")
            assert found is not None
            assert found.state == "connected"
        (record,) = caplog.records
        assert record.getMessage().startswith(f"storage: the token of {ADA.key} at gmail counts as absent: ")


async def test_rows_of_two_people_exchanged_open_for_neither(path: str) -> None:
    with opened(path) as (store, connection):
        await save_four(store)
        connection.execute("UPDATE connections SET upstream = 'x' || user_key WHERE upstream = 'gmail'")
        connection.execute(
            "UPDATE connections SET user_key = ?, upstream = 'gmail' WHERE upstream = ?", (BOB.key, "x" + ADA.key)
        )
        connection.execute(
            "UPDATE connections SET user_key = ?, upstream = 'gmail' WHERE upstream = ?", (ADA.key, "x" + BOB.key)
        )
        assert_unreadable(await store.find_connection(ADA, "gmail"))
        assert_unreadable(await store.find_connection(BOB, "gmail"))
        assert await store.find_connection(BOB, "calendar") is not None


async def test_another_key_reads_nothing_and_an_added_key_reads_the_old_rows(path: str) -> None:
    new = b"n" * 32
    async with open_sqlite_store(path, keys()) as store:
        await store.save_connection(connection())
        await store.save_registration(registration())
    async with open_sqlite_store(path, KeyRing([new])) as store:
        assert_unreadable(await store.find_connection(ADA, "gmail"))
        assert await store.find_registration("gmail", "https://as.example") is None
    async with open_sqlite_store(path, KeyRing([new, KEY])) as store:
        assert await store.find_connection(ADA, "gmail") == connection()
        assert await store.find_registration("gmail", "https://as.example") == registration()
    async with open_sqlite_store(path, KeyRing([new])) as store:
        assert_unreadable(await store.forget_connection(ADA, "gmail"))
        assert await store.find_connection(ADA, "gmail") is None


# Consents


async def test_a_grant_is_written_together_with_its_consent_and_both_go_together(path: str) -> None:
    with opened(path) as (store, connection):
        await store.add_grant(grant("first"))
        await store.add_grant(grant("second", scope="mcp more", created_at=NOW + 1))
        consent = (ADA.key, "client-1", "http://127.0.0.1/callback", "mcp more", NOW + 1, "second")
        assert connection.execute("SELECT * FROM consents").fetchall() == [consent]
        with pytest.raises(StoreUnavailable):
            await store.add_grant(grant("first", redirect_uri="https://evil.example/"))
        assert connection.execute("SELECT * FROM consents").fetchall() == [consent]
        assert await store.purge(now=NOW + 3 * DAY) == 2
        assert connection.execute("SELECT * FROM consents").fetchall() == []


# Failures


async def fill(store: Store) -> None:
    for number in range(1000):
        await store.add_grant(grant(f"full-{number}", label="x" * 1000))


async def test_a_full_disk_is_said_so_and_the_store_works_again_after_it(path: str) -> None:
    with opened(path) as (store, connection):
        await store.add_grant(grant())
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match=r"\(SQLITE_FULL\). The disk is full: free some space"):
            await fill(store)
        assert not connection.in_transaction
        found = await store.find_grant("g1")
        last = f"full-{connection.execute('SELECT count(*) - 1 FROM grants').fetchone()[0]}"
        connection.execute("PRAGMA max_page_count = 1000000")
        assert found == grant()
        assert await store.find_grant(last) is None
        await store.add_grant(grant(last, label="x" * 1000))
        assert isinstance(await store.rotate("g1", 0, now=NOW), Rotated)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_lock_that_is_not_released_is_an_unavailable_store_and_passes(path: str) -> None:
    with opened(path) as (store, connection), closing(connect(path)) as other:
        connection.execute("PRAGMA busy_timeout = 20")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"SQLITE_BUSY.*Another process holds the file"):
            await store.check()
        assert await store.find_grant("g1") is None  # readers do not wait for writers
        other.execute("ROLLBACK")
        await store.check()


async def test_a_file_that_became_read_only_is_said_so(path: str) -> None:
    with opened(path) as (store, connection):
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailable, match=r"SQLITE_READONLY.*writable"):
            await store.check()


def damage(path: str) -> None:
    """Overwrite every page but the first."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


async def test_a_damaged_file_is_said_so(path: str) -> None:
    async with open_sqlite_store(path, keys()) as store:
        await store.save_connection(connection())
    damage(path)
    with pytest.raises(StoreUnavailable, match=r"SQLITE_CORRUPT.*Restore a copy"):
        async with open_sqlite_store(path, keys()) as store:
            await store.find_connection(ADA, "gmail")
