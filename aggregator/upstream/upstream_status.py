"""How one person stands with one upstream: a row of `gateway__status`, of the connections page, of `status`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.model import StdioUpstream
from ..protocol.catalog import Catalog
from .credentials import EVERYONE, Standing
from .listing import Listing


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """One row of `gateway__status` and of the connections page."""

    name: str
    state: str  # "connected", "unreachable", "needs_login", "retrying", "connecting", "not_started"
    tools: int
    revision: str | None
    latency: float | None
    error: str | None
    stale: bool
    left_out: tuple[str, ...]
    standing: Standing
    flagged: tuple[str, ...] = ()  # hidden characters in what is shown as it came, and fields that had to be mended
    last_words: tuple[str, ...] = ()  # of a program that is out of reach; for whoever runs it and for nobody else


def needs_login(listing: Listing, standing: Standing) -> bool:
    """Whether the person of this `standing` has to connect their account before they see more than this."""
    return standing.state == "needs_login" or (standing.owner == EVERYONE and listing.needs_login)


def status_of(listing: Listing, standing: Standing, catalog: Catalog) -> UpstreamStatus:
    if needs_login(listing, standing):
        state = "needs_login"
    elif standing.state == "retrying":
        state = "retrying"  # which is also why a listing fails whose token has ended meanwhile
    elif listing.error is not None:
        state = "unreachable"
    elif listing.source is not None:
        state = "connected"
    else:
        state = "not_started" if _waits_for_use(listing) else "connecting"
    name, peer = listing.upstream.name, listing.upstream.peer
    return UpstreamStatus(
        name,
        state,
        catalog.counts.get(name, 0),
        peer.revision if peer else None,
        listing.latency,
        standing.reason or listing.error,
        listing.is_stale,
        (*[f"its {kind}: {why}" for kind, why in listing.troubles.items()], *catalog.left_out.get(name, ())),
        standing,
        catalog.flagged.get(name, ()),
        listing.upstream.last_words if state == "unreachable" else (),
    )


def _waits_for_use(listing: Listing) -> bool:
    return isinstance(listing.config, StdioUpstream) and listing.config.start_on_use and listing.running is None
