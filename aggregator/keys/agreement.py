"""Noticing that another process on the same store runs with another secret (a pod of a bad roll-out).

Each process leaves word in the store again and again, and looks whether it can
open the word that is there. This file must not know what the keys seal.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from ..errors import StoreUnavailable
from ..protocol.sealing import KeyRing
from ..store import WORD_LASTS, Store
from .deployment import describe

ANNOUNCE_INTERVAL = WORD_LASTS / 3

FOR_A_TEAM = (
    "secret: another instance on this store seals with a key that is not among ours, so this one is not ready; give all"
    " instances the same secret, see docs/operations.md"
)
FOR_ONE_PERSON = (
    "the key is not the one that what is kept was sealed with a moment ago, so logins that are kept cannot be opened;"
    " put the key back, or log in again: mcp-aggregator login"
)

log = logging.getLogger(__name__)


class KeyAgreement:
    """Whether every process that uses the store can open what the others seal, as far as is known. `complaint` is
    what the log says if not."""

    def __init__(self, store: Store, keys: KeyRing, clock: Callable[[], float], complaint: str = FOR_A_TEAM) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._complaint = complaint
        self.is_broken = False

    def __repr__(self) -> str:
        return f"<KeyAgreement {'broken' if self.is_broken else 'kept'}>"

    async def watch(self) -> None:
        """Leave word and look, until cancelled; says once when that shows another secret, and once when it is over."""
        while True:
            await trio.sleep(ANNOUNCE_INTERVAL)
            await self.announce()

    async def announce(self) -> None:
        """Do so once. A store that is away says nothing about keys."""
        try:
            agreed = await self._store.announce_key(now=self._clock())
        except StoreUnavailable:
            return
        if not agreed and not self.is_broken:
            log.error("%s (%s)", self._complaint, describe(self._keys))
        elif agreed and self.is_broken:
            log.warning("secret: no other instance on this store seals with another key any more; ready")
        self.is_broken = not agreed


@asynccontextmanager
async def open_key_agreement(
    store: Store, keys: KeyRing, *, clock: Callable[[], float], complaint: str = FOR_A_TEAM
) -> AsyncIterator[KeyAgreement]:
    """The agreement, looked at once and then watched.

    Our word stays when the block is left: taken back, it would let a process with another secret speak for the rest.
    """
    agreement = KeyAgreement(store, keys, clock, complaint)
    await agreement.announce()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agreement.watch)
        yield agreement
        nursery.cancel_scope.cancel("key agreement closed")
