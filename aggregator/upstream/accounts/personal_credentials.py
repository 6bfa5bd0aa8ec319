"""What requests to one upstream carry where each person has an account of their own there.

A person without a connection is sent as they are: a public upstream answers, and
one that does not asks for a login (401), for this person and this moment alone.
This file must not know what a refresh is, nor HTTP beyond the two statuses.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from ...config.model import Upstream
from ...errors import ConnectNeeded, UpstreamLost
from ...protocol.brokering.challenge import parse_challenge
from ...protocol.principal import Principal
from ..credentials import SHARED, Credential, Standing, configured_headers
from .connection_life import is_refreshable
from .connections import Connections, Held

SETTLED = 30.0  # seconds; a token younger than this that is refused is not refused for its age
SHOWN_SCOPE = 200  # characters of an upstream's own words in a message of ours
ASKS = "it asks for a login"


class PersonalCredentials:
    """The `Credentials` of an upstream with ``auth.type: user``."""

    def __init__(self, upstream: Upstream, connections: Connections, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._connections = connections
        self._clock = clock
        self._anonymous = Credential(headers=configured_headers(upstream))

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        return self._connections.at_hand(principal, self._upstream.name)

    async def standing(self, principal: Principal) -> Standing:
        held = await self._connections.held(principal, self._upstream.name)
        return SHARED if held is None else held.standing

    async def current(self, principal: Principal | None) -> Credential:
        if principal is None:
            return self._anonymous
        held = await self._connections.held(principal, self._upstream.name)
        if held is None:
            return self._anonymous
        self._connections.check(self._upstream, held)
        self._connections.note_use(held)
        if self._clock() < held.due_at or not is_refreshable(held.connection):
            return held.credential
        return (await self._connections.refreshed(self._upstream, held)).credential

    async def renewed(
        self, principal: Principal | None, refused: Credential, status: int, challenge: str
    ) -> Credential | None:
        if principal is None:
            if status == 401:  # nobody in particular asked, but whoever it is can help by connecting
                raise ConnectNeeded(self._upstream.name, ASKS)
            return None
        held = await self._connections.read(principal, self._upstream.name)
        if status == 403:
            return await self._widened(held, challenge)
        if held is None:
            raise ConnectNeeded(self._upstream.name, ASKS)
        self._connections.check(self._upstream, held)
        if held.credential != refused:
            return held.credential  # somebody has refreshed it, or connected, in the meantime
        return await self._replaced(held)

    async def _replaced(self, held: Held) -> Credential:
        """Another credential than this one, which was refused with 401.

        One refusal is worth one refresh, and what is new and refused all the same is not refreshed again: neither the
        authorization server nor the person is asked in a circle.
        """
        if self._clock() - held.connection.issued_at < SETTLED:
            if held.connection.generation == 0:
                # Asking the person again is of no use: they have just logged in.
                raise UpstreamLost("it refuses the login although it was just made (401)", executed=False)
            self._connections.note_refused(held)
            raise ConnectNeeded(self._upstream.name, "it refuses the login although it was just renewed")
        if not is_refreshable(held.connection):
            reason = "its login is no longer accepted and cannot be renewed without you"
            await self._connections.end(held, reason)
            raise ConnectNeeded(self._upstream.name, reason)
        return (await self._connections.refreshed(self._upstream, held, was_refused=True)).credential

    async def _widened(self, held: Held | None, challenge: str) -> Credential | None:
        """MCP "Scope Step-up": 403 with ``insufficient_scope`` asks for more than the token has. It stays as it is."""
        asked = parse_challenge(challenge)
        if asked.error != "insufficient_scope":
            return None
        if held is None:
            raise ConnectNeeded(self._upstream.name, ASKS)
        self._connections.check(self._upstream, held)
        if await self._connections.want_scope(held, asked.scope):
            named = textwrap.shorten(asked.scope or "", SHOWN_SCOPE, placeholder=" ...")
            raise ConnectNeeded(self._upstream.name, f"it wants you to allow more: {named}")
        return None
