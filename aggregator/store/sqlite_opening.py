"""A file becomes ours: made, imported or migrated, in an order in which a crash does no harm."""

from __future__ import annotations

import sqlite3

from ..errors import StoreUnavailable
from ..protocol.sealing import KeyRing
from .file_system import FileSystem, file_system_of
from .migrate import immediate, load_migrations, migrate
from .seed import import_seed, scrub
from .sqlite_file import Kind, connect, identify, keep_private, prepare_path, sqlite_errors_of, use_write_ahead_log


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


def close_file(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA optimize")
    except sqlite3.Error:
        pass  # statistics only; a full disk must not hide why the block was left
    connection.close()
