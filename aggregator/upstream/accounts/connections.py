"""People's own accounts at upstreams: made, kept fresh, shown and ended.

`credentials` gives what the requests to one upstream carry. This file must not
know how an authorization server is asked, nor what a page looks like.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from ...config.model import Upstream
from ...errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from ...protocol.brokering import Beginning, IssuedTokens
from ...protocol.principal import Principal
from ...store import Connection, Store
from ..credentials import SHARED, Credential, Standing, configured_headers
from .connection_life import (
    as_far_as_meant,
    is_alive,
    needs_login,
    owner_of,
    refresh_due_at,
    standing_of,
    widened_scope,
)
from .known_connections import KnownConnections
from .refreshing import POLL, REVOKE_DEADLINE, OAuthClient, Refreshes, progress_of

PATIENCE = 10.0  # seconds that a request waits for a token without which it cannot go; the refresh itself goes on
EARLY_PATIENCE = 2.0  # seconds, while the old token is still good
NEWS = 1.0  # seconds at most until a connection made in another process is seen by those who wait for it
CLOSING = 3.0  # seconds that refreshes under way get when the block is left
MAX_REFUSED = 10_000
USE_NOTED_EVERY = 86400.0  # seconds; a write for a connection and day, so that unused ones are found

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A row, and what follows from it until it changes."""

    connection: Connection
    credential: Credential = field(repr=False)
    standing: Standing
    due_at: float


