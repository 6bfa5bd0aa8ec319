"""Which store a configuration means. Knows both stores by name and nothing of either."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from ..errors import StoreUnavailable
from ..protocol.sealing import KeyRing
from . import Store
from .memory import open_memory_store


def open_store(
    storage: str, keys: KeyRing, *, issuer: str | None, clock: Callable[[], float] = time.time
) -> AbstractAsyncContextManager[Store]:
    """The store that the key ``storage`` names: ``memory``, or the path of a SQLite file.

    `issuer` is the identity provider whose people the TypeScript predecessor's file holds, if the path is one.

    Raises:
        StoreUnavailable: here for a store of a later version; on entering the block if the file cannot be used.
    """
    if storage == "memory":
        return open_memory_store(clock=clock)
    if "://" in storage:
        scheme = storage.partition("://")[0]  # never the rest: it may hold a password
        raise StoreUnavailable(
            f"storage: '{scheme}://' stores are not supported yet; use 'memory' or the path of a SQLite file."
        )
    from .sqlite import open_sqlite_store  # sqlite3 costs 4 ms and is not needed for memory

    return open_sqlite_store(storage, keys, clock=clock, issuer=issuer)
