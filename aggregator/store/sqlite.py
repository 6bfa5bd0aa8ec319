"""The store in one SQLite file, for the processes of one host.

`SqliteStore` owns one connection and uses it from one thread at a time. A call
that has its turn runs to the end even when its caller is cancelled, so that a
write is done or not done, never half. This file does not know how a file
becomes ours: see `sqlite_file`, `migrate` and `seed`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, assert_never

import trio

from ..errors import StoreUnavailable, Unsealable
from ..protocol.principal import Principal
from ..protocol.sealing import KeyRing
from . import Gone, Grant, Redeemed, Replayed, Rotated, Store, UpstreamToken
from .columns import decrypt_token, encrypt_token
from .file_system import FileSystem, file_system_of
from .grants import KEPT_AFTER_THE_END, redemption, rotation
from .migrate import immediate, load_migrations, migrate
from .seed import import_seed, scrub
from .sqlite_file import Kind, connect, identify, keep_private, prepare_path, sqlite_errors_of, use_write_ahead_log

T = TypeVar("T")

GRANT_COLUMNS = (
    "id, issuer, subject, label, client, client_name, redirect_uri, scope, resource,"
    " created_at, expires_at, generation, rotated_at, last_used_at, revoked_at"
)

log = logging.getLogger(__name__)


class SqliteStore:
    """A `Store` over a connection to a file of ours; `path` is for messages only."""

    def __init__(
        self, connection: sqlite3.Connection, keys: KeyRing, *, path: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._path = path
        self._clock = clock
        self._turn = trio.CapacityLimiter(1)
        self._unreadable: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        waiting = self._turn.statistics().tasks_waiting
        return f"<SqliteStore {self._path} [{waiting} waiting]>"

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        return await self._write(lambda db: _spend(db, ticket, expires_at))

    async def add_grant(self, grant: Grant) -> None:
        await self._write(lambda db: _insert_grant(db, grant))

    async def redeem(
        self, code: str, grant_id: str, *, now: float, expires_at: float, grant_until: float
    ) -> Redeemed | Replayed | Gone:
        def work(db: sqlite3.Connection) -> Redeemed | Replayed | Gone:
            first_use = _spend(db, code, expires_at)
            grant = _select_grant(db, grant_id)
            outcome = redemption(grant, grant_id, first_use=first_use, now=now, grant_until=grant_until)
            _apply(db, outcome, now)
            return outcome

        return await self._write(work)

    async def rotate(self, grant_id: str, generation: int, *, now: float) -> Rotated | Replayed | Gone:
        def work(db: sqlite3.Connection) -> Rotated | Replayed | Gone:
            # Compare and swap: the transaction has the write lock, so nobody writes between the two.
            outcome = rotation(_select_grant(db, grant_id), generation=generation, now=now)
            _apply(db, outcome, now)
            return outcome

        return await self._write(work)

    async def find_grant(self, grant_id: str) -> Grant | None:
        return await self._read(lambda db: _select_grant(db, grant_id))

    async def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        def work(db: sqlite3.Connection) -> tuple[Grant, ...]:
            rows = db.execute(
                f"SELECT {GRANT_COLUMNS} FROM grants WHERE issuer = ? AND subject = ?"  # noqa: S608
                " AND revoked_at IS NULL AND expires_at > ? ORDER BY created_at DESC, id",
                (principal.issuer, principal.subject, self._clock()),
            )
            return tuple(map(_parse_grant, rows))

        return await self._read(work)

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        return await self._write(lambda db: _revoke(db, grant_id, now))

    async def revoked_since(self, since: float) -> frozenset[str]:
        def work(db: sqlite3.Connection) -> frozenset[str]:
            return frozenset(str(row[0]) for row in db.execute("SELECT id FROM grants WHERE revoked_at >= ?", (since,)))

        return await self._read(work)

    async def save_upstream_token(self, token: UpstreamToken) -> None:
        key = token.principal.key
        sealed = encrypt_token(self._keys, key, token.upstream, token.access_token, token.refresh_token)
        row = (key, token.upstream, *sealed, token.token_type, token.scope, token.expires_at)
        await self._write(lambda db: db.execute("REPLACE INTO upstream_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row))

    async def find_upstream_token(self, principal: Principal, upstream: str) -> UpstreamToken | None:
        def work(db: sqlite3.Connection) -> tuple[bytes, bytes | None, str, str | None, float | None] | None:
            return db.execute(  # type: ignore[no-any-return]  # a STRICT table has these types
                "SELECT access_token, refresh_token, token_type, scope, expires_at FROM upstream_tokens"
                " WHERE user_key = ? AND upstream = ?",
                (principal.key, upstream),
            ).fetchone()

        row = await self._read(work)
        if row is None:
            return None
        access, refresh, token_type, scope, expires_at = row
        try:
            tokens = decrypt_token(self._keys, principal.key, upstream, access, refresh)
        except Unsealable as exc:
            self._report_unreadable(principal.key, upstream, exc)
            return None
        return UpstreamToken(principal, upstream, *tokens, token_type, scope, expires_at)

    async def forget_upstream_token(self, principal: Principal, upstream: str) -> bool:
        statement = "DELETE FROM upstream_tokens WHERE user_key = ? AND upstream = ?"
        return await self._write(lambda db: db.execute(statement, (principal.key, upstream)).rowcount > 0)

    async def purge(self, *, now: float) -> int:
        def work(db: sqlite3.Connection) -> int:
            spent = db.execute("DELETE FROM spent WHERE expires_at <= ?", (now,)).rowcount
            kept_from = now - KEPT_AFTER_THE_END
            statement = "DELETE FROM grants WHERE expires_at < ? OR revoked_at < ?"
            return spent + db.execute(statement, (kept_from, kept_from)).rowcount

        return await self._write(work)

    async def check(self) -> None:
        # A real commit: only that tells a full disk from a good one.
        await self._write(lambda db: db.execute("REPLACE INTO meta VALUES ('checked', ?)", (str(self._clock()),)))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction() -> T:
            with immediate(self._connection):
                return work(self._connection)

        return await self._in_turn(transaction)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_turn(partial(work, self._connection))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread. Cancellable while waiting for the turn, not after."""

        def translated() -> T:
            with sqlite_errors_of(self._path):
                return work()

        return await trio.to_thread.run_sync(translated, limiter=self._turn)

    def _report_unreadable(self, user_key: str, upstream: str, cause: Unsealable) -> None:
        if (user_key, upstream) not in self._unreadable:
            self._unreadable.add((user_key, upstream))
            log.warning("storage: the token of %s at %s counts as absent: %s", user_key, upstream, cause)


