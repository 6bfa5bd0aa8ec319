"""What each upstream offers: fetched once for everybody who asks, refreshed behind their backs, kept when it is lost.

Nobody waits twice for an upstream that does not answer: whoever asks first, or
first after a listing has aged, waits at most its `discoveryTimeout`; from then on
a list answers at once with the last good listing, or without the upstream, while
a task of the app's nursery tries again until it succeeds. All upstreams here are
the same for everyone (no credentials are sent), so one listing serves all; it
carries no person's data.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ..config.model import Upstream
from ..errors import UpstreamLost, UpstreamRefused
from ..protocol.catalog import Catalog, Source, build_catalog
from ..protocol.jsonrpc import Json
from ..protocol.names import may_publish
from .http import HttpUpstream

DEFAULT_TTL = 60.0  # seconds, where the upstream names none
SHORTEST_TTL = 5.0  # seconds; `ttlMs: 0` must not make every list a fetch
LONGEST_TTL = 3600.0
FIRST_RETRY, LAST_RETRY = 2.0, 120.0  # seconds between attempts at an upstream that fails

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """One row of `gateway__status`."""

    name: str
    state: str  # "connected", "unreachable", "needs_login", "connecting"
    tools: int
    revision: str | None
    latency: float | None
    error: str | None
    stale: bool
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    config: Upstream
    upstream: HttpUpstream
    source: Source | None = None
    fresh_until: float = -1.0
    asked_at: float = -math.inf
    failures: int = 0
    retry_at: float = -1.0
    error: str | None = None
    needs_login: bool = False
    latency: float | None = None
    tended: bool = False  # a task tries to list it, or waits to try again
    running: trio.Event | None = field(default=None, repr=False)  # an attempt is under way; set at its end


class Listings:
    """The listings of all enabled upstreams. Its tasks run in `nursery`; nothing starts before the first question."""

    def __init__(
        self,
        upstreams: Iterable[tuple[Upstream, HttpUpstream]],
        nursery: trio.Nursery,
        *,
        name_length: int,
        ours: tuple[Json, ...],
    ) -> None:
        self._entries = {config.name: _Entry(config, upstream) for config, upstream in upstreams}
        self._nursery = nursery
        self._name_length = name_length
        self._ours = ours
        self._catalog: Catalog | None = None

    def __repr__(self) -> str:
        listed = sum(entry.source is not None for entry in self._entries.values())
        return f"<Listings {listed} of {len(self._entries)} upstreams>"

    def warm(self) -> None:
        """Begin to list everything, so that the first asker finds it done."""
        for entry in self._entries.values():
            self._refresh_if_due(entry)

    def catalog_at_hand(self) -> Catalog | None:
        """Everything that is known now; None while there is something to wait for. Begins what is due."""
        for entry in self._entries.values():
            self._refresh_if_due(entry)
        return None if any(_is_awaited(entry) for entry in self._entries.values()) else self._merged()

    async def catalog(self) -> Catalog:
        """Everything that can be known now; waits for upstreams whose listing is missing or old, see `_is_awaited`."""
        while (catalog := self.catalog_at_hand()) is None:
            for entry in self._entries.values():
                if _is_awaited(entry) and entry.running is not None:
                    await entry.running.wait()
        return catalog

    async def catalog_for(self, name: str) -> Catalog:
        """A catalog good enough to locate the published `name`.

        Waits for upstreams that could have published it and were never listed, in the order of configuration: a
        name's first owner keeps it. An unknown name has them listed anew, at most every `SHORTEST_TTL` seconds,
        since a tool may have come since.
        """
        if name in (catalog := self._merged()).routes:
            for entry in self._entries.values():
                self._refresh_if_due(entry)
            return catalog
        candidates = [entry for entry in self._entries.values() if may_publish(entry.config.prefix, name)]
        for entry in candidates:
            if not entry.tended and entry.asked_at + SHORTEST_TTL <= trio.current_time():
                self._refresh(entry)
        for entry in candidates:
            if entry.running is not None and entry.failures == 0:
                await entry.running.wait()
            if name in (catalog := self._merged()).routes:
                break
        return catalog

    def absent(self, name: str) -> tuple[Upstream, str] | None:
        """The upstream that probably publishes `name` but could never be listed, and the reason; None if there is none.

        One without a prefix could publish anything, so it comes last.
        """
        candidates = [
            (entry.config, entry.error)
            for entry in self._entries.values()
            if entry.source is None and entry.error is not None and may_publish(entry.config.prefix, name)
        ]
        return min(candidates, key=lambda candidate: not candidate[0].prefix, default=None)

    def doubt(self, name: str) -> None:
        """What is known of this upstream's tools is out of date: list them anew, behind everybody's back."""
        entry = self._entries[name]
        if not entry.tended and entry.asked_at + SHORTEST_TTL <= trio.current_time():
            self._refresh(entry)

    def time_to_live(self) -> float:
        """Seconds for which a list made now will do."""
        now = trio.current_time()
        lives = [
            max(SHORTEST_TTL, entry.fresh_until - now) if entry.source is not None else SHORTEST_TTL
            for entry in self._entries.values()
        ]
        return min(lives, default=DEFAULT_TTL)

    def status(self) -> tuple[UpstreamStatus, ...]:
        catalog = self._merged()
        return tuple(self._status(entry, catalog) for entry in self._entries.values())

    def upstreams(self) -> Mapping[str, tuple[Upstream, HttpUpstream]]:
        return {name: (entry.config, entry.upstream) for name, entry in self._entries.items()}

    def _status(self, entry: _Entry, catalog: Catalog) -> UpstreamStatus:
        if entry.needs_login:
            state = "needs_login"
        elif entry.error is not None:
            state = "unreachable"
        else:
            state = "connected" if entry.source is not None else "connecting"
        peer = entry.upstream.peer
        return UpstreamStatus(
            entry.config.name,
            state,
            catalog.counts.get(entry.config.name, 0),
            peer.revision if peer else None,
            entry.latency,
            entry.error,
            entry.source is not None and entry.error is not None,
            catalog.left_out.get(entry.config.name, ()),
        )

    def _merged(self) -> Catalog:
        if self._catalog is None:
            sources = [
                entry.source or Source(name, entry.config.prefix, name, (), listed=False)
                for name, entry in self._entries.items()
            ]
            self._catalog = build_catalog(sources, name_length=self._name_length, ours=self._ours)
        return self._catalog

    def _refresh_if_due(self, entry: _Entry) -> None:
        if not entry.tended and entry.fresh_until <= trio.current_time():
            self._refresh(entry)

    def _refresh(self, entry: _Entry) -> None:
        entry.tended = True
        entry.running = trio.Event()  # at once, so that whoever began it can wait for it
        self._nursery.start_soon(self._tend, entry)

    async def _tend(self, entry: _Entry) -> None:
        """List the upstream, again and again until it answers; alone in changing `entry`, and between awaits."""
        try:
            while True:
                done = entry.running = entry.running if entry.running is not None else trio.Event()
                entry.asked_at = trio.current_time()
                try:
                    await self._attempt(entry)
                finally:
                    entry.running = None
                    done.set()
                if not entry.failures:
                    return
                await trio.sleep_until(entry.retry_at)
        finally:
            entry.tended = False

    async def _attempt(self, entry: _Entry) -> None:
        timeout = entry.config.discovery_timeout
        try:
            with trio.fail_after(timeout):
                tools, ttl = await entry.upstream.list_all("tools/list", "tools")
            entry.latency = trio.current_time() - entry.asked_at
            self._listed(entry, tuple(tools), ttl)
        except trio.TooSlowError:
            self._failed(entry, f"no list within {timeout:g} s")
        except UpstreamRefused as exc:
            self._failed(
                entry, why_refused(exc), needs_login=exc.status in (401, 403), retry_after=exc.retry_after or 0.0
            )
        except UpstreamLost as exc:
            self._failed(entry, str(exc))
        except Exception as exc:  # the supervisor of one upstream: no answer of its may end the process
            log.exception("upstream %s: listing failed unexpectedly", entry.config.name)
            self._failed(entry, f"unexpected {type(exc).__name__}")

    def _listed(self, entry: _Entry, tools: tuple[Json, ...], ttl: float | None) -> None:
        config = entry.config
        peer = entry.upstream.peer
        title = peer.server.get("title") if peer is not None else None
        display = config.display_name or (title if isinstance(title, str) and title else config.name)
        source = Source(config.name, config.prefix, display, tools, config.tools.include, config.tools.exclude)
        if entry.failures:
            log.info("upstream %s answers again, after %d failures", config.name, entry.failures)
        if source != entry.source:
            entry.source = source
            self._catalog = None
            self._report(config.name)
        life = DEFAULT_TTL if ttl is None else min(max(ttl, SHORTEST_TTL), LONGEST_TTL)
        entry.fresh_until = trio.current_time() + life
        entry.failures, entry.retry_at, entry.error, entry.needs_login = 0, -1.0, None, False

    def _failed(self, entry: _Entry, error: str, *, needs_login: bool = False, retry_after: float = 0.0) -> None:
        if error != entry.error:  # once, not at every attempt
            log.warning("upstream %s: %s", entry.config.name, error)
        entry.failures += 1
        entry.upstream.doubt()  # it may have been replaced by another version of itself
        delay = max(min(FIRST_RETRY * 2 ** min(entry.failures - 1, 16), LAST_RETRY), min(retry_after, LONGEST_TTL))
        entry.retry_at = trio.current_time() + delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        entry.error, entry.needs_login = error, needs_login

    def _report(self, name: str) -> None:
        for reason in self._merged().left_out.get(name, ()):
            log.warning("upstream %s: left out %s", name, reason)


def why_refused(exc: UpstreamRefused) -> str:
    """What an upstream's HTTP status means for whoever asked it."""
    if exc.status in (401, 403):
        return f"{exc}: it wants credentials, and connecting personal accounts is not available yet"
    if exc.retry_after is not None:
        return f"{exc}; it asks to wait {exc.retry_after:g} s"
    return str(exc)


def _is_awaited(entry: _Entry) -> bool:
    """An attempt is under way for want of a listing that is fresh, and the one before it did not fail."""
    return entry.running is not None and entry.failures == 0 and entry.fresh_until <= trio.current_time()
