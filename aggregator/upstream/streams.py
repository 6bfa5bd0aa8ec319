"""Streams on which an upstream tells what changes between calls: one for each owner of a credential, as long as
somebody listens.

A stateless upstream has ``subscriptions/listen``, of which another is opened when
something else is wanted, before the one before it is closed; an older one has a GET
stream, and a request for each resource: nothing is missed in between. A stream that
breaks is opened again; what was missed meanwhile is made up for by listing anew.
This file must not know clients: they have an `Ear` each.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from ..errors import ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol.jsonrpc import Json, Notice
from ..protocol.principal import Principal
from ..protocol.revisions import is_stateless
from ..protocol.subscriptions import UPDATED, Wanted, heard_kind, on_offer
from ..protocol.tasks import CHANGED as TASK_CHANGED
from ..protocol.tasks import TaskPlace, own_id
from .authorized import AuthorizedUpstream
from .peers import Peer

GRACE = 30.0  # seconds that a stream outlives its last listener: clients come back
FIRST_RETRY, LAST_RETRY = 1.0, 60.0  # seconds between attempts to open one
LASTED = 10.0  # seconds after which a stream that ends was a good one
UNAVAILABLE = 600.0  # seconds until one that has no streams is asked again
OPENING = 30.0  # seconds for an upstream to open one; some send nothing before the first event
LOOK_AGAIN = 5.0  # seconds; whether the upstream was met anew, and may have streams by now
MAX_URIS = 1000  # of one owner at one upstream, and as many tasks
MAX_UPDATED = 1000  # resources that one listener is told of by name before it has looked

_NO_STREAMS = frozenset({400, 404, 405, 501})
_TROUBLE = (UpstreamLost, UpstreamRefused, ConnectNeeded, StoreUnavailable, trio.TooSlowError)

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Ear:
    """What one listener wants to hear, and what was heard since it looked last. Made by `Streams.listening`."""

    kinds: frozenset[str]
    wake: Callable[[], None]
    uris: set[tuple[str, str]] = field(default_factory=set)  # upstream, and the resource by its own URI there
    changed: set[str] = field(default_factory=set)
    updated: set[tuple[str, str]] = field(default_factory=set)
    tasks: frozenset[TaskPlace] = frozenset()
    states: dict[TaskPlace, Json] = field(default_factory=dict)  # of tasks, the last that was told of each
    owners: dict[str, str] = field(default_factory=dict)  # by upstream: the owner on whose stream it listens

    def upstreams(self) -> set[str]:
        """Of which it wants to hear by name."""
        return {upstream for upstream, _ in self.uris} | {task.upstream for task in self.tasks}

    def take(self) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
        """The kinds of lists and the resources that changed since the last time."""
        taken = frozenset(self.changed), frozenset(self.updated)
        self.changed.clear()
        self.updated.clear()
        return taken

    def take_tasks(self) -> dict[TaskPlace, Json]:
        """The tasks that changed since the last time, and what was said of each last: all of its state."""
        taken, self.states = self.states, {}
        return taken

    def hear_task(self, place: TaskPlace, state: Json) -> None:
        if place in self.tasks:
            self.states[place] = state
            self.wake()

    def hear_update(self, upstream: str, uri: str) -> None:
        """Something about this resource of `upstream`: kept if it, or what it is a part of, is listened for."""
        # 2025-11-25, resources/updated: "This may be a sub-resource of the one that the client actually subscribed to."
        wanted = next((own for name, own in self.uris if name == upstream and _is_part(uri, own)), None)
        if wanted is not None:
            self.updated.add((upstream, uri if len(self.updated) < MAX_UPDATED else wanted))
            self.wake()


class Streams:
    """All streams. Their tasks run in `nursery`; `relist` has an upstream's listing of one owner made anew."""

    def __init__(
        self,
        upstreams: Mapping[str, AuthorizedUpstream],
        nursery: trio.Nursery,
        relist: Callable[[str, str], None],
    ) -> None:
        self._upstreams = upstreams
        self._nursery = nursery
        self._relist = relist
        self._streams: dict[tuple[str, str], _Stream] = {}

    def __repr__(self) -> str:
        return f"<Streams {len(self._streams)}>"

    def __len__(self) -> int:
        return len(self._streams)

    @contextmanager
    def listening(self, kinds: frozenset[str], wake: Callable[[], None]) -> Iterator[Ear]:
        """An ear that hears nothing until it is `placed`. `wake` is called whenever there is something to take."""
        ear = Ear(kinds, wake)
        try:
            yield ear
        finally:
            self.place(ear, None, {})

    def place(self, ear: Ear, principal: Principal | None, owners: Mapping[str, str]) -> None:
        """Let `ear` listen on the streams of these `owners`, by upstream, and on no others."""
        before, ear.owners = ear.owners, dict(owners)
        for name, owner in before.items():
            if owners.get(name) != owner and (stream := self._streams.get((name, owner))) is not None:
                stream.leave(ear)
        for name, owner in owners.items():
            stream, upstream = self._streams.get((name, owner)), self._upstreams.get(name)
            if upstream is None:
                continue  # the owners are of a configuration that has been replaced
            if stream is None:
                if not ear.kinds and name not in ear.upstreams():
                    continue
                stream = _Stream(upstream, owner, principal if owner else None, self._relist)
                self._streams[name, owner] = stream
                self._nursery.start_soon(self._run, (name, owner), stream)
            stream.join(ear)

    def end_gone(self) -> None:
        """End the streams of upstreams that are no longer there, or not the same. Their ears are placed anew when their
        listeners look, for whom something has changed then."""
        for (name, owner), stream in list(self._streams.items()):
            if not stream.is_of(self._upstreams.get(name)):
                del self._streams[name, owner]
                stream.end()

    async def acknowledged(self, ear: Ear, upstream: str, patience: float) -> Wanted:
        """What the upstream's stream really tells, as far as it is known within `patience` seconds."""
        stream = self._streams.get((upstream, ear.owners.get(upstream, "")))
        if stream is None:
            return Wanted()
        with trio.move_on_after(patience):
            await stream.wait_acknowledged()
        return stream.acknowledged

    async def _run(self, key: tuple[str, str], stream: _Stream) -> None:
        try:
            await stream.run()
        finally:
            if self._streams.get(key) is stream:
                del self._streams[key]


