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

WORD_LASTS = 30.0  # seconds; processes leave it anew every 10
REFRESH_GRACE = 30.0  # seconds; a lost answer may be asked for again (reference: Hydra 0-300, Dex's obsolete token)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one person allowed one client: the lineage of its codes, access and refresh tokens.

    `client` is the registration's id, `generation` counts refreshes from 0,
    `expires_at` is the absolute end (OAuth 2.1 4.3: refresh tokens die with it),
    `logged_in_at` is when the person proved to the identity provider who they are.
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
    logged_in_at: float = 0.0


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


@dataclass(frozen=True, slots=True)
class LoginToken:
    """The identity provider's refresh token of one login: a secret, encrypted at rest.

    `id` is the login's, and the grant's that came of it; `generation` counts the provider's rotations.
    """

    id: str
    refresh_token: str
    generation: int

    def __repr__(self) -> str:
        return f"<LoginToken {self.id} generation {self.generation}>"


@dataclass(frozen=True, slots=True)
class OldRow:
    """A row that the sealing key did not encrypt, or not whole. `key` is its primary key, `key_ids` the keys it needs.

    `is_readable` is False when it does not open with the keys at hand; it counts as absent then.
    """

    table: str
    key: tuple[str, ...]
    key_ids: tuple[str, ...]
    is_readable: bool


class Store(Protocol):
    """What every store promises. Opened by `open_memory_store` or `open_sqlite_store`; closed by leaving that block."""

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        """Spend a one-time id. True exactly once per id, across every process that shares the store."""
        ...

    async def add_grant(self, grant: Grant) -> bool:
        """Remember a new grant, together with the consent it rests on (who, which client, where, when).

        False, and nothing is remembered, when its person or client was signed out at or after `grant.logged_in_at`.
        """
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

    async def find_grants(self, name: str) -> tuple[Grant, ...]:
        """The live grants of every person and every client that `name` may mean, newest first.

        A person by subject or label, a client by its id or name; upper and lower case of labels and names are one.
        """
        ...

    async def last_login(self, principal: Principal) -> float | None:
        """When the person last logged in at the identity provider, as far as their grants tell."""
        ...

    async def revoke_grant(self, grant_id: str, *, now: float) -> bool:
        """End one grant. False when there was nothing to end."""
        ...

    async def sign_out_person(self, principal: Principal, *, now: float) -> tuple[Grant, ...]:
        """End every grant of a person, with its codes and tokens; returns those that were live.

        A login that has not become a grant by `now` never will.
        """
        ...

    async def sign_out_client(self, client: str, *, now: float) -> tuple[Grant, ...]:
        """As `sign_out_person`, for every grant of the client with this id."""
        ...

    async def revoked_since(self, since: float) -> frozenset[str]:
        """Ids of the grants revoked at or after `since`: what each process polls to refuse their access tokens."""
        ...

    async def keep_login_token(
        self, login_id: str, refresh_token: str, *, next_check_at: float, kept_until: float
    ) -> None:
        """Keep the identity provider's refresh token of a login for the grant that will have the same id.

        It goes with the grant; where none comes, `purge` drops it after `kept_until`.
        """
        ...

    async def forget_login_token(self, login_id: str) -> bool: ...

    async def take_login_check(self, grant_id: str, *, now: float, next_check_at: float) -> LoginToken | None:
        """The refresh token of a live grant whose check is due; nobody else gets it before `next_check_at`.

        None when it is not due, when somebody else has taken it, and when there is none or it cannot be decrypted.
        """
        ...

    async def renew_login_token(self, token: LoginToken, refresh_token: str) -> bool:
        """Put the token that the provider gave in exchange in the place of `token`; False if that is not there."""
        ...

    async def end_login(self, token: LoginToken, *, now: float) -> bool:
        """End the grant of `token`, if the token is still the one that is kept: the provider refused it."""
        ...

    async def save_upstream_token(self, token: UpstreamToken) -> None: ...

    async def find_upstream_token(self, principal: Principal, upstream: str) -> UpstreamToken | None:
        """The stored token; None also when the row cannot be decrypted (another key, or a row moved by hand)."""
        ...

    async def forget_upstream_token(self, principal: Principal, upstream: str) -> bool: ...

    async def old_rows(self) -> tuple[OldRow, ...]:
        """Every row that keeps the ring's older keys needed."""
        ...

    async def reencrypt(self, row: OldRow) -> bool:
        """Encrypt a row with the sealing key. False if it is gone or cannot be read; harmless at any time."""
        ...

    async def announce_key(self, *, now: float) -> bool:
        """Leave word, for other processes, under which key this one seals.

        False when the word that is there cannot be opened with the keys at hand and is younger than `WORD_LASTS`:
        another process runs with another secret. Its word stays then.
        """
        ...

    async def purge(self, *, now: float) -> int:
        """Drop what has expired; returns how many rows went."""
        ...

    async def check(self) -> None:
        """Return if the store can be read and written, for ``/readyz``."""
        ...
