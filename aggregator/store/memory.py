"""The store of one process that forgets everything when it ends.

Each method changes state between two checkpoints, so a cancelled call has
either done all of its work or none. This file does not know what the records mean.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import assert_never

import trio

from ..errors import StoreUnavailable
from ..protocol.principal import Principal
from . import Gone, Grant, Redeemed, Replayed, Rotated, Store, UpstreamToken
from .grants import is_live, is_past_keeping, redemption, rotation


class MemoryStore:
    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent: dict[str, float] = {}
        self._grants: dict[str, Grant] = {}
        self._tokens: dict[tuple[str, str], UpstreamToken] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._grants)} grants, {len(self._tokens)} upstream tokens>"

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._spend(ticket, expires_at)

    async def add_grant(self, grant: Grant) -> None:
        # No consent is kept beside it: nothing asks for consents, and here they would die with the grants anyway.
        await trio.lowlevel.checkpoint()
        if grant.id in self._grants:
            raise StoreUnavailable("a grant with this id exists already; ids must be random")
        self._grants[grant.id] = grant

    async def redeem(
        self, code: str, grant_id: str, *, now: float, expires_at: float, grant_until: float
    ) -> Redeemed | Replayed | Gone:
        await trio.lowlevel.checkpoint()
        outcome = redemption(
            self._grants.get(grant_id),
            grant_id,
            first_use=self._spend(code, expires_at),
            now=now,
            grant_until=grant_until,
        )
        self._apply(outcome, now)
        return outcome

    async def rotate(self, grant_id: str, generation: int, *, now: float) -> Rotated | Replayed | Gone:
        await trio.lowlevel.checkpoint()
        outcome = rotation(self._grants.get(grant_id), generation=generation, now=now)
        self._apply(outcome, now)
        return outcome

    async def find_grant(self, grant_id: str) -> Grant | None:
        await trio.lowlevel.checkpoint()
        return self._grants.get(grant_id)

    async def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        await trio.lowlevel.checkpoint()
        now = self._clock()
        mine = [grant for grant in self._grants.values() if grant.principal == principal and is_live(grant, now=now)]
        return tuple(sorted(mine, key=lambda grant: (-grant.created_at, grant.id)))

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._revoke(grant_id, now)

    async def revoked_since(self, since: float) -> frozenset[str]:
        await trio.lowlevel.checkpoint()
        return frozenset(
            grant.id for grant in self._grants.values() if grant.revoked_at is not None and grant.revoked_at >= since
        )

    async def save_upstream_token(self, token: UpstreamToken) -> None:
        await trio.lowlevel.checkpoint()
        self._tokens[token.principal.key, token.upstream] = token

    async def find_upstream_token(self, principal: Principal, upstream: str) -> UpstreamToken | None:
        await trio.lowlevel.checkpoint()
        return self._tokens.get((principal.key, upstream))

    async def forget_upstream_token(self, principal: Principal, upstream: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._tokens.pop((principal.key, upstream), None) is not None

    async def purge(self, *, now: float) -> int:
        await trio.lowlevel.checkpoint()
        tickets = [ticket for ticket, expires_at in self._spent.items() if expires_at <= now]
        ended = [grant.id for grant in self._grants.values() if is_past_keeping(grant, now=now)]
        for ticket in tickets:
            del self._spent[ticket]
        for grant_id in ended:
            del self._grants[grant_id]
        return len(tickets) + len(ended)

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    def _spend(self, ticket: str, expires_at: float) -> bool:
        if ticket in self._spent:
            return False
        self._spent[ticket] = expires_at
        return True

    def _revoke(self, grant_id: str, now: float) -> bool:
        grant = self._grants.get(grant_id)
        if grant is None or grant.revoked_at is not None:
            return False
        self._grants[grant_id] = replace(grant, revoked_at=now)
        return True

    def _apply(self, outcome: Redeemed | Rotated | Replayed | Gone, now: float) -> None:
        match outcome:
            case Redeemed(grant) | Rotated(grant):
                self._grants[grant.id] = grant
            case Replayed(grant_id):
                self._revoke(grant_id, now)
            case Gone():
                pass
            case _:
                assert_never(outcome)


@asynccontextmanager
async def open_memory_store(*, clock: Callable[[], float] = time.time) -> AsyncIterator[Store]:
    """A store for one process. `clock` says which grants `grants_of` counts as live."""
    yield MemoryStore(clock=clock)
