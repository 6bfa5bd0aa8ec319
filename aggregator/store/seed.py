"""The TypeScript predecessor's file becomes ours: same path, same people, nothing in plain text.

Its tables hold tokens in clear, in a file that everyone on the host may read.
The import is one transaction, so that a crash leaves either the predecessor's
file or ours. What SQLite keeps of dropped rows goes with `scrub`, which is owed
until it is done.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing

from ..errors import StoreUnavailable
from ..protocol.principal import principal_of
from ..protocol.sealing import KeyRing
from . import Connection
from .migrate import immediate, take_step
from .sqlite_connections import insert_connection
from .sqlite_file import Kind, connect, identify

log = logging.getLogger(__name__)

BACKUP_SUFFIX = ".seed-backup"
SCRUB_OWED = "scrub"


def import_seed(
    connection: sqlite3.Connection, path: str, keys: KeyRing, *, issuer: str | None, migrations: Sequence[str]
) -> None:
    """Turn the predecessor's file into ours; a backup is written first. `scrub` is owed afterwards.

    Does nothing if another process has done it in the meantime.

    Raises:
        StoreUnavailable: without an `issuer` whose people these are (and a lasting key), or if a backup is there.
    """
    if issuer is None:
        raise StoreUnavailable(
            f"storage: {path} is a file of the TypeScript mcp-aggregator. To import it, auth.issuer must name the"
            " identity provider its users logged in with, and a fixed secret ('mcp-aggregator secret new') must encrypt"
            " their tokens: a random one would lose them at the next start. Set both, or name another path."
        )
    backup = path + BACKUP_SUFFIX
    with ExitStack() as undo:
        with immediate(connection):
            if identify(connection) is not Kind.SEED:
                return
            _create_backup(path, backup)
            undo.callback(os.unlink, backup)  # until the commit the file itself is still the predecessor's
            _write_backup(path, backup)
            tokens = _move_rows(connection, keys, issuer, migrations)
        undo.pop_all()
    log.warning(
        "storage: imported %s of the TypeScript mcp-aggregator: %d tokens, of people of %s, are encrypted now. It did"
        " not note who issued them, so they are not refreshed: each account is connected again when its token ends."
        " The file as it was is %s, IN PLAIN TEXT: delete it as soon as the logins work",
        path,
        tokens,
        issuer,
        backup,
    )


def scrub(connection: sqlite3.Connection) -> None:
    """Rewrite the file so that no byte of dropped rows stays in it, if that is still owed.

    The import's own transaction notes the debt: a crash in between is made up for at the next start.
    """
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (SCRUB_OWED,)).fetchone() is None:
        return
    connection.execute("VACUUM")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if not busy:
        connection.execute("DELETE FROM meta WHERE name = ?", (SCRUB_OWED,))


def _create_backup(path: str, backup: str) -> None:
    try:
        os.close(os.open(backup, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise StoreUnavailable(
            f"storage: {path} is a file of the TypeScript mcp-aggregator, and its backup {backup} exists already,"
            " from an import that did not finish or from an older file. Move the backup away and start again."
        ) from None
    except OSError as exc:
        raise StoreUnavailable(f"storage: the backup {backup} cannot be created: {exc.strerror}.") from exc


def _write_backup(path: str, backup: str) -> None:
    # A second reader: the connection that holds the write lock would wait for itself as the source.
    with closing(connect(path)) as source, closing(connect(backup)) as target:
        source.backup(target)
    _sync_directory(os.path.dirname(backup))


def _move_rows(connection: sqlite3.Connection, keys: KeyRing, issuer: str, migrations: Sequence[str]) -> int:
    old = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.execute("ALTER TABLE upstream_tokens RENAME TO seed_tokens")  # ours has the same name
    for number, sql in enumerate(migrations, start=1):
        take_step(connection, number, sql)
    rows = connection.execute(
        "SELECT user_id, upstream_name, access_token, token_type, scope, expires_at FROM seed_tokens"
    ).fetchall()
    usable = [row for row in rows if isinstance(row[2], str) and row[2].isascii() and row[2].isprintable()]
    for user, upstream, access_token, token_type, scope, expires_at in usable:  # nothing else can stand in a header
        moved = Connection(
            principal_of(issuer, str(user)),
            upstream,
            secrets.token_hex(16),
            access_token,
            None,  # the predecessor did not note who issued it, and a refresh token is shown to its issuer alone
            token_type=token_type,
            scope=scope,
            expires_at=float(expires_at) if isinstance(expires_at, (int, float)) else None,
        )
        insert_connection(connection, keys, moved)
    connection.execute("DROP TABLE seed_tokens")
    if "upstream_registrations" in old:  # nor at which authorization server it registered
        connection.execute("DROP TABLE upstream_registrations")
    connection.execute("INSERT INTO meta VALUES (?, 'owed')", (SCRUB_OWED,))
    return len(usable)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
