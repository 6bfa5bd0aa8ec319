"""A client that listens for what changes between calls: its lists, resources it subscribed to, and its tasks.

What changes is judged by what the person sees: a list that an upstream says has
changed, an upstream that came or went, an account that was connected. Changes that
come together are told once. This file knows no HTTP; a stream is something to tell.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import trio

from ...errors import StoreUnavailable
from ...protocol.catalog import Catalog
from ...protocol.jsonrpc import Notice
from ...protocol.links import with_published_links
from ...protocol.principal import Principal
from ...protocol.subscriptions import KINDS, Wanted, list_changed, updated
from ...protocol.tasks import CHANGED as TASK_CHANGED
from ...protocol.tasks import TaskPlace, with_id
from ...upstream.listings import Listings, View
from ...upstream.streams import Ear, Streams

TOGETHER = 0.1  # seconds within which changes are told as one
REVIEW = 5.0  # seconds between two looks at whose listings the person sees
ACKNOWLEDGE = 5.0  # seconds to find out what upstreams tell of

_LISTS = {"tools": ("tools",), "prompts": ("prompts",), "resources": ("resources", "resourceTemplates")}

Tell = Callable[[Notice], Awaitable[None]]

log = logging.getLogger(__name__)


class News:
    """Whether there is something to look at since the last look."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def come(self) -> None:
        self._event.set()

    def clear(self) -> None:
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class Listening:
    """Makes listeners."""

    def __init__(self, listings: Listings, streams: Streams) -> None:
        self._listings = listings
        self._streams = streams

    async def listen(
        self,
        principal: Principal,
        kinds: Iterable[str],
        uris: Callable[[], Iterable[str]],
        tell: Tell,
        on_ready: Callable[[Wanted], Awaitable[None]],
        news: News,
        tasks: Mapping[TaskPlace, str] | None = None,
    ) -> None:
        """Tell of changes until cancelled.

        `uris` gives the published URIs of the resources wanted now, and `news` comes when they change; `on_ready` gets
        what will really be told, before anything is. `tasks` are those of which to tell, with the ids that the client
        knows them by.

        Raises:
            StoreUnavailable: if it is not known at the start which accounts the person has connected.
        """
        wanted = frozenset(kinds) & frozenset(KINDS)
        with self._listings.watched(news.come), self._streams.listening(wanted, news.come) as ear:
            view = await self._listings.view(principal)
            given = self._listings.known_catalog(view)
            catalog = await self._listings.catalog(view)
            ear.tasks = frozenset(published_tasks := dict(tasks or {}))
            places = self._place(ear, view, catalog, uris())
            honoured = await self._acknowledged(ear, places, published_tasks)
            await on_ready(replace(honoured, kinds=wanted & self._offered()))
            if self._listings.is_hasty:
                # A list that the client has been given may be without what came while we were looking.
                catalog = given
                news.come()
            while True:
                with trio.move_on_after(REVIEW):
                    await news.wait()
                await trio.sleep(TOGETHER)
                news.clear()
                try:
                    view = await self._listings.view(principal)
                except StoreUnavailable as exc:
                    log.debug("a listener's view could not be looked up: %s", exc)
                before, catalog = catalog, self._listings.known_catalog(view)
                places = self._place(ear, view, catalog, uris())
                changed, updates = ear.take()
                for kind in KINDS:
                    if kind in wanted and (kind in changed or _differ(before, catalog, kind)):
                        await tell(list_changed(kind))
                for upstream, own in sorted(updates):
                    await tell(updated(_published(catalog, upstream, own, places)))
                for task, state in ear.take_tasks().items():
                    publish = catalog.publisher(task.upstream)
                    shown = state if publish is None else with_published_links("tasks/get", state, publish)
                    await tell(Notice(TASK_CHANGED, with_id(shown, published_tasks[task])))

    def _place(self, ear: Ear, view: View, catalog: Catalog, uris: Iterable[str]) -> dict[tuple[str, str], str]:
        """Let the ear listen where this person's listings and resources are; the published URI by each place."""
        places = {}
        for uri in uris:
            if (place := catalog.locate_uri(uri)) is not None:
                places[place.upstream, place.uri] = uri
        ear.uris = set(places)
        owners = {name: standing.owner for name, standing in zip(view.members.upstreams, view.standings, strict=True)}
        self._streams.place(ear, view.principal, owners)
        return places

    async def _acknowledged(
        self, ear: Ear, places: dict[tuple[str, str], str], tasks: Mapping[TaskPlace, str]
    ) -> Wanted:
        """The published URIs and tasks of which their upstreams will tell."""
        uris: set[str] = set()
        ids: set[str] = set()

        async def ask(upstream: str) -> None:
            told = await self._streams.acknowledged(ear, upstream, ACKNOWLEDGE)
            uris.update(uri for (name, own), uri in places.items() if name == upstream and own in told.uris)
            ids.update(id for task, id in tasks.items() if task.upstream == upstream and task.id in told.tasks)

        async with trio.open_nursery() as nursery:
            for upstream in ear.upstreams():
                nursery.start_soon(ask, upstream)
        return Wanted(uris=frozenset(uris), tasks=frozenset(ids))

    def _offered(self) -> frozenset[str]:
        """The kinds that there are: tools always, for ours are; of others, what some upstream has or may have."""
        peers = [upstream.peer for upstream in self._listings.upstreams().values()]
        return frozenset(
            kind
            for kind in KINDS
            if kind == "tools" or any(peer is None or kind in peer.capabilities for peer in peers)
        )


def _differ(before: Catalog, after: Catalog, kind: str) -> bool:
    if before is after:
        return False
    return any(before.lists[name].items != after.lists[name].items for name in _LISTS[kind])  # type: ignore[index]


def _published(catalog: Catalog, upstream: str, own: str, places: dict[tuple[str, str], str]) -> str:
    """The URI as the client knows it."""
    if (asked := places.get((upstream, own))) is not None:
        return asked
    publish = catalog.publisher(upstream)
    return own if publish is None else publish(own)
