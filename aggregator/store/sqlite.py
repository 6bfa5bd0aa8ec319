"""The store in one SQLite file, for the processes of one host.

`SqliteStore` owns one connection and uses it from one thread at a time. A call
that has its turn runs to the end even when its caller is cancelled, so that a
write is done or not done, never half. This file does not know how a file
becomes ours: see `sqlite_opening`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from ..errors import Unsealable
from ..protocol.principal import Principal
from ..protocol.sealing import KeyRing
from . import (
    WORD_LASTS,
    Connection,
    Gone,
    Grant,
    LoginToken,
    OldRow,
    Redeemed,
    Replayed,
    Rotated,
    Store,
    UpstreamRegistration,
)
from . import sqlite_connections as of_connections
from .columns import decrypt_login, encrypt_login
from .file_system import FileSystem, file_system_of
from .grants import KEPT_AFTER_THE_END, is_meant, redemption, rotation
from .mail import Mail
from .migrate import immediate
from .rekey import find_old_rows, reencrypt_row
from .sealing_word import read_word, write_word
from .session_rows import SessionChange, SessionRow
from .sqlite_file import sqlite_errors_of
from .sqlite_grants import (
    OF_CLIENT,
    OF_PERSON,
    apply_outcome,
    insert_grant,
    is_signed_out,
    is_spent,
    revoke,
    select_grant,
    select_live,
    sign_out,
    spend,
)
from .sqlite_opening import close_file, open_file
from .sqlite_traffic import change_session, insert_mail, select_mail, select_session

T = TypeVar("T")

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
        return await self._write(lambda db: spend(db, ticket, expires_at))

    async def is_consumed(self, ticket: str) -> bool:
        return await self._read(lambda db: is_spent(db, ticket))

    async def add_grant(self, grant: Grant) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            if is_signed_out(db, grant):
                return False
            insert_grant(db, grant)
            return True

        return await self._write(work)

    async def redeem(
        self, code: str, grant_id: str, *, now: float, expires_at: float, grant_until: float
    ) -> Redeemed | Replayed | Gone:
        def work(db: sqlite3.Connection) -> Redeemed | Replayed | Gone:
            first_use = spend(db, code, expires_at)
            grant = select_grant(db, grant_id)
            outcome = redemption(grant, grant_id, first_use=first_use, now=now, grant_until=grant_until)
            apply_outcome(db, outcome, now)
            return outcome

        return await self._write(work)

    async def rotate(self, grant_id: str, generation: int, *, now: float) -> Rotated | Replayed | Gone:
        def work(db: sqlite3.Connection) -> Rotated | Replayed | Gone:
            # Compare and swap: the transaction has the write lock, so nobody writes between the two.
            outcome = rotation(select_grant(db, grant_id), generation=generation, now=now)
            apply_outcome(db, outcome, now)
            return outcome

        return await self._write(work)

    async def find_grant(self, grant_id: str) -> Grant | None:
        return await self._read(lambda db: select_grant(db, grant_id))

    async def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        now, values = self._clock(), (principal.issuer, principal.subject)
        return tuple(await self._read(lambda db: select_live(db, now=now, where=OF_PERSON, values=values)))

    async def find_grants(self, name: str) -> tuple[Grant, ...]:
        now = self._clock()
        live = await self._read(lambda db: select_live(db, now=now))
        return tuple(grant for grant in live if is_meant(grant, name))

    async def last_login(self, principal: Principal) -> float | None:
        statement = f"SELECT max(logged_in_at) FROM grants WHERE {OF_PERSON}"  # noqa: S608  a constant
        values = (principal.issuer, principal.subject)
        return await self._read(lambda db: db.execute(statement, values).fetchone()[0])

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        return await self._write(lambda db: revoke(db, grant_id, now))

    async def sign_out_person(self, principal: Principal, *, now: float) -> tuple[Grant, ...]:
        values = (principal.issuer, principal.subject)
        work = partial(sign_out, kind="person", name=principal.key, now=now, where=OF_PERSON, values=values)
        return tuple(await self._write(work))

    async def sign_out_client(self, client: str, *, now: float) -> tuple[Grant, ...]:
        work = partial(sign_out, kind="client", name=client, now=now, where=OF_CLIENT, values=(client,))
        return tuple(await self._write(work))

    async def signed_out_at(self, principal: Principal) -> float | None:
        statement = "SELECT max(at) FROM sign_outs WHERE kind = 'person' AND name = ?"
        return await self._read(lambda db: db.execute(statement, (principal.key,)).fetchone()[0])

    async def revoked_since(self, since: float) -> frozenset[str]:
        def work(db: sqlite3.Connection) -> frozenset[str]:
            return frozenset(str(row[0]) for row in db.execute("SELECT id FROM grants WHERE revoked_at >= ?", (since,)))

        return await self._read(work)

    async def keep_login_token(
        self, login_id: str, refresh_token: str, *, next_check_at: float, kept_until: float
    ) -> None:
        row = (login_id, encrypt_login(self._keys, login_id, refresh_token), 0, next_check_at, kept_until)
        await self._write(lambda db: db.execute("REPLACE INTO login_tokens VALUES (?, ?, ?, ?, ?)", row))

    async def forget_login_token(self, login_id: str) -> bool:
        statement = "DELETE FROM login_tokens WHERE id = ?"
        return await self._write(lambda db: db.execute(statement, (login_id,)).rowcount > 0)

    async def take_login_check(self, grant_id: str, *, now: float, next_check_at: float) -> LoginToken | None:
        statement = (
            "UPDATE login_tokens SET next_check_at = ? WHERE id = ? AND next_check_at <= ? AND EXISTS"
            " (SELECT 1 FROM grants WHERE grants.id = login_tokens.id AND revoked_at IS NULL AND expires_at > ?)"
            " RETURNING refresh_token, generation"
        )
        row = await self._write(lambda db: db.execute(statement, (next_check_at, grant_id, now, now)).fetchone())
        if row is None:
            return None
        try:
            return LoginToken(grant_id, decrypt_login(self._keys, grant_id, row[0]), row[1])
        except Unsealable as exc:
            self._report_unreadable("identity provider's token of grant", grant_id, exc)
            return None

    async def renew_login_token(self, token: LoginToken, refresh_token: str) -> bool:
        sealed = encrypt_login(self._keys, token.id, refresh_token)
        statement = (
            "UPDATE login_tokens SET refresh_token = ?, generation = generation + 1 WHERE id = ? AND generation = ?"
        )
        return await self._write(lambda db: db.execute(statement, (sealed, token.id, token.generation)).rowcount > 0)

    async def end_login(self, token: LoginToken, *, now: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            statement = "SELECT 1 FROM login_tokens WHERE id = ? AND generation = ?"
            found = db.execute(statement, (token.id, token.generation)).fetchone()
            return found is not None and revoke(db, token.id, now)

        return await self._write(work)

    async def save_connection(self, connection: Connection) -> None:
        await self._write(lambda db: of_connections.insert_connection(db, self._keys, connection))

    async def find_connection(self, principal: Principal, upstream: str) -> Connection | None:
        row = await self._read(lambda db: of_connections.select_connection(db, principal, upstream))
        return self._opened(principal, row)

    async def connections_of(self, principal: Principal) -> tuple[Connection, ...]:
        rows = await self._read(lambda db: of_connections.select_connections(db, principal))
        return tuple([opened for row in rows if (opened := self._opened(principal, row)) is not None])

    async def take_refresh(self, connection: Connection, *, owner: str, now: float, until: float) -> Connection | None:
        row = await self._write(partial(of_connections.take_lease, held=connection, owner=owner, now=now, until=until))
        taken = self._opened(connection.principal, row)
        return taken if taken is not None and taken.state == "connected" else None

    async def renew_connection(
        self,
        connection: Connection,
        *,
        access_token: str,
        refresh_token: str | None,
        token_type: str,
        scope: str | None,
        issued_at: float,
        expires_at: float | None,
    ) -> bool:
        work = partial(
            of_connections.renew,
            keys=self._keys,
            held=connection,
            access_token=access_token,
            refresh_token=refresh_token,
            token_type=token_type,
            scope=scope,
            issued_at=issued_at,
            expires_at=expires_at,
        )
        return await self._write(work)

    async def postpone_refresh(self, connection: Connection, *, reason: str, next_try_at: float) -> bool:
        return await self._write(
            partial(of_connections.postpone, held=connection, reason=reason, next_try_at=next_try_at)
        )

    async def want_scope(self, connection: Connection, scope: str) -> bool:
        return await self._write(lambda db: of_connections.want_scope(db, connection, scope))

    async def note_use(self, connection: Connection, *, now: float) -> None:
        await self._write(lambda db: of_connections.note_use(db, connection, now=now))

    async def end_connection(self, connection: Connection, *, reason: str) -> bool:
        return await self._write(lambda db: of_connections.end(db, connection, reason=reason))

    async def forget_connection(self, principal: Principal, upstream: str) -> Connection | None:
        row = await self._write(lambda db: of_connections.delete_connection(db, principal, upstream))
        return self._opened(principal, row)

    async def save_registration(self, registration: UpstreamRegistration) -> None:
        await self._write(lambda db: of_connections.insert_registration(db, self._keys, registration))

    async def find_registration(self, upstream: str, issuer: str) -> UpstreamRegistration | None:
        row = await self._read(lambda db: of_connections.select_registration(db, upstream, issuer))
        if row is None:
            return None
        try:
            return of_connections.parse_registration(self._keys, row)
        except Unsealable as exc:
            self._report_unreadable(f"secret of our registration for {upstream} at", issuer, exc)
            return None

    async def forget_registration(self, upstream: str, issuer: str, client_id: str) -> bool:
        return await self._write(lambda db: of_connections.delete_registration(db, upstream, issuer, client_id))

    async def post_mail(self, to: str, body: str, *, now: float, expires_at: float) -> None:
        await self._write(lambda db: insert_mail(db, self._keys, to, body, now=now, expires_at=expires_at))

    async def mail_since(self, seq: int, to: Collection[str], *, now: float) -> tuple[Mail, ...]:
        return await self._read(lambda db: select_mail(db, self._keys, seq, to, now=now))

    async def find_session(self, session: str) -> SessionRow | None:
        return await self._read(lambda db: select_session(db, self._keys, session))

    async def change_session(
        self, session: str, owner: str, change: SessionChange, *, expires_at: float
    ) -> SessionRow | None:
        return await self._write(
            lambda db: change_session(db, self._keys, session, owner, change, expires_at=expires_at)
        )

    async def old_rows(self) -> tuple[OldRow, ...]:
        return await self._read(lambda db: find_old_rows(db, self._keys))

    async def reencrypt(self, row: OldRow) -> bool:
        return await self._write(lambda db: reencrypt_row(db, self._keys, row))

    async def announce_key(self, *, now: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            word = read_word(db, self._keys)
            if word is not None and not word.is_readable and abs(now - word.at) < WORD_LASTS:
                return False
            write_word(db, self._keys, now)
            return True

        return await self._write(work)

    async def purge(self, *, now: float) -> int:
        kept_from = now - KEPT_AFTER_THE_END
        live = "SELECT id FROM grants WHERE revoked_at IS NULL AND expires_at > ?"
        statements = (
            ("DELETE FROM spent WHERE expires_at <= ?", (now,)),
            ("DELETE FROM grants WHERE expires_at < ? OR revoked_at < ?", (kept_from, kept_from)),
            (f"DELETE FROM login_tokens WHERE kept_until <= ? AND id NOT IN ({live})", (now, now)),  # noqa: S608
            ("DELETE FROM sign_outs WHERE at < ?", (kept_from,)),
            ("DELETE FROM mail WHERE expires_at <= ?", (now,)),
            ("DELETE FROM client_sessions WHERE expires_at <= ?", (now,)),
        )

        def work(db: sqlite3.Connection) -> int:
            unused = of_connections.drop_unused(db, now=now)
            return unused + sum(db.execute(*statement).rowcount for statement in statements)

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

    def _opened(self, principal: Principal, row: of_connections.Row | None) -> Connection | None:
        if row is None:
            return None
        connection, trouble = of_connections.parse_connection(self._keys, principal, row)
        if trouble is not None:
            self._report_unreadable(f"token of {principal.key} at", connection.upstream, trouble)
        return connection

    def _report_unreadable(self, what: str, of: str, cause: Unsealable) -> None:
        if (what, of) not in self._unreadable:
            self._unreadable.add((what, of))
            log.warning("storage: the %s %s counts as absent: %s", what, of, cause)


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
            await trio.to_thread.run_sync(close_file, connection)
