"""URIs of many upstreams side by side: whose a URI is, and under which text an upstream's URI is shown.

A URI stays as it is while it leads back to the upstream that used it. Where it
would lead to another one, or to none, it is shown as that upstream's own:
``ui://weather/map`` of ``forecast`` as ``ui://forecast.gateway/weather/map``. The scheme stays, because
clients act on it; the form says whose it is in itself, so it means the same in
every process and whatever other upstreams come and go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .uri_templates import Template, parse_template

MAX_URI = 8192  # characters; of a listed one, for memory's sake
MARK = ".gateway"  # no upstream is called `gateway`, and no public domain ends so

# What anybody can fetch, or needs not: an address that is good without us is left alone, except in a list.
_FOR_ALL = frozenset({"http", "https", "data"})
MAX_TEMPLATES = 100  # of one upstream; each may have to be compared with a URI that is read
# RFC 3986, 3.2, as URL parsers have it. What has another authority (``ssh://git@host:owner/name``) a typed client may
# refuse, and with it the whole list.
_AUTHORITY = re.compile(
    r"(?P<user>[^/?#@]*@)?(?P<host>\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[^/?#:@<>\[\]^|\\]*)(?P<port>:[0-9]{0,5})?(?=[/?#]|\Z)"
)
_WITH_HOST = frozenset({"http", "https", "ws", "wss", "ftp"})
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^\x00-\x20\x7f\ud800-\udfff]*)")


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream, and the URI as that upstream knows it."""

    upstream: str
    uri: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What one upstream says of its URIs. `offers` is whether it has resources at all, listed or not."""

    upstream: str
    uris: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    offers: bool = False


@dataclass(frozen=True, slots=True)
class Uris:
    """The way from a URI to its upstream and back: ``locate(publish(u, uri)) == Place(u, uri)`` for whatever is listed.

    `order` has the upstreams that have resources, as configured; `templates` are by scheme, in that order.
    """

    order: tuple[str, ...]
    names: Mapping[str, str]
    exact: Mapping[str, int]
    templates: Mapping[str, tuple[tuple[int, Template], ...]]
    schemes: Mapping[str, int | None]
    _known: frozenset[str] = field(default=frozenset(), repr=False)

    def locate(self, uri: str) -> Place | None:
        """Whose `uri` is: said in itself, claimed, or of a scheme that one upstream alone uses."""
        if (found := self.named(uri) or self.claimed(uri)) is not None:
            return found
        if len(self.order) == 1:
            return Place(self.order[0], uri)
        by_scheme = self.schemes.get(scheme_of(uri) or "")
        return None if by_scheme is None else Place(self.order[by_scheme], uri)

    def named(self, uri: str) -> Place | None:
        """Whose `uri` is, if it says so itself."""
        own = parse_own(uri)
        name = None if own is None else self._name(own.upstream)
        return None if own is None or name is None else Place(name, own.uri)

    def claimed(self, uri: str) -> Place | None:
        """The first configured upstream that has `uri` in its list, or a template that makes it: what a URI means does
        not change because a later one begins to list it."""
        owner = self.exact.get(uri, len(self.order))
        for claimant, template in self.templates.get(scheme_of(uri) or "", ()):
            if claimant >= owner:
                break
            if template.matches(uri):
                return Place(self.order[claimant], uri)
        return Place(self.order[owner], uri) if owner < len(self.order) else None

    def publish(self, upstream: str, uri: str) -> str:
        """`uri` of `upstream` for a list: a text that leads back to it, and that every client can read."""
        leads_back = self.locate(uri) == Place(upstream, uri)
        return uri if leads_back and has_good_authority(uri) else render_own(upstream, uri)

    def publish_link(self, upstream: str, uri: str) -> str:
        """`uri` as it stands in a result of `upstream`. What is no URI, and what everybody can fetch, stays."""
        scheme = scheme_of(uri)
        return uri if scheme is None or scheme in _FOR_ALL else self.publish(upstream, uri)

    def own_of(self, upstream: str, text: str) -> str:
        """The upstream's own URI if `text` is one of its that says so itself; else `text`."""
        found = self.named(text) if len(text) <= MAX_URI else None
        return text if found is None or found.upstream != upstream else found.uri

    def publish_template(self, upstream: str, text: str) -> str | None:
        """A template of `upstream` for a list: its expansions lead back to it. None if it has no such form."""
        if self.order == (upstream,):
            return text
        template = parse_template(text)
        if template is None or scheme_of(text) is None:
            return None
        leads_back = self.locate(template.example) == Place(upstream, template.example)
        return text if leads_back else render_own(upstream, text)

    def leaves_alone(self, upstream: str) -> bool:
        """Whether no link of `upstream` is ever shown otherwise: it has no resources, or it alone has any."""
        return upstream not in self._known or len(self.order) == 1

    def _name(self, written: str) -> str | None:
        """An upstream by the name in a URI; some clients write the authority in lower case."""
        return self.names.get(written) or self.names.get(written.casefold())


