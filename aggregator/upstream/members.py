"""Which upstreams there are: one configuration's, with everyone's listing of each, as a value that never changes.

A configuration that is loaded again makes another one. Whoever began with the one
before goes on with it to the end: a list, or a call, is of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .authorized import AuthorizedUpstream
from .credentials import SHARED, Standing
from .listing import Listing


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """By name, in the order of configuration. `nobody` is how somebody without any account stands with them all."""

    upstreams: Mapping[str, AuthorizedUpstream]
    shared: Mapping[str, Listing]
    nobody: tuple[Standing, ...]
    personal: bool  # somebody may have an account of their own at one of them


def members_of(
    upstreams: Iterable[AuthorizedUpstream],
    before: Mapping[str, Listing],
    make: Callable[[AuthorizedUpstream], Listing],
) -> Members:
    """Those of `upstreams`; one that was there `before` keeps its listing."""
    named = {upstream.name: upstream for upstream in upstreams}
    shared = {
        name: kept if (kept := before.get(name)) is not None and kept.upstream is upstream else make(upstream)
        for name, upstream in named.items()
    }
    return Members(
        named,
        shared,
        tuple(SHARED for _ in named),
        any(upstream.config.auth_type == "user" for upstream in named.values()),
    )
