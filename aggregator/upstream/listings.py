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
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from ..config.model import ConnectRetry, StdioUpstream
from ..protocol.catalog import Catalog, build_catalog
from ..protocol.jsonrpc import Json
from ..protocol.names import may_publish
from ..protocol.principal import Principal
from ..protocol.source import Source
from .authorized import AuthorizedUpstream
from .credentials import EVERYONE, Standing
from .kept_catalogs import KeptCatalogs
from .listing import DEFAULT_TTL, FIRST_RETRY, LAST_RETRY, LONGEST_TTL, SHORTEST_TTL, Listing, why_refused
from .members import Members, members_of
from .upstream_status import UpstreamStatus, needs_login, status_of

KEPT_OWN = 5000  # listings of single people kept in memory, at one upstream each; the longest unused goes first
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

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Settled:
    """A catalog that is good until then, unless something happens to a listing. `aged_at` is when the first of its
    listings is to be made anew."""

    catalog: Catalog
    turn: int
    until: float
    aged_at: float


@dataclass(frozen=True, slots=True)
class View:
    """Whose listings one person sees: one standing per upstream, in the order of configuration."""

    principal: Principal
    standings: tuple[Standing, ...]
    members: Members
    key: tuple[tuple[str, str], ...]  # owner and state of each standing: equal views of equal members see the same


