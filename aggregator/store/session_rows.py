"""What a client with handshakes said about its session after it began: one row, for those who said something.

The session itself is a sealed value. What a change does is decided here, for
every store alike. This file does not know what a session id looks like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, assert_never

MAX_SUBSCRIPTIONS = 500  # resources of one session
MAX_SUBSCRIBED = 128 * 1024  # characters of all their URIs
MAX_ROWS = 500  # of one person; beyond them the oldest session's goes


@dataclass(frozen=True, slots=True)
class SessionRow:
    """All of it together. `is_over` stays: a session that its client ended never comes back."""

    level: str | None = None
    subscriptions: frozenset[str] = frozenset()
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class SetLevel:
    level: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    uri: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    uri: str


@dataclass(frozen=True, slots=True)
class End:
    """The client is done with the session."""


SessionChange = SetLevel | Subscribe | Unsubscribe | End


def changed(row: SessionRow, change: SessionChange) -> SessionRow | None:
    """The row after the change; None if there is no room for it."""
    match change:
        case SetLevel(level):
            return replace(row, level=level)
        case Subscribe(uri):
            wanted = row.subscriptions | {uri}
            if len(wanted) > MAX_SUBSCRIPTIONS or sum(map(len, wanted)) > MAX_SUBSCRIBED:
                return None
            return replace(row, subscriptions=wanted)
        case Unsubscribe(uri):
            return replace(row, subscriptions=row.subscriptions - {uri})
        case End():
            return replace(row, subscriptions=frozenset(), is_over=True)
        case _:
            assert_never(change)


class SessionStore(Protocol):
    """The part of the store that remembers sessions."""

    async def find_session(self, session: str) -> SessionRow | None:
        """None also when the row cannot be decrypted."""
        ...

    async def change_session(
        self, session: str, owner: str, change: SessionChange, *, expires_at: float
    ) -> SessionRow | None:
        """Apply one change to what is there, whichever process put it there; the row as it stands then.

        None, and nothing is changed, if there is no room. The row goes at `expires_at`, the session's own end, or as
        soon as its `owner` has `MAX_ROWS` of later sessions.
        """
        ...
