"""Which grants are revoked, as far as this process knows: what makes a sealed access token end early.

A revocation made here counts at once, one made by another process within
`POLL_INTERVAL` seconds. This file must not know tokens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from ...errors import Refusal, StoreUnavailable
from ...store import Store

PROMISED_WITHIN = 10.0  # seconds from a revocation to the refusal of its access tokens, by every process
POLL_INTERVAL = 5.0  # seconds; the rest of the promise is for a store that is slow
BLIND_AFTER = 60.0  # seconds without an answer of the store, after which nobody is let in on old knowledge
CLOCK_SLACK = 120.0  # seconds by which the clocks of two processes may differ

log = logging.getLogger(__name__)


class Revocations:
    """The revoked grants whose access tokens could still be alive.

    `read` has to be done once before anybody is let in: what another process, or
    the one before us, revoked must not live again. `watch` keeps it up to date and
    must run; it is the caller's task. `clock` is wall time, as in the store;
    `monotonic` measures how old the knowledge is, so that a corrected wall clock
    locks nobody out.
    """

    def __init__(
        self,
        access_lifetime: float,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._horizon = access_lifetime + CLOCK_SLACK
        self._clock = clock
        self._monotonic = monotonic
        self._seen_at = monotonic()
        self._polled: frozenset[str] = frozenset()
        self._own: dict[str, float] = {}
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Revocations {len(self._polled)} polled, {len(self._own)} own, {self._age():.0f} s old>"

    def __contains__(self, grant_id: str) -> bool:
        return grant_id in self._polled or grant_id in self._own

    def add(self, grant_id: str) -> None:
        """Count `grant_id` as revoked from now on, whatever the next polls say."""
        self._own[grant_id] = self._clock()
        self._tell()

    async def wait_for(self, grant_id: str) -> None:
        """Return as soon as `grant_id` counts as revoked here."""
        while grant_id not in self:
            await self._news.wait()

    def require_fresh(self) -> None:
        """Return if what is known is recent enough to let somebody in.

        Raises:
            Refusal: 503 with ``Retry-After`` when the store has been silent for too long.
        """
        if self._age() > BLIND_AFTER:
            raise Refusal(
                503,
                "temporarily_unavailable",
                "The server cannot reach its store and so cannot tell whether the token was revoked; try again soon.",
                headers=(("retry-after", "5"),),
            )

    async def read(self, store: Store) -> None:
        """Ask `store` once.

        Raises:
            StoreUnavailable: then what was known before stays.
        """
        self._learn(await store.revoked_since(self._clock() - self._horizon))

    async def watch(self, store: Store) -> None:
        """Ask `store` again and again, until cancelled. An unavailable store is asked again."""
        silent = False
        while True:
            try:
                await self.read(store)
            except StoreUnavailable as exc:
                if not silent:
                    log.warning("revocations cannot be read: %s; tokens are accepted for %.0f s more", exc, BLIND_AFTER)
                silent = True
            else:
                if silent:
                    log.info("revocations can be read again")
                silent = False
            await trio.sleep(POLL_INTERVAL)

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _learn(self, polled: frozenset[str]) -> None:
        since = self._clock() - self._horizon
        is_news = not polled <= self._polled
        self._polled = polled
        self._own = {grant_id: at for grant_id, at in self._own.items() if at > since}
        self._seen_at = self._monotonic()
        if is_news:
            self._tell()

    def _age(self) -> float:
        return self._monotonic() - self._seen_at
