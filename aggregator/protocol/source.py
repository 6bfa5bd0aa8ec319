"""One upstream's listings as they came, and what is said of them when they are merged. It does not know how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .confusables import skeletons
from .drafts import Draft
from .jsonrpc import Json
from .texts import clean_line

MAX_REASONS = 20  # per upstream; enough to see what is wrong, too few to fill a log


@dataclass(frozen=True, slots=True)
class Source:
    """What an upstream lists, with what the operator says about the upstream.

    `capabilities` are those that it declared. `drafts`, if there are any, are of `tools`, one for each: what is already
    known of them.
    """

    upstream: str
    prefix: str
    display: str
    tools: tuple[Json, ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    listed: bool = True  # False: it has not answered yet, and everything is empty for that reason
    prompts: tuple[Json, ...] = ()
    resources: tuple[Json, ...] = ()
    templates: tuple[Json, ...] = ()
    capabilities: Json = field(default_factory=dict)
    drafts: tuple[Draft, ...] | None = field(default=None, compare=False, repr=False)


class Remarks:
    """What an operator should know about a merged list, one sentence each, by upstream.

    `left_out` lost its name or its URI, was malformed or is not usable; `flagged` is listed, and holds something that
    is not ours to rewrite.
    """

    def __init__(self) -> None:
        self._left_out: dict[str, list[str]] = {}
        self._flagged: dict[str, list[str]] = {}

    def leave_out(self, source: Source, reason: str) -> None:
        self._left_out.setdefault(source.upstream, []).append(reason)

    def flag(self, source: Source, reason: str) -> None:
        self._flagged.setdefault(source.upstream, []).append(reason)

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        return _shortened(self._left_out)

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        return _shortened(self._flagged)


def under_own_titles(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """An upstream may say what it is called, but not that it is another one: then its configured name stands."""
    owners = {look: source.upstream for source in sources for look in skeletons(source.upstream)}
    made = []
    for source in sources:
        looks = skeletons(clean_line(source.display))
        if any(owners.setdefault(look, source.upstream) != source.upstream for look in looks):
            source = replace(source, display=source.upstream)
        made.append(source)
    return tuple(made)


def _shortened(reasons: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    made: dict[str, tuple[str, ...]] = {}
    for name, told in reasons.items():
        more = len(told) - MAX_REASONS
        made[name] = (*told[:MAX_REASONS], *([f"and {more} more"] if more > 0 else []))
    return made