class Listings:
    """The listings of all enabled upstreams. Their tasks run in `nursery`; nothing starts before the first question.

    `ours` makes our own tools, from the names of the upstreams that wait for the person's login. `stamp` gives an
    object that stays the same as long as all standings of a person do, None if that is not known. `patience` is how
    many seconds whoever asks for a list waits for all upstreams together; each has its own deadline beside it.
    `retry` is how those that fail are tried again, None the usual way.
    """

    def __init__(
        self,
        upstreams: Iterable[AuthorizedUpstream],
        nursery: trio.Nursery,
        *,
        name_length: int,
        ours: Callable[[tuple[str, ...]], tuple[Json, ...]],
        stamp: Callable[[Principal], object | None] | None = None,
        patience: float = math.inf,
        retry: ConnectRetry | None = None,
    ) -> None:
        self._nursery = nursery
        self._name_length = name_length
        self._ours = ours
        self._own: OrderedDict[tuple[AuthorizedUpstream, str], Listing] = OrderedDict()  # by upstream and owner
        self._catalogs = KeptCatalogs()
        self._turn = 0  # counts whatever happens to any listing
        self._settled: dict[tuple[tuple[str, str], ...], _Settled] = {}
        self._stamp = stamp
        self._patience = patience
        self._retry = retry or ConnectRetry()
        self._views: dict[Principal, tuple[object, View]] = {}
        self._watching: set[Callable[[], None]] = set()
        self._members = members_of(upstreams, {}, self._everyones)
        self._upstreams = dict(self._members.upstreams)  # always the newest, for those who look one up by name

    def __repr__(self) -> str:
        shared = self._members.shared
        listed = sum(listing.source is not None for listing in shared.values())
        return f"<Listings {listed} of {len(shared)} upstreams, {len(self._own)} of single people>"

    def replace(self, upstreams: Iterable[AuthorizedUpstream]) -> None:
        """From now on these are the upstreams. What was listed of those that stay is kept, nothing of the others is.

        Whoever has a `View` already goes on with the upstreams of that time.
        """
        before = self._members
        self._members = members_of(upstreams, before.shared, self._everyones)
        self._upstreams.clear()
        self._upstreams.update(self._members.upstreams)
        stay = set(self._members.upstreams.values())
        gone = [listing for listing in before.shared.values() if listing.upstream not in stay]
        gone += [self._own.pop(key) for key in list(self._own) if key[0] not in stay]
        for listing in gone:
            listing.retire()
            self._catalogs.forget(listing.number)
        self._settled.clear()
        self.warm()
        for wake in self._watching:
            wake()

    def try_now(self, name: str | None = None) -> tuple[str, ...]:
        """Have those that fail, or asked for a login, be tried at once: all, or the one called `name`. The names."""
        listings = [*self._members.shared.values(), *self._own.values()]
        chosen = [listing for listing in listings if name in (None, listing.upstream.name)]
        return tuple(dict.fromkeys(listing.upstream.name for listing in chosen if listing.try_now()))

    def _everyones(self, upstream: AuthorizedUpstream) -> Listing:
        return Listing(upstream, EVERYONE, None, self._nursery, self._changed, self._turned, self._retry)

    def warm(self) -> None:
        """Begin to list everything that is everyone's, so that the first asker finds it done; not what is only to be
        started when somebody asks."""
        for listing in self._members.shared.values():
            if not (isinstance(listing.config, StdioUpstream) and listing.config.start_on_use):
                listing.refresh_if_due()

    def upstreams(self) -> Mapping[str, AuthorizedUpstream]:
        """By name; the same mapping for ever, whose content follows the configuration: never await while iterating."""
        return self._upstreams

    def view_at_hand(self, principal: Principal) -> View | None:
        """Whose listings `principal` sees; None if that has to be looked up."""
        members = self._members
        if not members.personal:
            return View(principal, members.nobody, members, ())
        stamp = None if self._stamp is None else self._stamp(principal)
        kept = None if stamp is None else self._views.get(principal)
        if kept is not None and kept[0] is stamp and kept[1].members is members:
            return kept[1]
        standings = []
        for upstream in members.upstreams.values():
            standing = upstream.credentials.standing_at_hand(principal)
            if standing is None:
                return None
            standings.append(standing)
        view = _view(principal, standings, members)
        if stamp is not None:
            if len(self._views) >= KEPT_SETTLED:
                self._views.clear()
            self._views[principal] = (stamp, view)
        return view

    async def view(self, principal: Principal) -> View:
        """As `view_at_hand`, looked up where needed.

        Raises:
            StoreUnavailable: if the person's connections are not known now.
        """
        if (view := self.view_at_hand(principal)) is not None:
            return view
        members = self._members
        standings = [await upstream.credentials.standing(principal) for upstream in members.upstreams.values()]
        return _view(principal, standings, members)

    def catalog_at_hand(self, view: View) -> Catalog | None:
        """Everything that is known now; None while there is something to wait for. Begins what is due."""
        if (known := self._known(view)) is not None:
            return known.catalog
        listings = self.listings_of(view)
        for listing in listings:
            listing.refresh_if_due()
        if any(listing.is_awaited for listing in listings):
            return None
        catalog = self._merged(view, listings)
        now = trio.current_time()
        until = min([now + GLANCE, *(listing.due_at for listing in listings)])
        if until > now and view.members is self._members:
            aged_at = now + min((listing.life for listing in listings), default=DEFAULT_TTL)
            self._settled[view.key] = _Settled(catalog, self._turn, until, aged_at)
            if len(self._settled) > KEPT_SETTLED:
                self._settled.clear()
        return catalog

    async def catalog(self, view: View) -> Catalog:
        """Everything that can be known now; waits for upstreams whose listing is missing or old, unless they failed,
        and no longer than `patience`."""
        with trio.move_on_after(self._patience):
            while (catalog := self.catalog_at_hand(view)) is None:
                for listing in self.listings_of(view):
                    if listing.is_awaited and listing.running is not None:
                        await listing.running.wait()
            return catalog
        return self.known_catalog(view)

    @property
    def is_hasty(self) -> bool:
        """Lists may be without what an upstream that works, and answers in time, has to offer: it came too late for
        `patience`."""
        return self._patience < math.inf

    def known_catalog(self, view: View) -> Catalog:
        """What is known now, whatever is under way. Begins what is due."""
        listings = self.listings_of(view)
        for listing in listings:
            listing.refresh_if_due()
        return self._merged(view, listings)

    def absent(self, view: View, name: str) -> Listing | None:
        """The listing that probably has the published tool `name` but could not be had; None if there is none.

        It failed, or it waits for a login. One without a prefix could publish anything, so it comes last.
        """
        candidates = [
            listing
            for listing in self.listings_of(view)
            if listing.source is None and listing.error is not None and may_publish(listing.config.prefix, name)
        ]
        return min(candidates, key=lambda listing: not listing.config.prefix, default=None)

    def doubt(self, view: View, name: str) -> None:
        """What is known of this upstream's tools is out of date: list them anew, behind everybody's back."""
        for listing in self.listings_of(view):
            if listing.upstream.name == name:
                listing.refresh_soon()

    def relist(self, name: str, owner: str) -> None:
        """This upstream's listing of this owner has changed, as the upstream says."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            return
        listing = self._members.shared[name] if owner == EVERYONE else self._own.get((upstream, owner))
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
        """Seconds for which a client may keep a list made now."""
        if (known := self._known(view)) is not None:
            return max(0.0, known.aged_at - trio.current_time())
        return min((listing.life for listing in self.listings_of(view)), default=DEFAULT_TTL)

    def status(self, view: View) -> tuple[UpstreamStatus, ...]:
        listings = self.listings_of(view)
        catalog = self._merged(view, listings)
        return tuple(
            status_of(listing, standing, catalog) for listing, standing in zip(listings, view.standings, strict=True)
        )

    def _known(self, view: View) -> _Settled | None:
        if view.members is not self._members:
            return None
        known = self._settled.get(view.key)
        return known if known is not None and known.turn == self._turn and trio.current_time() < known.until else None

    def listings_of(self, view: View) -> list[Listing]:
        """One per upstream, in the order of configuration."""
        members = view.members
        if view.standings is members.nobody:
            return list(members.shared.values())
        return [
            everyones if standing.owner == EVERYONE else self._own_listing(everyones.upstream, standing.owner, view)
            for everyones, standing in zip(members.shared.values(), view.standings, strict=True)
        ]

    def _own_listing(self, upstream: AuthorizedUpstream, owner: str, view: View) -> Listing:
        key = (upstream, owner)
        if (listing := self._own.get(key)) is None:
            listing = Listing(upstream, owner, view.principal, self._nursery, self._changed, self._turned, self._retry)
            if self._upstreams.get(upstream.name) is not upstream:
                listing.retire()  # of a configuration that has been replaced: nobody else will ask for it
                return listing
            self._own[key] = listing
            while len(self._own) > KEPT_OWN or self._oldest_is_idle():
                _, unused = self._own.popitem(last=False)
                self._catalogs.forget(unused.number)
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
        key = (needing, tuple([(listing.number, listing.version) for listing in listings]))
        if (catalog := self._catalogs.find(key)) is not None:
            return catalog
        sources = [
            listing.source or Source(listing.upstream.name, listing.config.prefix, "", (), listed=False)
            for listing in listings
        ]
        catalog = build_catalog(sources, name_length=self._name_length, ours=self._ours(needing))
        self._catalogs.keep(key, catalog)
        return catalog

    def _turned(self) -> None:
        self._turn += 1

    def _changed(self, listing: Listing) -> None:
        self._catalogs.forget(listing.number)
        for wake in self._watching:
            wake()
        for reason in self._left_out_of(listing):
            log.warning("upstream %s: left out %s", listing.upstream.name, reason)

    def _left_out_of(self, listing: Listing) -> tuple[str, ...]:
        """What everyone's listing loses when it is merged; a person's own is in their `gateway__status`."""
        if listing.owner != EVERYONE:
            return ()
        members = self._members
        catalog = self._merged(View(NOBODY, members.nobody, members, ()), list(members.shared.values()))
        return catalog.left_out.get(listing.upstream.name, ())


def _view(principal: Principal, standings: list[Standing], members: Members) -> View:
    return View(
        principal, tuple(standings), members, tuple([(standing.owner, standing.state) for standing in standings])
    )
