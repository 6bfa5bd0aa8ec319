"""What a person's connection is good for at a moment: pure functions of the stored row and the time.

This file must not know who asks, nor how anything is refreshed or stored.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

from ...protocol.brokering.challenge import split_scope
from ...protocol.brokering.resource import is_meant_for
from ...store import Connection
from ..credentials import Standing

# Seconds before a token's end at which it is refreshed: later, a call may outlive it; earlier, we ask for nothing.
EARLIEST, LATEST = 120.0, 60.0
SHARE = 0.25  # of a token's life, where that is less: a token of a minute is not refreshed with every call
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds between tries, doubling; plus up to a quarter
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that names more is asked all the same
LONGEST_SCOPE = 2000  # characters; it has to fit into a URL, and an upstream may ask for more with each call
MOVED = "its address has been changed since you logged in"
LAPSED = "its login has expired and cannot be renewed without you"


def owner_of(connection: Connection) -> str:
    """Whose sessions and listings come of this connection: those of another one are somebody else's."""
    return f"{connection.principal.key} {connection.id}"


def as_far_as_meant(connection: Connection, upstream_url: str | None) -> Connection:
    """The connection, without its tokens if they were issued for another server than the one at this URL (None: there
    is none any more). Where it is not known what they were issued for, they stay."""
    resource = connection.resource
    if upstream_url is None or resource is None or connection.state != "connected":
        return connection
    if is_meant_for(resource, upstream_url):
        return connection
    return replace(connection, state="needs_login", reason=MOVED, access_token=None, refresh_token=None)


def is_refreshable(connection: Connection) -> bool:
    """Whether there is a refresh token, and it is known whose: it is shown to nobody else (UP5)."""
    return bool(connection.refresh_token and connection.issuer)


def is_alive(connection: Connection, *, now: float) -> bool:
    """Whether the access token has not expired, as far as its issuer said."""
    return connection.expires_at is None or now < connection.expires_at


def refresh_due_at(connection: Connection) -> float:
    """When the token is to be refreshed; never, where its end is not known.

    The moment differs from one generation to the next, so that those who connected together do not come together.
    """
    if connection.expires_at is None:
        return math.inf
    chance = zlib.crc32(f"{connection.id} {connection.generation}".encode()) / 2**32
    margin = LATEST + (EARLIEST - LATEST) * chance
    return connection.expires_at - min(margin, SHARE * max(connection.expires_at - connection.issued_at, 0))


def needs_login(connection: Connection, *, now: float) -> str | None:
    """Why the person has to log in before anything goes with this connection; None if they need not."""
    if connection.state != "connected":
        return connection.reason or "its login has ended"
    if not is_alive(connection, now=now) and not is_refreshable(connection):
        return LAPSED
    return None


def standing_of(connection: Connection, *, now: float) -> Standing:
    """How the person stands with the upstream, for listings and pages."""
    owner, account = owner_of(connection), connection.account
    reason = needs_login(connection, now=now)
    if reason is not None:
        return Standing(owner, "needs_login", reason, account=account)
    if connection.next_try_at is not None:
        return Standing(owner, "retrying", connection.reason, connection.next_try_at, account)
    if connection.wanted_scope is not None:
        return Standing(owner, "connected", f"more access was asked for: {connection.wanted_scope}", account=account)
    return Standing(owner, "connected", account=account)


def pause_after(failures: int, retry_after: float | None, *, chance: float) -> float:
    """Seconds until a refresh is tried again that has failed `failures` times before; `chance` is from 0 to 1."""
    pause = min(FIRST_PAUSE * 2.0 ** min(failures, 20), LONGEST_PAUSE) * (1 + chance / 4)
    return max(pause, min(retry_after or 0.0, LONGEST_RETRY_AFTER))


def widened_scope(connection: Connection, asked: str | None) -> str | None:
    """What the next login has to ask for so that `asked` is in it too (MCP "Scope Step-up": the union of all).

    What was asked for before goes first where that gets too long. None if nothing is named that the token at hand does
    not have, or too much: then another login is of no use (UP11).
    """
    wanted = split_scope(asked or "")
    granted = split_scope(connection.scope or "")
    if set(wanted) <= set(granted):
        return None
    for before in (split_scope(connection.wanted_scope or ""), ()):
        union = " ".join(dict.fromkeys((*granted, *before, *wanted)))
        if len(union) <= LONGEST_SCOPE:
            return union
    return None
