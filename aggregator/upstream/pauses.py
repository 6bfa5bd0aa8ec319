"""When an upstream asked to be left alone for a while (Retry-After), it is, by everybody whom it meant.

A 503 speaks of the server, a 429 of whoever asked. Nothing is retried here or
anywhere: whoever calls meanwhile is told at once how long to wait, and the
upstream does not hear of it. This file knows no HTTP and no clock.
"""

from __future__ import annotations

from ..errors import UpstreamRefused

# Seconds. A server says an hour as lightly as a second, of all its tools for the sake of one.
LONGEST_PAUSE = 30.0
MAX_OWNERS = 10_000

_SERVER = 503
_ASKER = 429


class Pauses:
    """Of one upstream. `owner` is whose credential a request carries."""

    def __init__(self) -> None:
        self._everyone: tuple[float, UpstreamRefused] | None = None
        self._owners: dict[str, tuple[float, UpstreamRefused]] = {}

    def check(self, owner: str, now: float) -> None:
        """Return if the upstream may be asked for `owner`.

        Raises:
            UpstreamRefused: what it said, with the time that is left; nothing was sent.
        """
        for until, refusal in filter(None, (self._everyone, self._owners.get(owner))):
            if now < until:
                raise UpstreamRefused(
                    refusal.status, f"{refusal}, and was not asked again yet", retry_after=round(until - now, 1)
                ) from refusal
        self._owners.pop(owner, None)

    def note(self, refusal: UpstreamRefused, owner: str, now: float) -> None:
        """The upstream said this."""
        if not refusal.retry_after:
            return
        pause = now + min(refusal.retry_after, LONGEST_PAUSE), refusal.with_traceback(None)
        if refusal.status == _SERVER:
            self._everyone = pause
        elif refusal.status == _ASKER:
            if len(self._owners) >= MAX_OWNERS:
                self._owners = {key: kept for key, kept in self._owners.items() if now < kept[0]}
            self._owners[owner] = pause
