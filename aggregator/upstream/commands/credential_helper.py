"""A credential that a program prints: run once for everybody who asks, kept until shortly before it expires.

An error of the program is an error, never an older credential.
Runs belong to the app's nursery: whoever asked may go. This file must not know
what the credential is sent to.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ...errors import UpstreamLost
from ...protocol.principal import Principal
from ..credentials import SHARED, Credential, Standing
from .child import Command, StartChild, open_child
from .program_output import printed_by

LEEWAY = 30.0  # seconds before its end at which a credential is no longer used, half its life if that is less
SHORTEST_LIFE = 10.0  # seconds; one that expires sooner, or has by our clock, must not make every call a run
PAUSE = 5.0  # seconds for which a failure stands, so that a hundred calls do not wait for a hundred runs
RERUN_PAUSE = 60.0  # seconds in which a credential that came of a refusal is not refused away again: it lacks a right

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Printed:
    """What the program printed, and until when (wall clock) it is used."""

    credential: Credential
    usable_until: float
    printed_at: float
    after_refusal: bool


@dataclass(slots=True, eq=False)
class _Run:
    """One run of the program, and how it ended."""

    ended: trio.Event = field(default_factory=trio.Event)
    printed: _Printed | None = None
    cause: str = ""


class HelperCredentials:
    """The credential of one upstream for everyone, as `Authorization: Bearer`; `more` are the headers beside it.

    `ttl` is how long a credential lives that does not say so itself, in seconds.
    """

    def __init__(
        self,
        upstream: str,
        command: Command,
        nursery: trio.Nursery,
        *,
        ttl: float,
        clock: Callable[[], float],
        more: tuple[tuple[bytes, bytes], ...] = (),
        start: StartChild = open_child,
    ) -> None:
        self.runs = 0
        self._upstream = upstream
        self._command = command
        self._nursery = nursery
        self._ttl = ttl
        self._clock = clock
        self._more = more
        self._start = start
        self._printed: _Printed | None = None
        self._running: _Run | None = None
        self._failed: tuple[float, str] | None = None  # until when (trio's clock), and why

    def __repr__(self) -> str:
        return f"<HelperCredentials {self._command.name} for {self._upstream}, {self.runs} runs>"

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        return SHARED

    async def standing(self, principal: Principal) -> Standing:
        return SHARED

    async def current(self, principal: Principal | None) -> Credential:
        """See `Credentials.current`.

        Raises:
            UpstreamLost: if the program fails.
        """
        if (printed := self._printed) is not None and self._clock() < printed.usable_until:
            return printed.credential
        return (await self._fresh(after_refusal=False)).credential

    async def renewed(
        self, principal: Principal | None, refused: Credential, status: int, challenge: str
    ) -> Credential | None:
        """See `Credentials.renewed`. The program runs again for it, unless it just did for the same reason.

        Raises:
            UpstreamLost: if the program fails.
        """
        printed = self._printed
        if printed is not None and printed.credential != refused:
            return await self.current(principal)  # somebody else was refused before us
        if printed is not None and printed.after_refusal and self._clock() - printed.printed_at < RERUN_PAUSE:
            return None
        self._printed = None  # whatever comes of the run, what was refused is not used again
        fresh = await self._fresh(after_refusal=True)
        return None if fresh.credential == refused else fresh.credential

    async def _fresh(self, *, after_refusal: bool) -> _Printed:
        """Of the run under way, or a new one."""
        if (run := self._running) is None:
            if self._failed is not None and trio.current_time() < self._failed[0]:
                raise UpstreamLost(self._failed[1], executed=False)
            run = self._running = _Run()
            self._nursery.start_soon(self._tend, run, after_refusal)
        await run.ended.wait()
        if run.printed is None:
            raise UpstreamLost(run.cause, executed=False)
        return run.printed

    async def _tend(self, run: _Run, after_refusal: bool) -> None:
        run.cause = f"its credential helper {self._command.name} was stopped"
        try:
            self.runs += 1
            what = f"credential helper {self._command.name} of upstream {self._upstream}"
            text = await printed_by(self._command, what, start=self._start)
            now = self._clock()
            life = life_of(text, now, self._ttl)
            headers = (*self._more, (b"authorization", b"Bearer " + text))
            until = now + life - min(LEEWAY, life / 2)
            run.printed = self._printed = _Printed(Credential(headers=headers), until, now, after_refusal)
            self._failed = None
        except UpstreamLost as exc:
            run.cause = f"its credential helper {self._command.name} {exc}"
            self._printed = None
            self._failed = trio.current_time() + PAUSE, run.cause  # whoever asked says it, and once
        finally:
            self._running = None
            run.ended.set()


def life_of(text: bytes, now: float, ttl: float) -> float:
    """Seconds for which the credential lives: until a JWT's `exp`, unverified since it is not ours to judge; else
    `ttl`."""
    expires = _jwt_expiry(text)
    if expires is None:
        return ttl
    if expires <= now:
        log.warning("a credential helper printed a token that has expired by our clock; is one of them wrong?")
    return max(expires - now, SHORTEST_LIFE)


def _jwt_expiry(text: bytes) -> float | None:
    parts = text.split(b".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    expires = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    # Beyond the year 5000 nobody means it, NaN is no time, and 10**400 has no float.
    return float(expires) if abs(expires) < 1e11 else None
