"""Refreshing a person's token once, whoever and however many ask, in this process and in others.

A row is leased before its authorization server is asked, and what the server
gives is swapped in by generation: `store.Store` says how. A refresh is a task of
ours and not of the request that caused it, since what the server has rotated is
lost with the one who holds it. Only the server's clear no ends a connection, and
only if the row is still the one that was asked about. This file must not know
how the server is asked, nor what the tokens are for.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, assert_never

import trio

from ...config.model import Upstream
from ...errors import StoreUnavailable, UpstreamLost
from ...protocol.brokering import Ended, IssuedTokens, Postponed
from ...protocol.principal import Principal
from ...store import Connection, Store
from .connection_life import is_refreshable, pause_after

REFRESH_DEADLINE = 20.0  # seconds for the authorization server, its metadata included
LEASE = REFRESH_DEADLINE + 5.0  # seconds; one shorter than the exchange lets a second one begin beside it
OTHERS_PATIENCE = 10.0  # seconds that a refresh in another process is waited for
POLL = 0.2  # seconds between two looks at it
REVOKE_DEADLINE = 5.0  # seconds; revoking is a courtesy
RETRY = 1.0  # seconds between two tries to store what was rotated, while the store is away
# Tries, over half a minute, for which a server that says not to know us any more may be mistaken (``invalid_client``):
# believed at once, one bad minute of its own would log everybody out.
DOUBTED = 5
TAKEOVER = 2.0  # seconds for which a lease that ran out is left to its owner, who may be about to store something

log = logging.getLogger(__name__)


class OAuthClient(Protocol):
    """Being a client of upstreams' authorization servers, as far as nobody has to be present."""

    async def refresh(
        self,
        upstream: Upstream,
        *,
        issuer: str,
        client_id: str,
        resource: str | None,
        scope: str | None,
        refresh_token: str,
        patient: bool,
    ) -> IssuedTokens | Ended | Postponed:
        """Ask `issuer`, and nobody else, for new tokens. No answer of it raises.

        `patient` lets it be mistaken where it says not to know us, which would end the connections of everybody.
        """
        ...

    async def revoke(self, upstream: Upstream, *, issuer: str, client_id: str, token: str, hint: str) -> bool:
        """Have `issuer` end the token (RFC 7009); False where it cannot or does not say."""
        ...


