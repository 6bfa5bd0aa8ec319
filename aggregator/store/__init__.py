"""What is remembered: the four small things that cannot be stateless, and upstream tokens.

`Store` is the contract; `memory` and `sqlite` keep it, and one suite
(`tests/store/test_contract.py`) shows that both do. A store does not know what
a sealed token looks like, nor who asks. All times are seconds since the epoch
and come from the caller, so that virtual time works.

Every method raises `StoreUnavailable` when the store cannot be read or written
now. A write that has begun is finished even when the caller is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..protocol.principal import Principal

REFRESH_GRACE = 30.0  # seconds; a lost answer may be asked for again (reference: Hydra 0-300, Dex's obsolete token)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one person allowed one client: the lineage of its codes, access and refresh tokens.

    `client` is the registration's id, `generation` counts refreshes from 0,
    `expires_at` is the absolute end (OAuth 2.1 4.3: refresh tokens die with it).
    """

    id: str
    principal: Principal
    label: str
    client: str
    client_name: str
    redirect_uri: str
    scope: str
    resource: str
    created_at: float
    expires_at: float
    generation: int = 0
    rotated_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The code was good and is now spent."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Replayed:
    """The code or refresh token had been used before; its whole grant is revoked now."""

    grant_id: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The grant does not exist, has ended or was revoked."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A refresh went through. `grant.generation` is the generation to issue.

    `again` is True when the previous refresh token came within the grace: the current generation is issued once more.
    """

    grant: Grant
    again: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamToken:
    """One person's token at one upstream. The two texts are secrets; they are encrypted at rest."""

    principal: Principal
    upstream: str
    access_token: str
    refresh_token: str | None
    token_type: str
    scope: str | None
    expires_at: float | None

    def __repr__(self) -> str:
        return f"<UpstreamToken {self.upstream} of {self.principal.key}>"


class Store(Protocol):
    """What every store promises. Opened by `open_memory_store` or `open_sqlite_store`; closed by leaving that block."""

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        """Spend a one-time id. True exactly once per id, across every process that shares the store."""
        ...

    async def add_grant(self, grant: Grant) -> None:
        """Remember a new grant, together with the consent it rests on (who, which client, where, when)."""
        ...

    async def redeem(
        self, code: str, grant_id: str, *, now: float, expires_at: float, grant_until: float
    ) -> Redeemed | Replayed | Gone:
        """Spend the code with id `code` (until `expires_at`) and make its grant live until `grant_until`, all in one.

        A second redemption revokes the grant (OAuth 2.1 4.1.3).
        """
        ...

    async def rotate(self, grant_id: str, generation: int, *, now: float) -> Rotated | Replayed | Gone:
        """Exchange generation `generation` for the next, by compare-and-swap.

        The previous generation within `REFRESH_GRACE` seconds after the swap gets the current
        one again, without a new swap; any other generation is a replay and revokes the grant.
        """
        ...

    async def find_grant(self, grant_id: str) -> Grant | None: ...

    async def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        """The person's live grants, newest first."""
        ...

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        """End one grant. False when there was nothing to end."""
        ...

    async def revoked_since(self, since: float) -> frozenset[str]:
        """Ids of the grants revoked at or after `since`: what each process polls to refuse their access tokens."""
        ...

    async def save_upstream_token(self, token: UpstreamToken) -> None: ...

    async def find_upstream_token(self, principal: Principal, upstream: str) -> UpstreamToken | None:
        """The stored token; None also when the row cannot be decrypted (another key, or a row moved by hand)."""
        ...

    async def forget_upstream_token(self, principal: Principal, upstream: str) -> bool: ...

    async def purge(self, *, now: float) -> int:
        """Drop what has expired; returns how many rows went."""
        ...

    async def check(self) -> None:
        """Return if the store can be read and written, for ``/readyz``."""
        ...
