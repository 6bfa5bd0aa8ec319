"""What all upstreams offer to one person, as one catalog.

There is one `Listing` per upstream and owner of a credential: most are everyone's,
made without anybody's account; a person who connected an account has their own.
A `View` says whose listings a person sees. Nobody waits twice for an upstream
that does not answer: whoever asks first, or first after a listing has aged, waits
at most its `discoveryTimeout`; from then on a catalog is there at once, with the
last good listing or without the upstream, while a task tries again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from ..config.model import AnyUpstream, StdioUpstream
from ..protocol.catalog import Catalog, build_catalog
from ..protocol.jsonrpc import Json
from ..protocol.names import may_publish
from ..protocol.principal import Principal
from ..protocol.source import Source
from .authorized import AuthorizedUpstream
from .credentials import EVERYONE, SHARED, Standing
from .listing import DEFAULT_TTL, FIRST_RETRY, LAST_RETRY, LONGEST_TTL, SHORTEST_TTL, Listing, why_refused

KEPT_OWN = 2000  # listings of single people kept in memory; the longest unused goes first
KEPT_TOOLS = 100_000  # of all merged catalogs together; the same
KEPT_SETTLED = 2000  # people whose catalog is found without looking at each listing
GLANCE = 1.0  # seconds at most between two looks at each listing
OWN_IDLE = 1800.0  # seconds after which a person's own listing is dropped

__all__ = [
    "DEFAULT_TTL",
    "FIRST_RETRY",
    "LAST_RETRY",
    "LONGEST_TTL",
    "SHORTEST_TTL",
    "Listings",
    "UpstreamStatus",
    "View",
    "why_refused",
]

NOBODY = Principal("", "")
_CatalogKey = tuple[Any, ...]  # who waits for a login, then number and version of each listing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """One row of `gateway__status` and of the connections page."""

    name: str
    state: str  # "connected", "unreachable", "needs_login", "retrying", "connecting"
    tools: int
    revision: str | None
    latency: float | None
    error: str | None
    stale: bool
    left_out: tuple[str, ...]
    standing: Standing
    flagged: tuple[str, ...] = ()  # hidden characters in what is shown as it came


@dataclass(frozen=True, slots=True)
class _Settled:
    """A catalog that is good until then, unless something happens to a listing."""

    catalog: Catalog
    turn: int
    until: float


@dataclass(frozen=True, slots=True)
class View:
    """Whose listings one person sees: one standing per upstream, in the order of configuration."""

    principal: Principal
    standings: tuple[Standing, ...]


class Listings:
    """The listings of all enabled upstreams. Their tasks run in `nursery`; nothing starts before the first question.

    `ours` makes our own tools, from the names of the upstreams that wait for the person's login.
    """

    def __init__(
        self,
        upstreams: Iterable[AuthorizedUpstream],
        nursery: trio.Nursery,
        *,
        name_length: int,
        ours: Callable[[tuple[str, ...]], tuple[Json, ...]],
    ) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._personal = any(upstream.config.auth_type == "user" for upstream in self._upstreams.values())
        self._nursery = nursery
        self._name_length = name_length
        self._ours = ours
        self._shared = {
            name: Listing(upstream, EVERYONE, None, nursery, self._changed, self._turned)
            for name, upstream in self._upstreams.items()
        }
        self._own: OrderedDict[tuple[str, str], Listing] = OrderedDict()  # by upstream and owner
        self._catalogs: OrderedDict[_CatalogKey, Catalog] = OrderedDict()
        self._kept_tools = 0
        self._turn = 0  # counts whatever happens to any listing
        self._settled: dict[tuple[tuple[str, str], ...], _Settled] = {}
        self._watching: set[Callable[[], None]] = set()
        self._nobody = tuple(SHARED for _ in self._upstreams)

    def __repr__(self) -> str:
        listed = sum(listing.source is not None for listing in self._shared.values())
        return f"<Listings {listed} of {len(self._shared)} upstreams, {len(self._own)} of single people>"

    def warm(self) -> None:
        """Begin to list everything that is everyone's, so that the first asker finds it done; not what is only to be
        started when somebody asks."""
        for listing in self._shared.values():
            if not (isinstance(listing.config, StdioUpstream) and listing.config.start_on_use):
                listing.refresh_if_due()

    def upstreams(self) -> Mapping[str, AuthorizedUpstream]:
        return self._upstreams

    def view_at_hand(self, principal: Principal) -> View | None:
        """Whose listings `principal` sees; None if that has to be looked up."""
        if not self._personal:
            return View(principal, self._nobody)
        standings = []
        for upstream in self._upstreams.values():
            standing = upstream.credentials.standing_at_hand(principal)
            if standing is None:
                return None
            standings.append(standing)
        return View(principal, tuple(standings))

    async def view(self, principal: Principal) -> View:
        """As `view_at_hand`, looked up where needed.

        Raises:
            StoreUnavailable: if the person's connections are not known now.
        """
        if (view := self.view_at_hand(principal)) is not None:
            return view
        return View(
            principal, tuple([await upstream.credentials.standing(principal) for upstream in self._upstreams.values()])
        )

    def catalog_at_hand(self, view: View) -> Catalog | None:
        """Everything that is known now; None while there is something to wait for. Begins what is due."""
        seen = tuple([(standing.owner, standing.state) for standing in view.standings])
        known = self._settled.get(seen)
        if known is not None and known.turn == self._turn and trio.current_time() < known.until:
            return known.catalog
        listings = self._listings(view)
        for listing in listings:
            listing.refresh_if_due()
        if any(listing.is_awaited for listing in listings):
            return None
        catalog = self._merged(view, listings)
        now = trio.current_time()
        until = min([now + GLANCE, *(listing.due_at for listing in listings)])
        if until > now:
            self._settled[seen] = _Settled(catalog, self._turn, until)
            if len(self._settled) > KEPT_SETTLED:
                self._settled.clear()
        return catalog

    async def catalog(self, view: View) -> Catalog:
        """Everything that can be known now; waits for upstreams whose listing is missing or old, unless they failed."""
        while (catalog := self.catalog_at_hand(view)) is None:
            for listing in self._listings(view):
                if listing.is_awaited and listing.running is not None:
                    await listing.running.wait()
        return catalog

    def known_catalog(self, view: View) -> Catalog:
        """What is known now, whatever is under way. Begins what is due."""
        listings = self._listings(view)
        for listing in listings:
            listing.refresh_if_due()
        return self._merged(view, listings)

    async def catalog_for(self, view: View, name: str) -> Catalog:
        """A catalog good enough to locate the published tool `name`.

        Waits for upstreams that could have published it and were never listed, in the order of configuration: a
        name's first owner keeps it. An unknown name has them listed anew, at most every `SHORTEST_TTL` seconds,
        since a tool may have come since.
        """
        return await self._catalog_where(
            view, lambda catalog: name in catalog.routes, lambda upstream: may_publish(upstream.prefix, name)
        )

    async def catalog_where(self, view: View, found: Callable[[Catalog], bool]) -> Catalog:
        """As `catalog_for`, for what may belong to any upstream: the first catalog in which it is `found`, or the last
        that can be had."""
        return await self._catalog_where(view, found, lambda upstream: True)

    async def _catalog_where(
        self, view: View, found: Callable[[Catalog], bool], may_have: Callable[[AnyUpstream], bool]
    ) -> Catalog:
        listings = self._listings(view)
        if found(catalog := self._merged(view, listings)):
            for listing in listings:
                listing.refresh_if_due()
            return catalog
        candidates = [listing for listing in listings if may_have(listing.config)]
        for listing in candidates:
            listing.refresh_soon()
        for listing in candidates:
            if listing.may_come and listing.running is not None:
                await listing.running.wait()
            if found(catalog := self._merged(view, listings)):
                break
        return catalog

    def absent(self, view: View, name: str) -> Listing | None:
        """The listing that probably has the published tool `name` but could not be had; None if there is none.

        It failed, or it waits for a login. One without a prefix could publish anything, so it comes last.
        """
        candidates = [
            listing
            for listing in self._listings(view)
            if listing.source is None and listing.error is not None and may_publish(listing.config.prefix, name)
        ]
        return min(candidates, key=lambda listing: not listing.config.prefix, default=None)

    def doubt(self, view: View, name: str) -> None:
        """What is known of this upstream's tools is out of date: list them anew, behind everybody's back."""
        for upstream, listing in zip(self._upstreams, self._listings(view), strict=True):
            if upstream == name:
                listing.refresh_soon()

    def relist(self, name: str, owner: str) -> None:
        """This upstream's listing of this owner has changed, as the upstream says."""
        listing = self._shared[name] if owner == EVERYONE else self._own.get((name, owner))
        if listing is not None:
            listing.refresh_now()

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """`wake` is called, without awaiting, whenever anything listed has changed, whoever sees it."""
        self._watching.add(wake)
        try:
            yield
        finally:
            self._watching.discard(wake)

    def time_to_live(self, view: View) -> float:
        """Seconds for which a list made now will do."""
        return min((listing.life for listing in self._listings(view)), default=DEFAULT_TTL)

    def status(self, view: View) -> tuple[UpstreamStatus, ...]:
        listings = self._listings(view)
        catalog = self._merged(view, listings)
        return tuple(
            _status(listing, standing, catalog) for listing, standing in zip(listings, view.standings, strict=True)
        )

    def _listings(self, view: View) -> list[Listing]:
        """One per upstream, in the order of configuration."""
        if view.standings is self._nobody:
            return list(self._shared.values())
        return [
            self._shared[name] if standing.owner == EVERYONE else self._own_listing(name, standing.owner, view)
            for name, standing in zip(self._upstreams, view.standings, strict=True)
        ]

    def _own_listing(self, name: str, owner: str, view: View) -> Listing:
        key = (name, owner)
        if (listing := self._own.get(key)) is None:
            listing = Listing(self._upstreams[name], owner, view.principal, self._nursery, self._changed, self._turned)
            self._own[key] = listing
            while len(self._own) > KEPT_OWN or self._oldest_is_idle():
                self._own.popitem(last=False)
        self._own.move_to_end(key)
        return listing

    def _oldest_is_idle(self) -> bool:
        oldest = next(iter(self._own.values()))
        return oldest.used_at + OWN_IDLE < trio.current_time()

    def _merged(self, view: View, listings: list[Listing]) -> Catalog:
        needing = tuple(
            listing.upstream.name
            for listing, standing in zip(listings, view.standings, strict=True)
            if needs_login(listing, standing)
        )
        key = (needing, *((listing.number, listing.version) for listing in listings))
        if (catalog := self._catalogs.get(key)) is not None:
            self._catalogs.move_to_end(key)
            return catalog
        sources = [
            listing.source or Source(listing.upstream.name, listing.config.prefix, "", (), listed=False)
            for listing in listings
        ]
        catalog = build_catalog(sources, name_length=self._name_length, ours=self._ours(needing))
        self._catalogs[key] = catalog
        self._kept_tools += catalog.size
        while self._kept_tools > KEPT_TOOLS and len(self._catalogs) > 1:
            self._drop(next(iter(self._catalogs)))
        return catalog

    def _turned(self) -> None:
        self._turn += 1

    def _changed(self, listing: Listing) -> None:
        for key in [key for key in self._catalogs if any(number == listing.number for number, _ in key[1:])]:
            self._drop(key)
        for wake in self._watching:
            wake()
        for reason in self._left_out_of(listing):
            log.warning("upstream %s: left out %s", listing.upstream.name, reason)

    def _left_out_of(self, listing: Listing) -> tuple[str, ...]:
        """What everyone's listing loses when it is merged; a person's own is in their `gateway__status`."""
        if listing.owner != EVERYONE:
            return ()
        catalog = self._merged(View(NOBODY, self._nobody), list(self._shared.values()))
        return catalog.left_out.get(listing.upstream.name, ())

    def _drop(self, key: _CatalogKey) -> None:
        self._kept_tools -= self._catalogs.pop(key).size


def needs_login(listing: Listing, standing: Standing) -> bool:
    """Whether the person of this `standing` has to connect their account before they see more than this."""
    return standing.state == "needs_login" or (standing.owner == EVERYONE and listing.needs_login)


def _status(listing: Listing, standing: Standing, catalog: Catalog) -> UpstreamStatus:
    if needs_login(listing, standing):
        state = "needs_login"
    elif listing.error is not None:
        state = "unreachable"
    elif standing.state == "retrying":
        state = "retrying"
    else:
        state = "connected" if listing.source is not None else "connecting"
    name, peer = listing.upstream.name, listing.upstream.peer
    return UpstreamStatus(
        name,
        state,
        catalog.counts.get(name, 0),
        peer.revision if peer else None,
        listing.latency,
        standing.reason or listing.error,
        listing.is_stale,
        catalog.left_out.get(name, ()),
        standing,
        catalog.flagged.get(name, ()),
    )
