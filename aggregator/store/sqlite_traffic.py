"""The SQL of mail and of session rows: rows to values, values to rows, inside the caller's transaction.

This file must not know when a transaction begins, nor what a change of a session
does: that is decided in `session_rows`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection

from ..errors import Unsealable
from ..protocol.sealing import KeyRing
from .columns import decrypt_mail, decrypt_session, encrypt_mail, encrypt_session
from .mail import AT_A_TIME, Mail
from .session_rows import MAX_ROWS, SessionChange, SessionRow, changed

_DROP_OLDEST = (
    "DELETE FROM client_sessions WHERE id IN"
    " (SELECT id FROM client_sessions WHERE owner = ? ORDER BY expires_at DESC, id DESC LIMIT -1 OFFSET ?)"
)


def insert_mail(db: sqlite3.Connection, keys: KeyRing, to: str, body: str, *, now: float, expires_at: float) -> None:
    id = secrets.token_hex(16)
    sealed = encrypt_mail(keys, id, to, expires_at, body)
    db.execute("DELETE FROM mail WHERE expires_at <= ?", (now,))
    db.execute("INSERT INTO mail (id, recipient, body, expires_at) VALUES (?, ?, ?, ?)", (id, to, sealed, expires_at))


def select_mail(
    db: sqlite3.Connection, keys: KeyRing, seq: int, to: Collection[str], *, now: float
) -> tuple[Mail, ...]:
    places = ", ".join("?" * len(to))
    statement = (
        f"SELECT seq, id, recipient, body, expires_at FROM mail WHERE recipient IN ({places}) AND seq > ?"  # noqa: S608
        " AND expires_at > ? ORDER BY seq LIMIT ?"
    )
    found = []
    for number, id, recipient, sealed, expires_at in db.execute(statement, (*to, seq, now, AT_A_TIME)):
        try:
            body = decrypt_mail(keys, id, recipient, expires_at, sealed)
        except Unsealable:
            body = None
        found.append(Mail(number, recipient, body))
    return tuple(found)


def select_session(db: sqlite3.Connection, keys: KeyRing, session: str) -> SessionRow | None:
    row = db.execute("SELECT content FROM client_sessions WHERE id = ?", (session,)).fetchone()
    if row is None:
        return None
    try:
        content = json.loads(decrypt_session(keys, session, row[0]))
    except Unsealable:
        return None
    return SessionRow(content["level"], frozenset(content["subscriptions"]), content["over"])


def change_session(
    db: sqlite3.Connection, keys: KeyRing, session: str, owner: str, change: SessionChange, *, expires_at: float
) -> SessionRow | None:
    row = changed(select_session(db, keys, session) or SessionRow(), change)
    if row is None:
        return None
    content = {"level": row.level, "subscriptions": sorted(row.subscriptions), "over": row.is_over}
    sealed = encrypt_session(keys, session, json.dumps(content))
    db.execute("REPLACE INTO client_sessions VALUES (?, ?, ?, ?)", (session, owner, sealed, expires_at))
    db.execute(_DROP_OLDEST, (owner, MAX_ROWS))
    return row