@dataclass(eq=False, slots=True)
class _Opening:
    """A stream that is opened for what is `offered`; it is open when it is `acknowledged`."""

    offered: Wanted
    honoured: Wanted = field(default_factory=Wanted)
    acknowledged: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def acknowledge(self, honoured: Wanted) -> None:
        self.honoured = honoured
        self.acknowledged.set()


class _Stream:
    """One upstream's stream for one owner."""

    def __init__(
        self,
        upstream: AuthorizedUpstream,
        owner: str,
        principal: Principal | None,
        relist: Callable[[str, str], None],
    ) -> None:
        self.acknowledged = Wanted()
        self._upstream = upstream
        self._owner = owner
        self._principal = principal
        self._relist = relist
        self._ears: set[Ear] = set()
        self._open = Wanted()  # what the upstream was asked to tell
        self._known = trio.Event()  # set while `acknowledged` is the answer to what is wanted
        self._broke = False  # the stream before this one did not end for our own sake
        self._news = trio.Event()
        self._scope = trio.CancelScope()

    def join(self, ear: Ear) -> None:
        self._ears.add(ear)
        self._scope.deadline = math.inf
        self._look_again()

    def leave(self, ear: Ear) -> None:
        self._ears.discard(ear)
        if not self._ears:
            self._scope.deadline = trio.current_time() + GRACE + OPENING
        self._look_again()

    def is_of(self, upstream: AuthorizedUpstream | None) -> bool:
        return self._upstream is upstream

    def end(self) -> None:
        """Nobody listens any more, from now on."""
        self._ears.clear()
        self._known.set()
        self._news.set()
        self._scope.cancel("upstream gone")

    async def wait_acknowledged(self) -> None:
        await self._known.wait()

    def _look_again(self) -> None:
        self._news.set()
        self._news = trio.Event()
        if not self._wanted() <= self._open and self._known.is_set():
            self._known = trio.Event()

    def _wanted(self) -> Wanted:
        kinds = frozenset().union(*(ear.kinds for ear in self._ears)) if self._ears else frozenset[str]()
        name = self._upstream.name
        uris = {uri for ear in self._ears for upstream, uri in ear.uris if upstream == name}
        tasks = {task.id for ear in self._ears for task in ear.tasks if task.upstream == name}
        return Wanted(kinds, frozenset(sorted(uris)[:MAX_URIS]), frozenset(sorted(tasks)[:MAX_URIS]))

    async def run(self) -> None:
        """Until nobody has listened for `GRACE` seconds."""
        with self._upstream.overheard(self._overhear):
            await self._run()

    async def _run(self) -> None:
        delay = FIRST_RETRY
        while self._ears:
            opened_at = trio.current_time()
            pause = 0.0
            self._scope = trio.CancelScope()
            try:
                with self._scope:
                    await self._listen()
            except _TROUBLE as exc:
                log.debug("upstream %s: stream: %s", self._upstream.name, exc)
                if isinstance(exc, UpstreamRefused):
                    pause = UNAVAILABLE if exc.status in _NO_STREAMS else 0.0
                    self._acknowledge(Wanted())
            if self._scope.cancelled_caught:
                continue  # nobody listens any more
            self._broke = True
            if trio.current_time() - opened_at > LASTED:
                delay = FIRST_RETRY
            pause = max(pause, delay) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            delay = min(delay * 2, LAST_RETRY)
            await self._rest(pause)
            self._relist(self._upstream.name, self._owner)  # what was missed meanwhile

    async def _rest(self, seconds: float) -> None:
        """Until more is wanted, nobody listens, or the upstream was met anew; `seconds` at most."""
        peer = self._upstream.peer
        with trio.move_on_after(seconds):
            while self._ears and self._wanted() <= self._open and self._upstream.peer is peer:
                with trio.move_on_after(LOOK_AGAIN):
                    await self._news.wait()

    async def _listen(self) -> None:
        """As long as the upstream's stream lasts, or somebody listens.

        Raises:
            TooSlowError: if the upstream does not open it in time: others may wait for what we hold meanwhile.
            ConnectNeeded, UpstreamLost, UpstreamRefused, StoreUnavailable: see `AuthorizedUpstream.listen`.
        """
        self._open = self._wanted()
        with trio.fail_after(self._upstream.config.discovery_timeout):
            peer = await self._upstream.meet(self._principal)
        if not on_offer(peer.capabilities, self._open):
            self._acknowledge(Wanted())
            await self._rest(UNAVAILABLE)
            return
        trouble: Exception | None = None

        async def listen(opening: _Opening) -> None:
            nonlocal trouble
            with opening.scope:
                try:
                    await self._upstream.listen(self._principal, opening.offered, self._hear, opening.acknowledge)
                except _TROUBLE as exc:
                    trouble = exc
                nursery.cancel_scope.cancel("the stream has ended")

        async with trio.open_nursery() as nursery:
            try:
                await self._follow(peer, lambda opening: nursery.start_soon(listen, opening))
            except _TROUBLE as exc:
                trouble = exc
            nursery.cancel_scope.cancel("nobody listens any more")
        if trouble is not None:
            raise trouble

    async def _follow(self, peer: Peer, begin: Callable[[_Opening], None]) -> None:
        """Have the upstream tell what is wanted, whatever that is, until nobody has listened for `GRACE` seconds.

        Raises: as `_listen`.
        """
        current: _Opening | None = None
        told = Wanted()
        while True:
            offered = on_offer(peer.capabilities, self._open)
            before = current
            if current is None or is_stateless(peer.revision):
                current = _Opening(offered)
                begin(current)
                with trio.fail_after(OPENING):
                    await current.acknowledged.wait()
                if before is not None:
                    before.scope.cancel("another stream tells what is wanted now")
                peer = self._upstream.peer or peer  # it may have been met anew
            honoured = current.honoured
            if not is_stateless(peer.revision):
                with trio.fail_after(OPENING):
                    uris = await self._upstream.subscribe(self._principal, offered.uris)
                honoured = Wanted(offered.kinds, uris)
            self._acknowledge(honoured)
            if not self._open and not self._ears:
                return
            self._make_up(honoured, told)
            told = honoured
            await self._wait_otherwise()
            self._open = self._wanted()
            if is_stateless(peer.revision) and not self._open:
                return  # its stream ends with this

    async def _wait_otherwise(self) -> None:
        """Until more is wanted than the upstream was asked for, or less for `GRACE` seconds."""
        until = math.inf
        while (wanted := self._wanted()) <= self._open:
            until = math.inf if wanted == self._open else min(until, trio.current_time() + GRACE)
            with trio.move_on_at(until) as waiting:
                await self._news.wait()
            if waiting.cancelled_caught:
                return

    def _acknowledge(self, honoured: Wanted) -> None:
        self.acknowledged = honoured
        if self._wanted() <= self._open:
            self._known.set()

    def _make_up(self, honoured: Wanted, before: Wanted) -> None:
        """For what happened before the upstream began to tell."""
        if not honoured.kinds <= before.kinds:
            self._relist(self._upstream.name, self._owner)
        if self._broke:
            self._broke = False
            for ear in self._ears:
                for uri in honoured.uris:
                    ear.hear_update(self._upstream.name, uri)

    def _overhear(self, owner: str, notice: Notice) -> None:
        if owner == self._owner:
            self._hear(notice)

    def _hear(self, notice: Notice) -> None:
        name = self._upstream.name
        if (kind := heard_kind(notice)) is not None:
            self._relist(name, self._owner)
            for ear in self._ears:
                if kind in ear.kinds:
                    ear.changed.add(kind)
                    ear.wake()
        elif notice.method == UPDATED and isinstance(uri := notice.params.get("uri"), str):
            for ear in self._ears:
                ear.hear_update(name, uri)
        elif notice.method == TASK_CHANGED and (id := own_id(notice.params)) is not None:
            for ear in self._ears:
                ear.hear_task(TaskPlace(name, id), notice.params)


def _is_part(uri: str, whole: str) -> bool:
    return uri == whole or (uri.startswith(whole) and (whole.endswith("/") or uri[len(whole)] in "/?#"))
