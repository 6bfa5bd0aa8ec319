"""The word that processes leave in the store about the key they seal with: a text that only their keys open.

Two processes with different secrets would refuse each other's tokens, request
by request; here they meet. In the caller's transaction.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from dataclasses import dataclass

from ..errors import Unsealable
from ..protocol.sealing import KeyRing

NAME = "sealing_word"  # in the table meta
_ROW = ("meta", NAME, "value")


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody left, when, and whether the keys at hand open it."""

    at: float
    is_readable: bool


def read_word(db: sqlite3.Connection, keys: KeyRing) -> Word | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (NAME,)).fetchone()
    if row is None:
        return None
    try:
        left = json.loads(row[0])
        at, sealed = float(left["at"]), base64.b64decode(left["sealed"])
    except (ValueError, KeyError, TypeError):
        return None  # of another version, or written by hand: worth nothing
    try:
        keys.decrypt_column(sealed, row=_ROW)
    except Unsealable:
        return Word(at, False)
    return Word(at, True)


def write_word(db: sqlite3.Connection, keys: KeyRing, now: float) -> None:
    sealed = base64.b64encode(keys.encrypt_column("", row=_ROW)).decode()
    db.execute("REPLACE INTO meta VALUES (?, ?)", (NAME, json.dumps({"at": now, "sealed": sealed})))
