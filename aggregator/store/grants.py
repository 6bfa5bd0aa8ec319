"""What becomes of a grant: the decisions both stores share, as pure functions.

A store reads the grant, asks here, and writes what it was told, all in one
transaction. This file does not know how anything is kept.
"""

from __future__ import annotations

from dataclasses import replace

from . import REFRESH_GRACE, Gone, Grant, Redeemed, Replayed, Rotated

KEPT_AFTER_THE_END = 86400.0  # seconds; long enough for every process to have polled `revoked_since`


def is_live(grant: Grant, *, now: float) -> bool:
    return grant.revoked_at is None and now < grant.expires_at


def is_past_keeping(grant: Grant, *, now: float) -> bool:
    """Ended, or revoked, more than a day ago: nothing can refer to the grant any more."""
    ended_at = grant.expires_at if grant.revoked_at is None else min(grant.expires_at, grant.revoked_at)
    return ended_at < now - KEPT_AFTER_THE_END


def is_meant(grant: Grant, name: str) -> bool:
    """Whether `name`, as an operator writes it, means the grant's person or client."""
    if name in (grant.principal.subject, grant.client):
        return True
    return name.casefold() in (grant.label.casefold(), grant.client_name.casefold())


def redemption(
    grant: Grant | None, grant_id: str, *, first_use: bool, now: float, grant_until: float
) -> Redeemed | Replayed | Gone:
    """What redeeming a code of `grant` means. `Redeemed.grant` is what to write; `Replayed` means: revoke.

    OAuth 2.1 4.1.3: "If an authorization code is used more than once, the authorization server MUST deny the request
    and SHOULD revoke (when possible) all access tokens and refresh tokens previously issued based on that code."
    """
    if not first_use:
        return Replayed(grant_id)
    if grant is None or not is_live(grant, now=now):
        return Gone()
    return Redeemed(replace(grant, expires_at=grant_until, last_used_at=now))


def rotation(grant: Grant | None, *, generation: int, now: float) -> Rotated | Replayed | Gone:
    """What presenting `generation` means. `Rotated.grant` is what to write; `Replayed` means: revoke."""
    if grant is None or not is_live(grant, now=now):
        return Gone()
    if generation == grant.generation:
        return Rotated(replace(grant, generation=generation + 1, rotated_at=now, last_used_at=now))
    # The answer to the last refresh may have been lost: the same question gets the same answer, for a short while.
    if generation == grant.generation - 1 and grant.rotated_at is not None and now - grant.rotated_at <= REFRESH_GRACE:
        return Rotated(grant, again=True)
    return Replayed(grant.id)