def _spend(db: sqlite3.Connection, ticket: str, expires_at: float) -> bool:
    return db.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", (ticket, expires_at)).rowcount == 1


def _select_grant(db: sqlite3.Connection, grant_id: str) -> Grant | None:
    row = db.execute(f"SELECT {GRANT_COLUMNS} FROM grants WHERE id = ?", (grant_id,)).fetchone()  # noqa: S608
    return None if row is None else _parse_grant(row)


def _parse_grant(row: tuple[object, ...]) -> Grant:
    grant_id, issuer, subject, *others = row
    return Grant(grant_id, Principal(issuer, subject), *others)  # type: ignore[arg-type]  # a STRICT table


def _insert_grant(db: sqlite3.Connection, grant: Grant) -> None:
    who = grant.principal
    db.execute(
        f"INSERT INTO grants ({GRANT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            *(grant.id, who.issuer, who.subject, grant.label, grant.client, grant.client_name, grant.redirect_uri),
            *(grant.scope, grant.resource, grant.created_at, grant.expires_at),
            *(grant.generation, grant.rotated_at, grant.last_used_at, grant.revoked_at),
        ),
    )
    db.execute(
        "REPLACE INTO consents VALUES (?, ?, ?, ?, ?, ?)",
        (who.key, grant.client, grant.redirect_uri, grant.scope, grant.created_at, grant.id),
    )


def _revoke(db: sqlite3.Connection, grant_id: str, now: float) -> bool:
    statement = "UPDATE grants SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
    return db.execute(statement, (now, grant_id)).rowcount == 1


def _apply(db: sqlite3.Connection, outcome: Redeemed | Rotated | Replayed | Gone, now: float) -> None:
    match outcome:
        case Redeemed(grant) | Rotated(grant, again=False):
            db.execute(
                "UPDATE grants SET expires_at = ?, generation = ?, rotated_at = ?, last_used_at = ? WHERE id = ?",
                (grant.expires_at, grant.generation, grant.rotated_at, grant.last_used_at, grant.id),
            )
        case Replayed(grant_id):
            _revoke(db, grant_id, now)
        case Rotated() | Gone():
            pass
        case _:
            assert_never(outcome)


@asynccontextmanager
async def open_sqlite_store(
    path: str,
    keys: KeyRing,
    *,
    clock: Callable[[], float] = time.time,
    issuer: str | None = None,
    file_system: FileSystem = file_system_of,
) -> AsyncIterator[Store]:
    """The store in the file `path`, created if absent; a file of the TypeScript predecessor is imported for `issuer`.

    Raises:
        StoreUnavailable: if the file cannot be used, saying why and what to do, for the operator. It is left as it was.
    """
    path, connection = await trio.to_thread.run_sync(
        partial(open_file, path, keys, issuer=issuer, file_system=file_system)
    )
    store = SqliteStore(connection, keys, path=path, clock=clock)
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):  # bounded: closing waits for no lock longer than BUSY_TIMEOUT
            await trio.to_thread.run_sync(_close, connection)


def open_file(
    path: str, keys: KeyRing, *, issuer: str | None, file_system: FileSystem = file_system_of
) -> tuple[str, sqlite3.Connection]:
    """The real path and a connection to a file of the current layout."""
    path = prepare_path(path, file_system=file_system)
    with sqlite_errors_of(path):
        connection = connect(path)
        try:
            with immediate(connection):
                kind = identify(connection)
            if kind is Kind.FOREIGN:
                raise StoreUnavailable(
                    f"storage: {path} is a database of another program; it was left as it is. Name another path."
                )
            keep_private(path)
            if kind is Kind.SEED:
                import_seed(connection, path, keys, issuer=issuer, migrations=load_migrations())
            migrate(connection, path, load_migrations())
            scrub(connection)
            use_write_ahead_log(connection, path)
            keep_private(path)
        except BaseException:
            connection.close()
            raise
    return path, connection


def _close(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA optimize")
    except sqlite3.Error:
        pass  # statistics only; a full disk must not hide why the block was left
    connection.close()
