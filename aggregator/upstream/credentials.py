"""What a request to an upstream carries to show on whose behalf it comes.

Here is the contract, and the kinds that know no person: nothing at all, and what
the operator configured. Each person's own accounts are `upstream/accounts/connections.py`'s
affair. This file must not know HTTP.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from ..config.headers import read_again
from ..config.model import AnyUpstream
from ..config.scalars import Wrong
from ..protocol.principal import Principal

log = logging.getLogger(__name__)

EVERYONE = ""  # the owner of what is the same for everyone


@dataclass(frozen=True, slots=True)
class Credential:
    """One request's proof. `owner` names those whose answers come of it: sessions and listings of different owners are
    never mixed. It is `EVERYONE`, or one connection of one person."""

    owner: str = EVERYONE
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"<Credential of {self.owner or 'everyone'}>"


NOTHING = Credential()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one person stands with one upstream, as far as is known without asking it.

    `state` is ``shared`` (nothing of the person's is needed, or nothing is known to be), ``connected``,
    ``needs_login`` or ``retrying`` (a refresh failed and is tried again at `next_try_at`).
    """

    owner: str = EVERYONE
    state: str = "shared"
    reason: str | None = None
    next_try_at: float | None = None
    account: str | None = None


SHARED = Standing()


class Credentials(Protocol):
    """The credentials of one upstream."""

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        """As `standing`, without waiting: None if it has to be looked up. Asked for every request."""
        ...

    async def standing(self, principal: Principal) -> Standing:
        """Raises:
        StoreUnavailable: if it is not known now.
        """
        ...

    async def current(self, principal: Principal | None) -> Credential:
        """What a request of `principal` carries now; None asks for what is sent on nobody's behalf.

        A token near its end is refreshed first, once for all who ask; the refresh goes on when this is cancelled.

        Raises:
            ConnectNeeded: if the person's connection has ended.
            UpstreamLost: if a token has expired and cannot be refreshed now; nothing was sent to the upstream.
            StoreUnavailable: if it is not known now.
        """
        ...

    async def renewed(
        self, principal: Principal | None, refused: Credential, status: int, challenge: str
    ) -> Credential | None:
        """After the upstream answered `refused` with 401 or 403: another credential, to send the request once more.

        None if there is no other and no person can help.

        Raises:
            ConnectNeeded: if the person has to connect, or to allow more than before.
            UpstreamLost, StoreUnavailable: as `current`.
        """
        ...


class ConfiguredCredentials:
    """What the operator configured for everyone, which may be nothing.

    A value from a file is read again when the upstream answers 401: whoever rotates a token writes the file anew and
    the old one ends. What the file holds then may be no header; that is logged, and the old value stays.
    """

    def __init__(self, upstream: AnyUpstream) -> None:
        self._upstream = upstream
        self._credential = Credential(headers=configured_headers(upstream))
        self._has_files = any(value.file is not None for _, value in upstream.headers)
        self._reading = trio.Lock()
        self._told = ""

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        return SHARED

    async def standing(self, principal: Principal) -> Standing:
        return SHARED

    async def current(self, principal: Principal | None) -> Credential:
        return self._credential

    async def renewed(
        self, principal: Principal | None, refused: Credential, status: int, challenge: str
    ) -> Credential | None:
        if status != 401 or not self._has_files:
            return None
        async with self._reading:
            if refused == self._credential:  # else another call has read it meanwhile
                await self._read_again()
            return self._credential if refused != self._credential else None

    async def _read_again(self) -> None:
        try:
            upstream = await trio.to_thread.run_sync(_read_again, self._upstream)
        except Wrong as exc:
            if str(exc) != self._told:
                self._told = str(exc)
                log.error("%s: its credential was refused, and cannot be read anew: %s", self._upstream.name, exc)
            return
        self._told = ""
        self._credential = Credential(headers=configured_headers(upstream))


def _read_again(upstream: AnyUpstream) -> AnyUpstream:
    return replace(upstream, headers=tuple((name, read_again(value)) for name, value in upstream.headers))


def configured_headers(upstream: AnyUpstream) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that go with every request to this upstream, whoever asks."""
    return tuple((name.lower().encode("ascii"), value.reveal().encode()) for name, value in upstream.headers)
