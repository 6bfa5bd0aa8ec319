"""A document of somebody else's that we keep: read by one task at a time, good until it ages, kept when reading fails.

This file knows neither HTTP nor what is in the document. Its time is trio's
monotonic clock, so a jump of the wall clock ages nothing.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from ...errors import IdentityProviderUnavailable

PATIENCE = 5.0  # seconds a request waits for a document that we do not have yet
PAUSE = 5.0  # seconds after a failed reading in which requests fail at once instead of trying again
REFETCH_INTERVAL = 30.0  # seconds between readings that a stranger's token can cause

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Reading:
    """One reading under way, and everybody who waits for it."""

    ended: trio.Event = field(default_factory=trio.Event)
    failure: str | None = "the reading was given up"


class KeptDocument(Generic[T]):
    """The last good reading of a document.

    `read` returns the value and the seconds it stays fresh. Readings run in `nursery`: a caller that is cancelled
    takes nobody else's reading with it.
    """

    def __init__(self, nursery: trio.Nursery, read: Callable[[], Awaitable[tuple[T, float]]]) -> None:
        self._nursery = nursery
        self._read = read
        self._value: T | None = None
        self._reading: _Reading | None = None
        self._failed_at = -math.inf
        self._refetched_at = -math.inf
        self._failure = "it has not been read yet"
        self.fresh_until = -math.inf

    @property
    def known(self) -> T | None:
        """The last good value, however old."""
        return self._value

    async def get(self) -> T:
        """The last good value; a first reading if there is none.

        Raises:
            IdentityProviderUnavailable: at once if a reading failed less than `PAUSE` ago, else within `PATIENCE`.
        """
        if self._value is not None:
            return self._value
        if trio.current_time() < self._failed_at + PAUSE:
            raise IdentityProviderUnavailable(self._failure)
        with trio.move_on_after(PATIENCE):
            return await self.refresh()
        raise IdentityProviderUnavailable(f"no answer within {PATIENCE:g} seconds")

    async def get_newer(self) -> T:
        """The value, read anew if that has not been asked for within `REFETCH_INTERVAL`; the old one if that fails.

        Raises:
            IdentityProviderUnavailable: only if there is no value at all.
        """
        now = trio.current_time()
        if self._value is None or (self._reading is None and now < self._refetched_at + REFETCH_INTERVAL):
            return await self.get()
        if self._reading is None:
            self._refetched_at = now
        try:
            with trio.move_on_after(PATIENCE):
                await self.refresh()
        except IdentityProviderUnavailable:
            pass
        return await self.get()

    async def refresh(self) -> T:
        """Read it anew, or wait for the reading that is under way.

        Raises:
            IdentityProviderUnavailable: if that reading fails; the last good value stays.
        """
        if self._reading is None:
            self._reading = _Reading()
            self._nursery.start_soon(self._keep_reading, self._reading)
        reading = self._reading
        await reading.ended.wait()
        if reading.failure is not None or self._value is None:
            raise IdentityProviderUnavailable(reading.failure or self._failure)
        return self._value

    def forget(self) -> None:
        """Drop the value: it came from a place that is no longer the right one."""
        self._value = None
        self.fresh_until = -math.inf

    async def _keep_reading(self, reading: _Reading) -> None:
        try:
            value, lifetime = await self._read()
            self._value, self.fresh_until = value, trio.current_time() + lifetime
            reading.failure = None
        except IdentityProviderUnavailable as exc:
            self._failure = reading.failure = str(exc)
            self._failed_at = trio.current_time()
        finally:
            self._reading = None
            reading.ended.set()