class _Refresh:
    """One that is under way, or over."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.trouble: StoreUnavailable | None = None


Key = tuple[str, str]


class Refreshes:
    """Those of one process; its tasks live in `nursery`. `on_change` hears whose row may be another one now."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        oauth: OAuthClient,
        clock: Callable[[], float],
        on_change: Callable[[Principal], None],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._oauth = oauth
        self._clock = clock
        self._on_change = on_change
        self._name = secrets.token_hex(8)
        self._under_way: dict[Key, _Refresh] = {}
        self._unwritten: dict[Key, Connection] = {}
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Refreshes {len(self._under_way)} under way, {self._waiting} wait for the store>"

    @property
    def is_behind(self) -> bool:
        """Whether tokens are in this process's memory alone, since the store could not take them."""
        return self._waiting > 0

    def amended(self, stored: Connection) -> Connection:
        """`stored`, or what became of it that the store could not be told."""
        kept = self._unwritten.get(_key(stored))
        if kept is None:
            return stored
        if stored.state != "connected" or kept.id != stored.id or kept.generation < stored.generation:
            del self._unwritten[_key(stored)]
            return stored
        return kept

    async def wait_refreshed(self, upstream: Upstream, held: Connection) -> None:
        """Return when a refresh of `held`, here or in another process, has come to something or taken too long.

        What it came to stands in the row. It goes on when this is cancelled.

        Raises:
            StoreUnavailable: if the row cannot be leased; then nobody was asked.
        """
        refresh = self._under_way.get(_key(held))
        if refresh is None:
            refresh = self._under_way[_key(held)] = _Refresh()
            self._nursery.start_soon(self._run, refresh, upstream, held)
        await refresh.over.wait()
        if refresh.trouble is not None:
            raise StoreUnavailable(str(refresh.trouble)) from refresh.trouble

    async def revoke(self, upstream: Upstream, connection: Connection) -> bool:
        """End the connection's tokens where they came from, if it says that it did; `REVOKE_DEADLINE` at most."""
        token, hint = connection.refresh_token, "refresh_token"
        if token is None:
            token, hint = connection.access_token, "access_token"
        if token is None or not connection.issuer:
            return False
        with trio.move_on_after(REVOKE_DEADLINE):
            try:
                return await self._oauth.revoke(
                    upstream, issuer=connection.issuer, client_id=connection.client_id, token=token, hint=hint
                )
            except (UpstreamLost, StoreUnavailable) as exc:
                log.info("%s was not told that %s is disconnected: %s", upstream.name, connection.principal, exc)
        return False

    async def _run(self, refresh: _Refresh, upstream: Upstream, held: Connection) -> None:
        try:
            await self._try(upstream, held)
        except StoreUnavailable as exc:
            refresh.trouble = exc
        finally:
            del self._under_way[_key(held)]
            self._on_change(held.principal)
            refresh.over.set()

    async def _try(self, upstream: Upstream, held: Connection) -> None:
        if held.lease_owner not in (None, self._name) and await self._is_left_to_another(held):
            return
        now = self._clock()
        taken = await self._store.take_refresh(held, owner=self._name, now=now, until=now + LEASE)
        if taken is None:
            await self._wait_for_another(held)
            return
        answer = await self._ask(upstream, taken)
        # From here to the end of the next write nothing may be cancelled: see rule 6 of the design, and `_write`.
        match answer:
            case IssuedTokens():
                await self._keep(upstream, taken, answer)
            case Ended(reason):
                await self._end(taken, reason)
            case Postponed(reason, retry_after):
                await self._postpone(taken, reason, retry_after)
            case _:
                assert_never(answer)

    async def _ask(self, upstream: Upstream, taken: Connection) -> IssuedTokens | Ended | Postponed:
        if taken.refresh_token is None or not is_refreshable(taken):
            return Ended("it cannot be renewed without you")
        with trio.move_on_after(REFRESH_DEADLINE):
            try:
                return await self._oauth.refresh(
                    upstream,
                    issuer=taken.issuer,
                    client_id=taken.client_id,
                    resource=taken.resource,
                    scope=taken.scope,
                    refresh_token=taken.refresh_token,
                    patient=taken.failures < DOUBTED,
                )
            except (UpstreamLost, StoreUnavailable) as exc:
                return Postponed(str(exc))
        return Postponed(f"its authorization server did not answer within {REFRESH_DEADLINE:g} s")

    async def _is_left_to_another(self, held: Connection) -> bool:
        """Whether another process's lease on the row, which may have run out, has come to something after all.

        Where the store was away, its owner may have the new tokens and no way to say so.
        """
        await self._wait_for_another(held)
        await trio.sleep(TAKEOVER)
        stored = await self._store.find_connection(held.principal, held.upstream)
        return stored is None or progress_of(stored) != progress_of(held)

    async def _wait_for_another(self, held: Connection) -> None:
        with trio.move_on_after(OTHERS_PATIENCE):
            while True:
                stored = await self._store.find_connection(held.principal, held.upstream)
                if stored is None or progress_of(stored) != progress_of(held):
                    return
                if stored.lease_until is None or stored.lease_until <= self._clock():
                    return  # whoever had it is gone, or has just decided
                await trio.sleep(POLL)

    async def _keep(self, upstream: Upstream, taken: Connection, issued: IssuedTokens) -> None:
        renewed = renewed_connection(taken, issued, now=self._clock())
        try:
            kept = await self._write(taken, renewed)
        except StoreUnavailable as exc:
            log.error(
                "the renewed token of %s at %s is in this process's memory alone, and lost if it ends now: %s",
                taken.principal.key,
                taken.upstream,
                exc,
            )
            self._unwritten[_key(taken)] = renewed
            self._nursery.start_soon(self._write_later, upstream, taken, renewed)
        else:
            await self._settle(upstream, taken, renewed, kept)

    async def _write(self, taken: Connection, renewed: Connection) -> bool:
        assert renewed.access_token is not None
        with trio.CancelScope(shield=True):  # as long as one write of the store takes
            kept = await self._store.renew_connection(
                taken,
                access_token=renewed.access_token,
                refresh_token=renewed.refresh_token,
                token_type=renewed.token_type,
                scope=renewed.scope,
                issued_at=renewed.issued_at,
                expires_at=renewed.expires_at,
            )
        return kept  # noqa: RET504  to a type checker, a scope may swallow what happens in it

    async def _write_later(self, upstream: Upstream, taken: Connection, renewed: Connection) -> None:
        """Put the renewed tokens into the store, however long that takes: the old ones are void."""
        written = False
        self._waiting += 1
        try:
            while not written:
                await trio.sleep(RETRY)
                try:
                    kept = await self._write(taken, renewed)
                    written = True
                except StoreUnavailable:
                    pass  # it was said once
        finally:
            self._waiting -= 1
            words = "is in the store now" if written else "could not be stored before this process ended"
            log.log(
                logging.INFO if written else logging.ERROR,
                "the renewed token of %s at %s %s",
                taken.principal.key,
                taken.upstream,
                words,
            )
        if self._unwritten.get(_key(taken)) is renewed:
            del self._unwritten[_key(taken)]
        self._on_change(taken.principal)
        await self._settle(upstream, taken, renewed, kept)

    async def _settle(self, upstream: Upstream, taken: Connection, renewed: Connection, kept: bool) -> None:
        """Say what became of it; tokens of a connection that the person has ended meanwhile are revoked.

        Not those of one that was made anew, or renewed by another process: servers may take the new ones with the old.
        """
        who = taken.principal
        if kept:
            if taken.failures:
                log.info("the login of %s at %s is renewed again", who, taken.upstream)
            return
        log.info("the connection of %s at %s has changed while it was renewed", who, taken.upstream)
        try:
            is_gone = await self._store.find_connection(taken.principal, taken.upstream) is None
        except StoreUnavailable:
            return
        if is_gone:
            await self.revoke(upstream, renewed)

    async def _end(self, taken: Connection, reason: str) -> None:
        who = taken.principal
        try:
            with trio.CancelScope(shield=True):
                ended = await self._store.end_connection(taken, reason=reason)
        except StoreUnavailable as exc:
            log.error("the connection of %s at %s has ended (%s); not noted: %s", who, taken.upstream, reason, exc)
            self._unwritten[_key(taken)] = replace(
                taken, state="needs_login", access_token=None, refresh_token=None, reason=reason
            )
        else:
            if ended:
                log.info("the connection of %s at %s has ended: %s", who, taken.upstream, reason)

    async def _postpone(self, taken: Connection, reason: str, retry_after: float | None) -> None:
        # Chance spreads the tries of those who failed together; nothing is kept secret by it.
        pause = pause_after(taken.failures, retry_after, chance=random.random())  # noqa: S311
        next_try_at = self._clock() + pause
        if not taken.failures:
            who = taken.principal
            log.warning("the login of %s at %s could not be renewed, and stays: %s", who, taken.upstream, reason)
        try:
            with trio.CancelScope(shield=True):
                await self._store.postpone_refresh(taken, reason=reason, next_try_at=next_try_at)
        except StoreUnavailable:
            failures = taken.failures + 1
            self._unwritten[_key(taken)] = replace(taken, reason=reason, failures=failures, next_try_at=next_try_at)
        else:
            self._unwritten.pop(_key(taken), None)


def renewed_connection(taken: Connection, issued: IssuedTokens, *, now: float) -> Connection:
    """`taken` with what its authorization server gave. What it did not give anew stays good (RFC 6749 6)."""
    return replace(
        taken,
        access_token=issued.access_token,
        refresh_token=issued.refresh_token or taken.refresh_token,
        token_type=issued.token_type,
        scope=issued.scope or taken.scope,
        issued_at=now,
        expires_at=None if issued.lifetime is None else now + issued.lifetime,
        generation=taken.generation + 1,
        reason=None,
        failures=0,
        next_try_at=None,
        lease_owner=None,
        lease_until=None,
    )


def progress_of(connection: Connection) -> tuple[object, ...]:
    """Differs when a refresh has come to something, whatever it was."""
    return (connection.id, connection.generation, connection.state, connection.failures)


def _key(connection: Connection) -> Key:
    return (connection.principal.key, connection.upstream)