def build_uris(claims: Iterable[Claim]) -> Uris:
    """From what each upstream lists, in the order of configuration. Templates that have no literal scheme claim
    nothing: they would claim everything."""
    names: dict[str, str] = {}
    order: list[str] = []
    exact: dict[str, int] = {}
    templates: dict[str, list[tuple[int, Template]]] = {}
    schemes: dict[str, int | None] = {}
    for claim in claims:
        names[claim.upstream] = claim.upstream
        if not (claim.offers or claim.uris or claim.templates):
            continue
        place = len(order)
        order.append(claim.upstream)
        used = [scheme_of(uri) for uri in claim.uris]
        for uri in claim.uris:
            exact.setdefault(uri, place)
        for text in claim.templates[:MAX_TEMPLATES]:
            template = parse_template(text)
            if template is not None and (scheme := scheme_of(text)) is not None:
                templates.setdefault(scheme, []).append((place, template))
                used.append(scheme)
        for scheme in used:
            if scheme is not None and schemes.setdefault(scheme, place) != place:
                schemes[scheme] = None
    for name in tuple(names):
        names.setdefault(name.casefold(), name)
    by_scheme = {scheme: tuple(found) for scheme, found in templates.items()}
    return Uris(tuple(order), names, exact, by_scheme, schemes, frozenset(order))


def scheme_of(uri: str) -> str | None:
    """The scheme in lower case; None for what is no absolute URI, or could not be sent as one."""
    match = _ABSOLUTE.fullmatch(uri)
    return None if match is None else match[1].lower()


def has_good_authority(uri: str) -> bool:
    """Whether what stands where a host does in the absolute `uri`, if anything does, could be one."""
    scheme, _, rest = uri.partition(":")
    if not rest.startswith("//"):
        return True
    match = _AUTHORITY.match(rest, 2)
    if match is None:
        return False
    if not match["host"]:
        return not match["user"] and not match["port"] and scheme.lower() not in _WITH_HOST
    return int((match["port"] or ":")[1:] or 0) <= 0xFFFF


def render_own(upstream: str, uri: str) -> str:
    """The text that says in itself that the absolute `uri` is `upstream`'s."""
    match = _ABSOLUTE.fullmatch(uri)
    if match is None:
        raise ValueError("not an absolute URI")
    return f"{match[1]}:{match[2] or ''}{upstream}{MARK}/{match[3]}"


def parse_own(text: str) -> Place | None:
    """Inverse of `render_own`; None for every other text."""
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        return None
    head, slash, rest = match[3].partition("/")
    if not slash or head[-len(MARK) :].lower() != MARK or len(head) == len(MARK):
        return None
    return Place(head[: -len(MARK)], f"{match[1]}:{match[2] or ''}{rest}")
