"""Who owns a published name. One `NameClaims` is one name space: tools have theirs, prompts have theirs."""

from __future__ import annotations

from collections.abc import Iterable

from .confusables import skeletons
from .names import is_gateway_name, may_publish, published_name
from .source import Source


class NameRefused(ValueError):
    """An upstream cannot have a name; the text says why."""


class NameClaims:
    """Names, given out in the order of configuration.

    A name goes to the first upstream that has it. Names that look alike (case, 0 and o, rn and m) count as one between
    upstreams: a reader, human or model, would take one for the other. The names below the prefix of an upstream that
    has not answered yet are kept for it: nobody who is configured later takes them over while it is down.
    """

    def __init__(self, sources: Iterable[Source], name_length: int) -> None:
        self.limit = name_length
        self._owners: dict[str, str] = {}
        self._taken: set[str] = set()
        self._awaited: dict[str, tuple[str, ...]] = {}  # by upstream, the prefixes of those before it that are awaited
        awaited: tuple[str, ...] = ()
        for source in sources:
            if not source.listed and source.prefix:
                awaited = (*awaited, source.prefix.casefold())
            self._awaited[source.upstream] = awaited

    def claim(self, source: Source, own: str) -> str:
        """The name under which `own` of this source is published.

        Raises:
            NameRefused: if it belongs to somebody else.
        """
        published = published_name(source.prefix, own, self.limit)
        return self.claim_as(source, published, skeletons(published))

    def claim_as(self, source: Source, published: str, looks: tuple[str, ...]) -> str:
        """As `claim`, for whoever has worked out the name and its skeletons."""
        upstream, owner = source.upstream, None
        for look in looks:
            if (first := self._owners.setdefault(look, upstream)) != upstream and owner is None:
                owner = first
        if is_gateway_name(published):
            raise NameRefused("names that begin with 'gateway__' are the aggregator's own")
        if owner is not None:
            raise NameRefused(f"the name '{published}', or one that looks like it, already belongs to {owner}")
        if published in self._taken:
            raise NameRefused(f"the name '{published}' already belongs to {upstream}")
        awaited = self._awaited[upstream]
        if awaited and any(may_publish(prefix, published.casefold()) for prefix in awaited):
            raise NameRefused(f"the name '{published}' is kept for an upstream that has not answered yet")
        self._taken.add(published)
        return published
