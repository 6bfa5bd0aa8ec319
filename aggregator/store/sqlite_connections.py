"""The SQL of connections and registrations: rows to values, values to rows, inside the caller's transaction.

Each change of a connection is one statement that finds its row by id and
generation: compare and swap. This file must not know when a transaction begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ..errors import Unsealable
from ..protocol.principal import Principal
from ..protocol.sealing import KeyRing
from . import UNREADABLE, UNUSED_FOR, Connection, UpstreamRegistration
from .columns import connection_row, decrypt_secret, decrypt_tokens, encrypt_secret, encrypt_tokens

Row = tuple[Any, ...]

_TOKENS = "access_token, refresh_token"
_REST = (
    "upstream, id, token_type, scope, expires_at, issuer, client_id, resource, account, connected_at, issued_at,"
    " generation, state, reason, wanted_scope, failures, next_try_at, lease_owner, lease_until, used_at"
)
_NAMES = tuple(_REST.split(", "))
_SELECT = f"SELECT {_TOKENS}, {_REST} FROM connections"  # noqa: S608  constants, as below
_PLACES = ", ".join("?" * (len(_NAMES) + 3))
_INSERT = f"REPLACE INTO connections (user_key, {_TOKENS}, {_REST}) VALUES ({_PLACES})"  # noqa: S608
_IS_ROW = "user_key = ? AND upstream = ?"
_IS_CURRENT = f"{_IS_ROW} AND id = ? AND generation = ? AND state = 'connected'"
_NO_LEASE = "lease_owner = NULL, lease_until = NULL"

_TAKE = (
    f"UPDATE connections SET lease_owner = ?, lease_until = ? WHERE {_IS_CURRENT}"  # noqa: S608
    " AND (lease_until IS NULL OR lease_until <= ? OR lease_owner = ?) AND (next_try_at IS NULL OR next_try_at <= ?)"
    f" RETURNING {_TOKENS}, {_REST}"
)
_RENEW = (
    "UPDATE connections SET access_token = ?, refresh_token = coalesce(?, refresh_token), token_type = ?,"  # noqa: S608
    " scope = coalesce(?, scope), issued_at = ?, expires_at = ?, generation = generation + 1, reason = NULL,"
    f" failures = 0, next_try_at = NULL, {_NO_LEASE} WHERE {_IS_CURRENT}"
)
_POSTPONE = (
    f"UPDATE connections SET reason = ?, failures = failures + 1, next_try_at = ?, {_NO_LEASE}"  # noqa: S608
    f" WHERE {_IS_CURRENT} AND lease_owner IS ?"
)
_END = (
    "UPDATE connections SET state = 'needs_login', access_token = NULL, refresh_token = NULL, reason = ?,"  # noqa: S608
    f" failures = 0, next_try_at = NULL, {_NO_LEASE} WHERE {_IS_CURRENT} AND lease_owner IS ?"
)


def insert_connection(db: sqlite3.Connection, keys: KeyRing, connection: Connection) -> None:
    who, where = connection.principal.key, _where(connection)
    sealed = encrypt_tokens(keys, where, connection.access_token, connection.refresh_token)
    db.execute(_INSERT, (who, *sealed, *(getattr(connection, name) for name in _NAMES)))


def select_connection(db: sqlite3.Connection, principal: Principal, upstream: str) -> Row | None:
    return _one(db.execute(f"{_SELECT} WHERE {_IS_ROW}", (principal.key, upstream)))


def select_connections(db: sqlite3.Connection, principal: Principal) -> list[Row]:
    return db.execute(f"{_SELECT} WHERE user_key = ? ORDER BY upstream", (principal.key,)).fetchall()


def take_lease(db: sqlite3.Connection, held: Connection, *, owner: str, now: float, until: float) -> Row | None:
    return _one(db.execute(_TAKE, (owner, until, *_current(held), now, owner, now)))


def renew(
    db: sqlite3.Connection,
    keys: KeyRing,
    held: Connection,
    *,
    access_token: str,
    refresh_token: str | None,
    token_type: str,
    scope: str | None,
    issued_at: float,
    expires_at: float | None,
) -> bool:
    sealed = encrypt_tokens(keys, _where(held), access_token, refresh_token)
    return db.execute(_RENEW, (*sealed, token_type, scope, issued_at, expires_at, *_current(held))).rowcount > 0


def postpone(db: sqlite3.Connection, held: Connection, *, reason: str, next_try_at: float) -> bool:
    return db.execute(_POSTPONE, (reason, next_try_at, *_current(held), held.lease_owner)).rowcount > 0


def want_scope(db: sqlite3.Connection, held: Connection, scope: str) -> bool:
    statement = f"UPDATE connections SET wanted_scope = ? WHERE {_IS_ROW} AND id = ?"  # noqa: S608
    return db.execute(statement, (scope, held.principal.key, held.upstream, held.id)).rowcount > 0


def note_use(db: sqlite3.Connection, held: Connection, *, now: float) -> None:
    statement = f"UPDATE connections SET used_at = ? WHERE {_IS_ROW} AND id = ?"  # noqa: S608
    db.execute(statement, (now, held.principal.key, held.upstream, held.id))


def drop_unused(db: sqlite3.Connection, *, now: float) -> int:
    db.execute("UPDATE connections SET used_at = ? WHERE used_at IS NULL", (now,))
    return db.execute("DELETE FROM connections WHERE used_at <= ?", (now - UNUSED_FOR,)).rowcount


def end(db: sqlite3.Connection, held: Connection, *, reason: str) -> bool:
    return db.execute(_END, (reason, *_current(held), held.lease_owner)).rowcount > 0


def delete_connection(db: sqlite3.Connection, principal: Principal, upstream: str) -> Row | None:
    statement = f"DELETE FROM connections WHERE {_IS_ROW} RETURNING {_TOKENS}, {_REST}"  # noqa: S608
    return _one(db.execute(statement, (principal.key, upstream)))


def parse_connection(keys: KeyRing, principal: Principal, row: Row) -> tuple[Connection, Unsealable | None]:
    """The row's connection, and what kept its tokens from being opened: then it says ``needs_login``."""
    rest: dict[str, Any] = dict(zip(_NAMES, row[2:], strict=True))
    where = connection_row(principal.key, rest["upstream"], rest["issuer"])
    try:
        access, refresh = decrypt_tokens(keys, where, row[0], row[1])
    except Unsealable as exc:
        rest.update(state="needs_login", reason=UNREADABLE)
        return Connection(principal, access_token=None, refresh_token=None, **rest), exc
    return Connection(principal, access_token=access, refresh_token=refresh, **rest), None


