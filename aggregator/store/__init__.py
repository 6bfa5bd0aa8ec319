"""What is remembered: the four small things that cannot be stateless, and people's accounts at upstreams; and what
processes tell each other through it (`mail`, `session_rows`).

`Store` is the contract; `memory` and `sqlite` keep it, and one suite
(`tests/store/test_contract.py`) shows that both do. A store does not know what
a sealed token looks like, nor who asks. All times are seconds since the epoch
and come from the caller, so that virtual time works.

Every method raises `StoreUnavailable` when the store cannot be read or written
now. A write that has begun is finished even when the caller is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ..protocol.principal import Principal
from .mail import MailStore
from .session_rows import SessionStore

WORD_LASTS = 30.0  # seconds; processes leave it anew every 10
UNREADABLE = "what is stored of the login cannot be read any more"
UNUSED_FOR = 90 * 86400.0  # seconds after which a connection is dropped that nothing was asked with: a leaver's, or one
# of an upstream that is no longer configured. Somebody who comes back from a long leave still has theirs.
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
class Connection:
    """One person's account at one upstream. The two tokens are secrets; they are encrypted at rest.

    `id` is random and new with each connecting: what others keep of a connection (sessions, listings), they keep under
    it. `generation` counts refreshes from 0. The refresh token belongs to `client_id` at `issuer` and goes nowhere
    else; both are empty where they were never recorded. `resource` is RFC 8707's, None where none is sent. `account`
    is a label for pages and never an identity. `issued_at` is when the access token came.

    `state` is ``connected`` or ``needs_login``; the latter has no tokens, and a `reason` for the person. A connected
    one with a `next_try_at` could not be refreshed `failures` times for `reason`. `wanted_scope` is what the next
    connecting has to ask for. Until `lease_until`, `lease_owner` refreshes. `used_at` is when something was last asked
    with it, to the day; None where nobody noted it.
    """

    principal: Principal
    upstream: str
    id: str
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105  a kind, no secret
    scope: str | None = None
    expires_at: float | None = None
    issuer: str = ""
    client_id: str = ""
    resource: str | None = None
    account: str | None = None
    connected_at: float = 0.0
    issued_at: float = 0.0
    generation: int = 0
    state: str = "connected"
    reason: str | None = None
    wanted_scope: str | None = None
    failures: int = 0
    next_try_at: float | None = None
    lease_owner: str | None = None
    lease_until: float | None = None
    used_at: float | None = None

    def __repr__(self) -> str:
        return f"<Connection of {self.principal.key} at {self.upstream}, {self.state}, generation {self.generation}>"


@dataclass(frozen=True, slots=True)
class UpstreamRegistration:
    """What we are called at one authorization server that one upstream named. The secret is encrypted at rest.

    `auth_method` is the token endpoint's, as in RFC 7591; `scope` is what we registered for. `expires_at` is when the
    secret ends, None for never.
    """

    upstream: str
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    auth_method: str = "none"
    redirect_uri: str = ""
    scope: str | None = None
    expires_at: float | None = None


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


class Store(MailStore, SessionStore, Protocol):
    """What every store promises. Opened by `open_memory_store` or `open_sqlite_store`; closed by leaving that block."""

    async def consume(self, ticket: str, *, expires_at: float) -> bool:
        """Spend a one-time id. True exactly once per id, across every process that shares the store."""
        ...

    async def is_consumed(self, ticket: str) -> bool:
        """Whether a one-time id was spent, on whichever process, as long as that is remembered."""
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

    async def signed_out_at(self, principal: Principal) -> float | None:
        """When the person was last signed out everywhere, for those who hold a sign-in from before; kept for a day."""
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

    async def save_connection(self, connection: Connection) -> None:
        """Put this in the place of whatever the person had at the upstream."""
        ...

    async def find_connection(self, principal: Principal, upstream: str) -> Connection | None:
        """What the person has at the upstream.

        Tokens that cannot be decrypted (another key, or a row moved by hand) are left out, and it says ``needs_login``.
        """
        ...

    async def connections_of(self, principal: Principal) -> tuple[Connection, ...]:
        """Everything the person has, by name of upstream, as `find_connection`."""
        ...

    async def take_refresh(self, connection: Connection, *, owner: str, now: float, until: float) -> Connection | None:
        """The right to refresh `connection`, for `owner` alone until `until`; what is stored is returned.

        None if it is not the stored one by id and generation, if it needs a login or cannot be decrypted, if its next
        try is later than `now`, or if somebody else has the right.
        """
        ...

    async def renew_connection(
        self,
        connection: Connection,
        *,
        access_token: str,
        refresh_token: str | None,
        token_type: str,
        scope: str | None,
        issued_at: float,
        expires_at: float | None,
    ) -> bool:
        """Put what a refresh gave in the place of what `connection` has, as its next generation, ending the lease.

        By compare-and-swap of id and generation: False if it is not there any more. A refresh token or scope of None
        leaves the one at hand.
        """
        ...

    async def postpone_refresh(self, connection: Connection, *, reason: str, next_try_at: float) -> bool:
        """Note one more refresh that decided nothing, ending the lease.

        False if it is another one by id, generation or owner of the lease: whoever has that may know better.
        """
        ...

    async def want_scope(self, connection: Connection, scope: str) -> bool:
        """Note what the next connecting has to ask for; the tokens stay good. Compares by id."""
        ...

    async def note_use(self, connection: Connection, *, now: float) -> None:
        """Remember that something is asked with it, so that `purge` lets it be. Compares by id."""
        ...

    async def end_connection(self, connection: Connection, *, reason: str) -> bool:
        """Drop the tokens: it needs a login from now on. Compares as `postpone_refresh`."""
        ...

    async def forget_connection(self, principal: Principal, upstream: str) -> Connection | None:
        """Drop all of it; what was there is returned, for its tokens to be revoked where they came from."""
        ...

    async def save_registration(self, registration: UpstreamRegistration) -> None:
        """Put this in the place of the registration for the same upstream and issuer."""
        ...

    async def find_registration(self, upstream: str, issuer: str) -> UpstreamRegistration | None:
        """None also when its secret cannot be decrypted."""
        ...

    async def forget_registration(self, upstream: str, issuer: str, client_id: str) -> bool:
        """Drop the registration, if it still is the one with this `client_id`."""
        ...

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
        """Drop what has expired, and connections unused for `UNUSED_FOR`; returns how many rows went.

        The time of a connection without `used_at` begins now.
        """
        ...

    async def check(self) -> None:
        """Return if the store can be read and written, for ``/readyz``."""
        ...
