"""What the pages of people's own accounts expect of the rooms below them.

This file must not know any page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...config.model import Upstream
from ...protocol.brokering import Beginning, IssuedTokens
from ...protocol.catalog import Catalog
from ...protocol.principal import Principal
from ...upstream.credentials import EVERYONE
from ...upstream.listings import Listings, UpstreamStatus


class Challenging(Protocol):
    """An upstream that says what it wants of whoever comes without credentials."""

    async def ask_challenge(self) -> str:
        """Its WWW-Authenticate; empty if it says nothing. Bounded in time."""
        ...


class UpstreamOAuth(Protocol):
    """Being an OAuth client of upstreams' authorization servers."""

    async def begin(
        self,
        upstream: Upstream,
        *,
        challenge: str,
        wanted_scope: str | None,
        state: str,
        redirect_uri: str,
        unanswered: Collection[str],
    ) -> Beginning:
        """Where a person connects their account at `upstream`. `unanswered` are the client ids of their logins there
        that are under way, as far as is known: whoever begins again may not have got through.

        Raises:
            UpstreamLost: when the way there cannot be had; the text is for the person and the operator.
            StoreUnavailable: when our registration there cannot be remembered.
        """
        ...

    def check_answer(self, beginning: Beginning, parameters: Mapping[str, str]) -> None:
        """Return if the answer comes from the server asked: RFC 9207 2.4, before anything else in it is believed.

        Raises:
            Refusal: if it does not.
        """
        ...

    async def redeem(self, beginning: Beginning, code: str) -> IssuedTokens:
        """The tokens for `code`, which goes to the recorded token endpoint alone.

        Raises:
            UpstreamLost: when there are none; the text is for the person and the operator.
        """
        ...


class Connecting(Protocol):
    """People's connections, where they begin and end."""

    async def save(self, principal: Principal, upstream: str, beginning: Beginning, issued: IssuedTokens) -> None:
        """Raises:
        StoreUnavailable: when it cannot be remembered.
        """
        ...

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        """End the person's connection, at the authorization server as well where it can be. False if there was none.

        Raises:
            StoreUnavailable: when it cannot be forgotten; it goes on then.
        """
        ...


class Returning(Protocol):
    """Ports on this machine to which logins come back that cannot come back to a page of ours."""

    async def expect(self, state: str, port: int, page: str) -> str:
        """The redirect URI of the login `state`, whose answer is led on to `page`. `port` 0 is any free one.

        Raises:
            UpstreamLost: if the port cannot be had.
        """
        ...

    def forget(self, state: str) -> None:
        """This login is over, if it was one."""
        ...


@dataclass(frozen=True, slots=True)
class Controls:
    """`known` is how a person stands with every upstream as far as it is known, without waiting for any upstream;
    `try_now` has those that fail be tried, and names them."""

    known: Callable[[Principal], Awaitable[Sequence[UpstreamStatus]]]
    try_now: Callable[[str | None], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The parts. `statuses` says how one person stands with every upstream, in the order of configuration.

    `returns` is None where people's browsers are on other machines. `controls` are for the commands of local mode.
    """

    oauth: UpstreamOAuth
    connections: Connecting
    upstreams: Mapping[str, Challenging]
    statuses: Callable[[Principal], Awaitable[Sequence[UpstreamStatus]]]
    returns: Returning | None = None
    controls: Controls | None = None


async def catalog_of(listings: Listings, principal: Principal) -> Catalog:
    """Everything that a person may use. Waits, and raises, as `statuses`."""
    return await listings.catalog(await listings.view(principal))


async def statuses(listings: Listings, principal: Principal) -> tuple[UpstreamStatus, ...]:
    """How a person stands with every upstream; waits for listings that are missing or old, as any list does.

    Raises:
        StoreUnavailable: if the person's connections are not known now.
    """
    view = await listings.view(principal)
    await listings.catalog(view)
    return listings.status(view)


async def known_statuses(listings: Listings, principal: Principal) -> tuple[UpstreamStatus, ...]:
    """As `statuses`, as far as it is known now: no upstream is waited for. What an account that was just connected
    gives, it begins to list: else it would be "connecting" until a client comes."""
    view = await listings.view(principal)
    rows = listings.status(view)
    if any(row.state == "connecting" and row.standing.owner != EVERYONE for row in rows):
        listings.known_catalog(view)
    return rows
