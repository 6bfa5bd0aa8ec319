"""Every decision of being an OAuth client of upstreams: whom to ask, what to send, what an answer means. Pure.

The values here are what the rest of the aggregator sees of it. Nothing in this
room knows HTTP, stores or browsers.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Beginning:
    """A person's way to an authorization server, begun: where to send the browser, and what to hold on to meanwhile.

    All but `url` is sealed into the browser's cookie and comes back for the exchange (RFC 9700 4.4: the code goes to
    the `token_endpoint` recorded here, whatever the metadata says by then).
    """

    url: str
    upstream: str
    issuer: str
    token_endpoint: str
    iss_promised: bool  # the server's metadata says that its answers carry `iss` (RFC 9207 3)
    client_id: str
    resource: str | None
    scope: str | None
    redirect_uri: str
    verifier: str = field(repr=False)
    answers_as: str | None = None  # what `iss` of its answers says, if not `issuer`


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """What an authorization server gave. `lifetime` is in seconds, None where it named none.

    `refresh_token` None means that it sent none: at a refresh, the one at hand stays good (RFC 6749 6).
    `account` is how the person is called there, if that could be learned; a label, never an identity.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    token_type: str
    scope: str | None
    lifetime: float | None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The refresh token is no longer good (RFC 6749 5.2 ``invalid_grant``, or no refresh token): the person has to
    connect again. `reason` is for them."""

    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """The authorization server did not decide: busy, broken, unreachable. The connection stays.

    `retry_after` is in seconds, where the server named it.
    """

    reason: str
    retry_after: float | None = None