class Connections:
    """Made by `open_connections`, whose nursery owns the refreshes."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        oauth: OAuthClient,
        upstreams: Iterable[Upstream],
        clock: Callable[[], float],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._clock = clock
        self._refreshes = Refreshes(nursery, store, oauth, clock, self._on_change)
        self._known = KnownConnections(store, self._hold)
        self.know(upstreams)
        self._refused: OrderedDict[str, int] = OrderedDict()  # by owner: the generation that its upstream refused
        self._news: dict[str, trio.Event] = {}
        self._noting: set[str] = set()  # ids of the connections whose use is being noted

    def __repr__(self) -> str:
        return f"<Connections {self._known!r}, {self._refreshes!r}>"

    def know(self, upstreams: Iterable[Upstream]) -> None:
        """These are the upstreams of the configuration, from now on."""
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._headers = {name: configured_headers(upstream) for name, upstream in self._upstreams.items()}
        self._known.forget_all()  # what was prepared for the ones before

    @property
    def is_behind(self) -> bool:
        """Whether tokens are in this process's memory alone, for readiness: ending it now would lose them."""
        return self._refreshes.is_behind

    def stamp(self, principal: Principal) -> object | None:
        """An object that stays the same as long as every `at_hand` of the person does; None if they are not known."""
        return self._known.at_hand(principal)

    def at_hand(self, principal: Principal, upstream: str) -> Standing | None:
        """How the person stands with one upstream, if that is known without waiting."""
        rows = self._known.at_hand(principal)
        if rows is None:
            return None
        held = rows.get(upstream)
        return SHARED if held is None else held.standing

    async def standing(self, principal: Principal) -> Mapping[str, Standing]:
        """How the person stands with every upstream of which they have, or had, a connection.

        Raises:
            StoreUnavailable: if it is not known now.
        """
        rows = await self._known.look_up(principal)
        return {upstream: held.standing for upstream, held in rows.items()}

    async def held(self, principal: Principal, upstream: str) -> Held | None:
        """The person's connection as it was a moment ago. Raises: as `standing`."""
        rows = self._known.at_hand(principal)
        if rows is None:
            rows = await self._known.look_up(principal)
        return rows.get(upstream)

    async def read(self, principal: Principal, upstream: str) -> Held | None:
        """The person's connection as it is in the store now. Raises: as `standing`."""
        return (await self._known.read(principal)).get(upstream)

    async def save(self, principal: Principal, upstream: str, beginning: Beginning, issued: IssuedTokens) -> None:
        """Remember what the person's login at the upstream gave, in the place of what they had before.

        What they had is not revoked: servers may take the new tokens with the old.

        Raises:
            StoreUnavailable: if it cannot be remembered; it is lost then.
        """
        now = self._clock()
        connection = Connection(
            principal,
            upstream,
            secrets.token_hex(16),
            issued.access_token,
            issued.refresh_token,
            token_type=issued.token_type,
            scope=issued.scope or beginning.scope,  # RFC 6749 5.1: none means the one asked for
            expires_at=None if issued.lifetime is None else now + issued.lifetime,
            issuer=beginning.issuer,
            client_id=beginning.client_id,
            resource=beginning.resource,
            account=issued.account,
            connected_at=now,
            issued_at=now,
            used_at=now,
        )
        try:
            with trio.CancelScope(shield=True):  # as long as one write takes: the code is spent
                await self._store.save_connection(connection)
        finally:
            self._on_change(principal)

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        """Forget the person's connection, then have its tokens revoked where they came from, which is waited for
        `REVOKE_DEADLINE` at most. False if there was none.

        Raises:
            StoreUnavailable: if it cannot be forgotten; it goes on then.
        """
        try:
            with trio.CancelScope(shield=True):
                gone = await self._store.forget_connection(principal, upstream)
        finally:
            self._on_change(principal)
        if gone is None:
            return False
        gone = self._refreshes.amended(gone)
        config = self._upstreams.get(upstream)
        if config is not None:
            told = trio.Event()
            self._nursery.start_soon(self._revoke, config, gone, told)
            with trio.move_on_after(REVOKE_DEADLINE):
                await told.wait()
        return True

    async def wait_connected(self, principal: Principal, upstream: str) -> None:
        """Return once the person has a connection with which there is nothing left for them to do."""
        while True:
            news = self._news.setdefault(principal.key, trio.Event())
            try:
                if await self._is_connected(principal, upstream):
                    return
                with trio.move_on_after(NEWS):
                    await news.wait()
            finally:
                if not news.statistics().tasks_waiting and self._news.get(principal.key) is news:
                    del self._news[principal.key]

    async def refreshed(self, upstream: Upstream, held: Held, *, was_refused: bool = False) -> Held:
        """The connection with a token to go on with: a new one, or the old one while that is good.

        Waits `PATIENCE` seconds at most. A token that `was_refused` is no good.

        Raises:
            ConnectNeeded: if the connection has ended.
            UpstreamLost: if there is no good token now; nothing was sent to the upstream.
            StoreUnavailable: if the store keeps it from being refreshed.
        """
        first = held.connection
        is_good = not was_refused and is_alive(first, now=self._clock())
        with trio.move_on_after(EARLY_PATIENCE if is_good else PATIENCE):
            while True:
                pause = (held.connection.next_try_at or 0.0) - self._clock()
                if pause > 0 and (is_good or pause > PATIENCE):
                    break
                if pause > 0:
                    await trio.sleep(pause)
                try:
                    await self._refreshes.wait_refreshed(upstream, held.connection)
                    found = await self.read(first.principal, upstream.name)
                except StoreUnavailable:
                    if is_good:
                        break
                    raise
                self.check(upstream, found)
                assert found is not None
                if (found.connection.id, found.connection.generation) != (first.id, first.generation):
                    return found
                if is_good:
                    break
                if progress_of(found.connection) == progress_of(held.connection):
                    await trio.sleep(POLL)  # nothing came of it: another process still waits for its answer
                held = found
        if is_good and is_alive(first, now=self._clock()):
            return held
        raise UpstreamLost(_words(held.connection, now=self._clock()), executed=False)

    def check(self, upstream: Upstream, held: Held | None) -> None:
        """Return if the connection goes on.

        Raises:
            ConnectNeeded: if the person has to log in first.
        """
        reason = "it was disconnected" if held is None else needs_login(held.connection, now=self._clock())
        if reason is not None:
            raise ConnectNeeded(upstream.name, reason)

    async def end(self, held: Held, reason: str) -> None:
        """Note that a connection has ended for a reason of its upstream's. Raises: as `standing`."""
        try:
            with trio.CancelScope(shield=True):
                ended = await self._store.end_connection(held.connection, reason=reason)
        finally:
            self._on_change(held.connection.principal)
        if ended:
            who, upstream = held.connection.principal, held.connection.upstream
            log.info("the connection of %s at %s has ended: %s", who, upstream, reason)

    async def want_scope(self, held: Held, asked: str | None) -> bool:
        """Note that the next login has to ask for this too; False if that would be of no use. Raises: as `standing`."""
        wanted = widened_scope(held.connection, asked)
        if wanted is None:
            return False
        if wanted != held.connection.wanted_scope:
            await self._store.want_scope(held.connection, wanted)
            self._on_change(held.connection.principal)
        return True

    def note_use(self, held: Held) -> None:
        """Something is asked with this connection: it is written down once a day, by a task of ours."""
        connection, now = held.connection, self._clock()
        is_known = connection.used_at is not None and now - connection.used_at < USE_NOTED_EVERY
        if not is_known and connection.id not in self._noting:
            self._noting.add(connection.id)
            self._nursery.start_soon(self._note_use, connection, now)

    def note_refused(self, held: Held) -> None:
        """Another login has to come before this connection counts as one again for those who wait."""
        self._refused[held.credential.owner] = held.connection.generation
        self._refused.move_to_end(held.credential.owner)
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)

    async def _is_connected(self, principal: Principal, upstream: str) -> bool:
        try:
            held = await self.read(principal, upstream)
        except StoreUnavailable:
            return False
        if held is None:
            return False
        connection = held.connection
        return (
            needs_login(connection, now=self._clock()) is None
            and connection.wanted_scope is None
            and self._refused.get(held.credential.owner) != connection.generation
        )

    def _hold(self, stored: Connection) -> Held:
        upstream = self._upstreams.get(stored.upstream)
        connection = self._refreshes.amended(stored)
        connection = as_far_as_meant(connection, None if upstream is None else upstream.url)
        headers = tuple(
            header for header in self._headers.get(connection.upstream, ()) if header[0] != b"authorization"
        )
        authorization = (b"authorization", b"Bearer " + (connection.access_token or "").encode())
        credential = Credential(owner_of(connection), (*headers, authorization))
        standing = standing_of(connection, now=self._clock())
        return Held(connection, credential, standing, refresh_due_at(connection))

    def _on_change(self, principal: Principal) -> None:
        self._known.forget(principal)
        news = self._news.pop(principal.key, None)
        if news is not None:
            news.set()

    async def _note_use(self, connection: Connection, now: float) -> None:
        try:
            await self._store.note_use(connection, now=now)
            self._known.forget(connection.principal)
        except StoreUnavailable as exc:
            log.debug("the use of a connection was not noted: %s", exc)  # it is tried again with the next
        finally:
            self._noting.discard(connection.id)

    async def _revoke(self, upstream: Upstream, gone: Connection, told: trio.Event) -> None:
        try:
            await self._refreshes.revoke(upstream, gone)
        finally:
            told.set()


def _words(connection: Connection, *, now: float) -> str:
    """Why there is no token now, and when there may be one."""
    pause = (connection.next_try_at or 0.0) - now
    if pause > 0:
        why = connection.reason or "its authorization server does not answer"
        return f"the login cannot be renewed now: {why}; it is tried again in {pause:.0f} s. Call again after that"
    return "the login is being renewed and that takes longer than usual; call again in a moment"


@asynccontextmanager
async def open_connections(
    store: Store, oauth: OAuthClient, upstreams: Iterable[Upstream], *, clock: Callable[[], float]
) -> AsyncIterator[Connections]:
    """People's connections at `upstreams`; refreshes under way get `CLOSING` seconds when the block is left."""
    async with trio.open_nursery() as nursery:
        yield Connections(nursery, store, oauth, upstreams, clock)
        nursery.cancel_scope.deadline = trio.current_time() + CLOSING
