"""Which rows still need an older key, and giving them the sealing one. In the caller's transaction.

A key may leave the ring when no row needs it. This file knows every encrypted
column by `columns.ENCRYPTED` and nothing of what stands in them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ..errors import Unsealable
from ..protocol.sealing import KeyRing, column_key_id
from . import OldRow
from .columns import ENCRYPTED, EncryptedTable

_TABLES = {table.name: table for table in ENCRYPTED}


def find_old_rows(db: sqlite3.Connection, keys: KeyRing) -> tuple[OldRow, ...]:
    """Every row with a column that another key than the sealing one encrypted, in the order of tables and keys."""
    return tuple(row for table in ENCRYPTED for row in _old_rows_of(db, table, keys))


def reencrypt_row(db: sqlite3.Connection, keys: KeyRing, row: OldRow) -> bool:
    """Encrypt `row` as it stands now. False if it is gone, or does not open with the keys at hand."""
    table = _TABLES[row.table]
    found = db.execute(f"{_select(table)} WHERE {_is_key(table)}", row.key).fetchone()
    if found is None:
        return False
    bound, blobs = _parted(table, found)
    texts = _open(table, keys, row.key, bound, blobs)
    if texts is None:
        return False
    changed = [
        None if text is None else keys.encrypt_column(text, row=table.row(row.key, bound, column))
        for column, text in zip(table.columns, texts, strict=True)
    ]
    setting = ", ".join(f"{column} = ?" for column in table.columns)
    db.execute(f"UPDATE {table.name} SET {setting} WHERE {_is_key(table)}", (*changed, *row.key))  # noqa: S608
    return True


def _old_rows_of(db: sqlite3.Connection, table: EncryptedTable, keys: KeyRing) -> Iterator[OldRow]:
    current = keys.key_ids[0]
    for found in db.execute(f"{_select(table)} ORDER BY {', '.join(table.key)}"):
        key = found[: len(table.key)]
        bound, blobs = _parted(table, found)
        needed = {column_key_id(blob) for blob in blobs if blob is not None}
        if not needed <= {current}:  # a row may hold nothing encrypted
            yield OldRow(table.name, key, tuple(sorted(needed)), _open(table, keys, key, bound, blobs) is not None)


def _open(
    table: EncryptedTable, keys: KeyRing, key: tuple[str, ...], bound: tuple[str, ...], blobs: tuple[bytes | None, ...]
) -> list[str | None] | None:
    """The texts of the row's columns; None if one does not open."""
    try:
        return [
            None if blob is None else keys.decrypt_column(blob, row=table.row(key, bound, column))
            for column, blob in zip(table.columns, blobs, strict=True)
        ]
    except Unsealable:
        return None


def _select(table: EncryptedTable) -> str:
    columns = ", ".join((*table.key, *table.bound, *table.columns))
    return f"SELECT {columns} FROM {table.name}"  # noqa: S608  constants of ours


def _parted(table: EncryptedTable, found: tuple[Any, ...]) -> tuple[tuple[str, ...], tuple[bytes | None, ...]]:
    """What a selected row is bound to besides its key, and its encrypted columns."""
    begin = len(table.key)
    end = begin + len(table.bound)
    return found[begin:end], found[end:]


def _is_key(table: EncryptedTable) -> str:
    return " AND ".join(f"{column} = ?" for column in table.key)