def insert_registration(db: sqlite3.Connection, keys: KeyRing, made: UpstreamRegistration) -> None:
    db.execute(
        "REPLACE INTO registrations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(made.upstream, made.issuer, made.client_id),
            encrypt_secret(keys, made.upstream, made.issuer, made.client_secret),
            *(made.auth_method, made.redirect_uri, made.scope, made.expires_at),
        ),
    )


def select_registration(db: sqlite3.Connection, upstream: str, issuer: str) -> Row | None:
    return _one(db.execute("SELECT * FROM registrations WHERE upstream = ? AND issuer = ?", (upstream, issuer)))


def parse_registration(keys: KeyRing, row: Row) -> UpstreamRegistration:
    """Raises:
    Unsealable: if the secret does not open.
    """
    upstream, issuer, client_id, secret, *rest = row
    return UpstreamRegistration(upstream, issuer, client_id, decrypt_secret(keys, upstream, issuer, secret), *rest)


def delete_registration(db: sqlite3.Connection, upstream: str, issuer: str, client_id: str) -> bool:
    statement = "DELETE FROM registrations WHERE upstream = ? AND issuer = ? AND client_id = ?"
    return db.execute(statement, (upstream, issuer, client_id)).rowcount > 0


def _current(held: Connection) -> Sequence[str | int]:
    return (held.principal.key, held.upstream, held.id, held.generation)


def _where(connection: Connection) -> tuple[str, ...]:
    return connection_row(connection.principal.key, connection.upstream, connection.issuer)


def _one(found: sqlite3.Cursor) -> Row | None:
    rows: list[Row] = found.fetchall()  # to the end: a statement that writes and returns is not done before
    return rows[0] if rows else None
