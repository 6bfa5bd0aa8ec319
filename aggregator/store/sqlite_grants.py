"""The SQL of grants: rows to values, values to rows, inside the caller's transaction.

This file must not know when a transaction begins, nor what becomes of a grant:
that is decided in `grants`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import assert_never

from ..protocol.principal import Principal
from . import Gone, Grant, Redeemed, Replayed, Rotated

COLUMNS = (
    "id, issuer, subject, label, client, client_name, redirect_uri, scope, resource,"
    " created_at, expires_at, generation, rotated_at, last_used_at, revoked_at, logged_in_at"
)
OF_PERSON, OF_CLIENT = "issuer = ? AND subject = ?", "client = ?"
_SELECT = f"SELECT {COLUMNS} FROM grants"  # noqa: S608  a constant
_INSERT = f"INSERT INTO grants ({COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 1))})"  # noqa: S608


def spend(db: sqlite3.Connection, ticket: str, expires_at: float) -> bool:
    return db.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", (ticket, expires_at)).rowcount == 1


def is_spent(db: sqlite3.Connection, ticket: str) -> bool:
    return db.execute("SELECT 1 FROM spent WHERE ticket = ?", (ticket,)).fetchone() is not None


def select_grant(db: sqlite3.Connection, grant_id: str) -> Grant | None:
    row = db.execute(f"{_SELECT} WHERE id = ?", (grant_id,)).fetchone()
    return None if row is None else _parse(row)


def select_live(db: sqlite3.Connection, *, now: float, where: str = "TRUE", values: Sequence[str] = ()) -> list[Grant]:
    """The live grants, newest first; `where` is a constant of ours."""
    order = "ORDER BY created_at DESC, id"
    rows = db.execute(f"{_SELECT} WHERE {where} AND revoked_at IS NULL AND expires_at > ? {order}", (*values, now))
    return [_parse(row) for row in rows]


def _parse(row: tuple[object, ...]) -> Grant:
    grant_id, issuer, subject, *others = row
    return Grant(grant_id, Principal(issuer, subject), *others)  # type: ignore[arg-type]  # a STRICT table


def insert_grant(db: sqlite3.Connection, grant: Grant) -> None:
    who = grant.principal
    db.execute(
        _INSERT,
        (
            *(grant.id, who.issuer, who.subject, grant.label, grant.client, grant.client_name, grant.redirect_uri),
            *(grant.scope, grant.resource, grant.created_at, grant.expires_at),
            *(grant.generation, grant.rotated_at, grant.last_used_at, grant.revoked_at, grant.logged_in_at),
        ),
    )
    db.execute(
        "REPLACE INTO consents VALUES (?, ?, ?, ?, ?, ?)",
        (who.key, grant.client, grant.redirect_uri, grant.scope, grant.created_at, grant.id),
    )


def revoke(db: sqlite3.Connection, grant_id: str, now: float) -> bool:
    """End a grant, and forget what its login left us."""
    statement = "UPDATE grants SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
    if db.execute(statement, (now, grant_id)).rowcount == 0:
        return False
    db.execute("DELETE FROM login_tokens WHERE id = ?", (grant_id,))
    return True


def sign_out(
    db: sqlite3.Connection, kind: str, name: str, *, now: float, where: str, values: Sequence[str]
) -> list[Grant]:
    """Note that this person or client is signed out, and end the live grants that the constant `where` finds."""
    db.execute("REPLACE INTO sign_outs VALUES (?, ?, ?)", (kind, name, now))
    ended = select_live(db, now=now, where=where, values=values)
    for grant in ended:
        revoke(db, grant.id, now)
    return ended


def is_signed_out(db: sqlite3.Connection, grant: Grant) -> bool:
    """Whether the grant's login is older than a sign-out of its person or client."""
    statement = "SELECT 1 FROM sign_outs WHERE at >= ? AND (kind, name) IN (VALUES ('person', ?), ('client', ?))"
    return db.execute(statement, (grant.logged_in_at, grant.principal.key, grant.client)).fetchone() is not None


def apply_outcome(db: sqlite3.Connection, outcome: Redeemed | Rotated | Replayed | Gone, now: float) -> None:
    match outcome:
        case Redeemed(grant) | Rotated(grant, again=False):
            db.execute(
                "UPDATE grants SET expires_at = ?, generation = ?, rotated_at = ?, last_used_at = ? WHERE id = ?",
                (grant.expires_at, grant.generation, grant.rotated_at, grant.last_used_at, grant.id),
            )
        case Replayed(grant_id):
            revoke(db, grant_id, now)
        case Rotated() | Gone():
            pass
        case _:
            assert_never(outcome)
