"""An authorization server for connections: rotating refresh tokens, each good once, and every way to fail.

Also a person's connection to it, two instances over one store, and a store that is away. No test knowledge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from aggregator.config.model import Upstream
from aggregator.errors import StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import Beginning, Ended, IssuedTokens, Postponed
from aggregator.protocol.principal import Principal
from aggregator.store import Connection, Store
from aggregator.upstream.accounts.connections import Connections, open_connections
from aggregator.upstream.accounts.personal_credentials import PersonalCredentials

from ..store.samples import ADA, NOW

ISSUER = "https://login.gmail.example"
GMAIL = Upstream("gmail", "https://mcp.gmail.example/mcp", "gmail")
LIFETIME = 3600.0


class Wall:
    """Wall time that goes with trio's. Made before the run that asks it."""

    def __init__(self) -> None:
        self._begun: float | None = None

    def __call__(self) -> float:
        if self._begun is None:
            self._begun = trio.current_time()
        return NOW + (trio.current_time() - self._begun)


class TokenServer:
    """What an OAuth client sees of it. Tokens are numbered; the family ends when a refresh token comes twice."""

    def __init__(self) -> None:
        self.good = "refresh-0"
        self.retired: set[str] = set()  # of logins before the last one: good no more, and harmless
        self.number = 0
        self.asked: list[dict[str, Any]] = []
        self.script: list[Postponed | float | Exception] = []  # before it does its work: an answer, or seconds to hang
        self.takes = 0.0  # seconds before it acts, and again before it answers
        self.rotates = True
        self.lifetime: float | None = LIFETIME
        self.scope: str | None = None
        self.revoked: list[tuple[str, str, str]] = []
        self.revoking_hangs = False

    async def refresh(self, upstream: Upstream, *, refresh_token: str, **rest: Any) -> IssuedTokens | Ended | Postponed:
        self.asked.append({"upstream": upstream.name, "refresh_token": refresh_token, **rest})
        await trio.sleep(self.takes)
        if self.script:
            match self.script.pop(0):
                case Postponed() as postponed:
                    return postponed
                case Exception() as failure:
                    raise failure
                case seconds:
                    await trio.sleep(seconds)
        if refresh_token in self.retired:
            return Ended("there is a newer login")
        if refresh_token != self.good:
            self.good = "none: a token came twice"
            return Ended("the login was withdrawn")
        self.number += 1
        renewed = f"refresh-{self.number}" if self.rotates else None
        self.good = renewed or self.good
        issued = IssuedTokens(f"access-{self.number}", renewed, "Bearer", self.scope, self.lifetime)
        await trio.sleep(self.takes)
        return issued

    async def revoke(self, upstream: Upstream, *, issuer: str, client_id: str, token: str, hint: str) -> bool:
        self.revoked.append((issuer, token, hint))
        await trio.sleep(trio.current_time() + 1e6 if self.revoking_hangs else 0)
        return True


class FailingStore:
    """A store that is away for the methods named."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away: set[str] = set()
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        if name in self.away:
            return self._fail
        if name == "connections_of":
            self.reads += 1
        return getattr(self._store, name)

    async def _fail(self, *args: object, **more: object) -> object:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("the disk is full")


def row(**changes: Any) -> Connection:
    """Ada's connection, made now: its access token is good for an hour."""
    made = Connection(
        ADA,
        "gmail",
        "c1",
        "access-0",
        "refresh-0",
        scope="mail.read",
        expires_at=NOW + LIFETIME,
        issuer=ISSUER,
        client_id="our-id",
        resource=GMAIL.url,
        account="ada@gmail.example",
        connected_at=NOW,
        issued_at=NOW,
        used_at=NOW,
    )
    return replace(made, **changes)


def expired(**changes: Any) -> Connection:
    return row(**{"connected_at": NOW - LIFETIME, "issued_at": NOW - LIFETIME, "expires_at": NOW, **changes})


def near_its_end(**changes: Any) -> Connection:
    """Good for a minute still, and due."""
    return expired(**{"expires_at": NOW + 59, **changes})


def beginning(**changes: Any) -> Beginning:
    made = Beginning(
        url="",
        upstream="gmail",
        issuer=ISSUER,
        token_endpoint=f"{ISSUER}/token",
        iss_promised=True,
        client_id="our-id",
        resource=GMAIL.url,
        scope="mail.read",
        redirect_uri="https://mcp.example/upstream-auth/callback/gmail",
        verifier="v",
    )
    return replace(made, **changes)


@asynccontextmanager
async def instance(
    store: Any, server: Any, wall: Wall, upstream: Upstream = GMAIL
) -> AsyncIterator[tuple[Connections, PersonalCredentials]]:
    async with open_connections(store, server, [upstream], clock=wall) as connections:
        yield connections, PersonalCredentials(upstream, connections, wall)


async def gather(count: int, ask: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """The answers of `count` calls that run at once."""
    answers: list[Any] = []

    async def one(number: int) -> None:
        answers.append(await ask(number))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return answers


async def stored(store: FailingStore) -> Connection:
    found = await store.find_connection(ADA, "gmail")
    assert isinstance(found, Connection)
    return found


async def either(credentials: PersonalCredentials) -> str:
    """The token, or why there is none."""
    try:
        return await token_of(credentials)
    except UpstreamLost as exc:
        return str(exc)


async def token_of(credentials: PersonalCredentials, who: Principal = ADA) -> str:
    """The access token that a request of `who` carries now."""
    sent = dict((await credentials.current(who)).headers).get(b"authorization", b"Bearer ")
    return sent.decode().removeprefix("Bearer ")
