"""The SQLite file before anything is asked of it: where it may be, who may read it, whose it is.

`open_file` returns a connection to a file of ours. A file of anyone else is
refused and left as it was. This file knows no table of the current layout.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from urllib.parse import quote

from ..errors import StoreUnavailable
from .file_system import FileSystem, is_network_file_system
from .migrate import APPLICATION_ID, version_of

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_TIMEOUT = 5.0  # seconds another process may hold the write lock before we give up
SIDE_FILES = ("-wal", "-shm", "-journal")

log = logging.getLogger(__name__)


class Kind(Enum):
    """Whose file it is."""

    EMPTY = auto()
    OURS = auto()
    SEED = auto()  # of the TypeScript predecessor
    FOREIGN = auto()


SEED_TABLES = {
    "upstream_tokens": {
        "user_id",
        "upstream_name",
        "access_token",
        "refresh_token",
        "token_type",
        "scope",
        "expires_at",
    },
    "upstream_registrations": {"upstream_name", "client_id", "client_secret", "registration_json"},
}


def prepare_path(path: str, *, file_system: FileSystem) -> str:
    """The real path of the file, which exists then, empty and 0600 if it is new.

    Raises:
        StoreUnavailable: if no SQLite file can or may be there.
    """
    if not path or path == ":memory:":
        raise StoreUnavailable(f"storage: '{path}' is not a path; write 'memory' for a store that forgets.")
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise StoreUnavailable(f"storage: there is no directory {directory}; create it (mode 0700).")
    kind = file_system(directory)
    if is_network_file_system(kind):
        raise StoreUnavailable(
            f"storage: {directory} is on a network file system ({kind}). SQLite's write-ahead log needs memory shared"
            " by all its processes, and is corrupted there. Use a local disk."
        )
    try:
        # Before SQLite can: it would create the file with the mode that the umask leaves, often 0644.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Not opened here: closing any descriptor of a file drops all locks that this process holds on it,
        # those of SQLite included (https://sqlite.org/howtocorrupt.html 2.2).
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StoreUnavailable(
                f"storage: {path} is not a file; name a file, such as {path}/store.sqlite."
            ) from None
    except OSError as exc:
        raise StoreUnavailable(f"storage: {path} cannot be created: {exc.strerror}.") from exc
    return path


def keep_private(path: str) -> None:
    """Take the file, and what SQLite keeps beside it, from everyone but its owner.

    Raises:
        StoreUnavailable: if it is not ours to change.
    """
    tightened = []
    for name in (path, *(path + suffix for suffix in SIDE_FILES)):
        try:
            mode = stat.S_IMODE(os.stat(name).st_mode)
            if mode & 0o077:
                os.chmod(name, mode & 0o700)
                tightened.append(f"{name} ({mode:04o})")
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StoreUnavailable(
                f"storage: {name} can be read by others and its mode cannot be changed ({exc.strerror});"
                " make this process's user its owner."
            ) from exc
    if tightened:
        log.warning("storage: others had access to %s; only the owner has now", ", ".join(tightened))


def connect(path: str) -> sqlite3.Connection:
    """A connection to an existing file, with what holds for each connection of ours."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreUnavailable(f"storage: this Python has SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed.")
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw",  # never creates: the file is there, with its mode
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,  # transactions are written out
        check_same_thread=False,  # one thread at a time, see SqliteStore
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        # NORMAL may lose the last commits in a power cut; a lost rotation is a lost login.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def use_write_ahead_log(connection: sqlite3.Connection, path: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(
            f"storage: {path} cannot use a write-ahead log (SQLite answers '{mode}'); use a local disk."
        )


def identify(connection: sqlite3.Connection) -> Kind:
    """Whose file this is. To be asked inside a transaction."""
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if application == APPLICATION_ID:
        return Kind.OURS
    if application != 0 or version_of(connection) != 0:
        return Kind.FOREIGN
    rows = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    things = {(str(kind), str(name)) for kind, name in rows}
    if not things:
        return Kind.EMPTY
    names = {name for _, name in things}
    if {kind for kind, _ in things} != {"table"} or "upstream_tokens" not in names or not names <= SEED_TABLES.keys():
        return Kind.FOREIGN
    return Kind.SEED if all(_columns(connection, name) == SEED_TABLES[name] for name in names) else Kind.FOREIGN


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


@contextmanager
def sqlite_errors_of(path: str) -> Iterator[None]:
    """sqlite3's errors as `StoreUnavailable`, with the file, the cause and what helps."""
    try:
        yield
    except sqlite3.Error as exc:
        name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
        raise StoreUnavailable(f"storage: {path}: {exc} ({name}). {_remedy(name)}") from exc


def _remedy(name: str) -> str:
    for prefix, remedy in _REMEDIES.items():
        if name.startswith(prefix):
            return remedy
    return "Nothing was changed."


_REMEDIES = {
    "SQLITE_FULL": "The disk is full: free some space. Nothing was changed.",
    "SQLITE_IOERR": "The disk fails or is full: look at the system's log.",
    "SQLITE_BUSY": "Another process holds the file for long; end it if it hangs. Nothing was changed.",
    "SQLITE_READONLY": "Make the file and its directory writable for this process's user.",
    "SQLITE_CANTOPEN": "Make the file and its directory writable for this process's user.",
    "SQLITE_NOTADB": "It was left as it is; name another path.",
    "SQLITE_CORRUPT": "Restore a copy of the file.",
}
