"""What all upstreams offer together, as one list, and the way back from a published name to its upstream.

Pure: listings in, a frozen catalog out. It does not know how a listing was
obtained, how old it is, or who asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from .confusables import skeletons
from .headers import Annotated, BadAnnotation, read_annotations
from .jsonrpc import Json, dump
from .names import is_gateway_name, is_wanted, may_publish, published_name
from .revisions import SERVER_INFO_KEY, is_stateless
from .texts import clean_line, clean_text, hidden_in_schema, hides_something, readable_schema

PAGE = 1000  # tools; many clients never ask for a second page
MAX_REASONS = 20  # per upstream; enough to see what is wrong, too few to fill a log


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream's listing as it came, with what the operator says about the upstream."""

    upstream: str
    prefix: str
    display: str
    tools: tuple[Json, ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    listed: bool = True  # False: it has not answered yet, and `tools` is empty for that reason
    prompts: tuple[Json, ...] = ()
    resources: tuple[Json, ...] = ()
    templates: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a published name leads, and which of its parameters travel in headers too."""

    upstream: str
    tool: str
    annotated: Annotated = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """The merged list. `left_out` has one sentence per tool that lost its name, was malformed or is not usable,
    `flagged` one per hidden character in what is listed and not ours to rewrite."""

    tools: tuple[Json, ...]
    routes: Mapping[str, Route]
    counts: Mapping[str, int]
    left_out: Mapping[str, tuple[str, ...]]
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _pages: dict[tuple[bool, int], bytes] = field(default_factory=dict, compare=False, repr=False)

    def locate(self, name: str) -> Route | None:
        """The one upstream that published exactly this name."""
        return self.routes.get(name)

    def page(self, revision: str, cursor: str | None, *, ttl: int, server: Json) -> tuple[bytes, ...]:
        """The result of ``tools/list`` as JSON, for one revision; its tools are rendered once and kept.

        In pieces: a list can be long, and whoever writes it copies it once.

        Raises:
            ValueError: if `cursor` is none that we made.
        """
        start = 0 if cursor is None else parse_cursor(cursor)
        if start and start >= len(self.tools):
            raise ValueError("the cursor points past the end of the list; start again without one")
        stateless = is_stateless(revision)
        if (rendered := self._pages.get((stateless, start))) is None:
            tools = self.tools[start : start + PAGE]
            shown = tools if stateless else tuple(for_handshake_client(tool) for tool in tools)
            rendered = dump(shown)
            self._pages[stateless, start] = rendered
        rest: Json = {} if start + PAGE >= len(self.tools) else {"nextCursor": render_cursor(start + PAGE)}
        if stateless:
            rest |= {
                "resultType": "complete",
                "ttlMs": ttl,
                "cacheScope": "private",  # what a person sees depends on who they are
                "_meta": {SERVER_INFO_KEY: server},
            }
        tail = dump(rest)
        return b'{"tools":', rendered, b"," + tail[1:] if rest else b"}"


def build_catalog(sources: Iterable[Source], *, name_length: int, ours: tuple[Json, ...] = ()) -> Catalog:
    """Merge listings in the order of configuration; tools keep their upstream's order, ours come last.

    A name goes to the first upstream that has it. Names that look alike (case, 0 and o, rn and m) count as one between
    upstreams: a reader, human or model, would take one for the other. The names below the prefix of an upstream that
    has not answered yet are kept for it: nobody takes them over while it is down.
    """
    tools: list[Json] = []
    routes: dict[str, Route] = {}
    owners: dict[str, str] = {}
    counts: dict[str, int] = {}
    left_out: dict[str, list[str]] = {}
    flagged: dict[str, list[str]] = {}
    awaited: list[Source] = []
    for source in _under_own_titles(tuple(sources)):
        counts.setdefault(source.upstream, 0)
        reasons = left_out.setdefault(source.upstream, [])
        flags = flagged.setdefault(source.upstream, [])
        if not source.listed and source.prefix:
            awaited.append(source)
        for tool in source.tools:
            name = tool.get("name")
            if not _is_name(name) or not isinstance(tool.get("inputSchema", {}), dict):
                reasons.append(f"a tool without a usable name or inputSchema: {ascii(name)[:40]}")
                continue
            if not is_wanted(name, source.include, source.exclude):
                continue
            shown = clean_line(name, 128)
            try:
                annotated = read_annotations(tool.get("inputSchema"))
            except BadAnnotation as exc:
                reasons.append(f"{shown}: {clean_line(str(exc), 200)}")
                continue
            published = published_name(source.prefix, name, name_length)
            looks = skeletons(published)
            owner = next((owners[look] for look in looks if owners.get(look, source.upstream) != source.upstream), None)
            for look in looks:
                owners.setdefault(look, source.upstream)
            if is_gateway_name(published):
                reasons.append(f"{shown}: names that begin with 'gateway__' are the aggregator's own")
            elif owner is not None:
                reasons.append(
                    f"{shown}: the name '{published}', or one that looks like it, already belongs to {owner}"
                )
            elif published in routes:
                reasons.append(f"{shown}: the name '{published}' already belongs to {source.upstream}")
            elif any(may_publish(other.prefix.casefold(), published.casefold()) for other in awaited):
                reasons.append(f"{shown}: the name '{published}' is kept for an upstream that has not answered yet")
            else:
                routes[published] = Route(source.upstream, name, annotated)
                schemas: Json = {key: tool[key] for key in ("inputSchema", "outputSchema") if key in tool}
                if hides_something(schemas):
                    flags.extend(f"{shown}: {found}" for found in hidden_in_schema(tool.get("inputSchema")))
                    tool = {**tool, **{key: readable_schema(schema) for key, schema in schemas.items()}}
                tools.append(as_published(tool, published, source))
                counts[source.upstream] += 1
    return Catalog((*tools, *ours), routes, counts, _told(left_out), _told(flagged))


def _under_own_titles(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """An upstream may say what it is called, but not that it is another one: then its configured name stands."""
    owners = {look: source.upstream for source in sources for look in skeletons(source.upstream)}
    made = []
    for source in sources:
        looks = skeletons(clean_line(source.display))
        if any(owners.setdefault(look, source.upstream) != source.upstream for look in looks):
            source = replace(source, display=source.upstream)
        made.append(source)
    return tuple(made)


def _told(reasons: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: _shortened(told) for name, told in reasons.items() if told}


def _shortened(reasons: list[str]) -> tuple[str, ...]:
    more = len(reasons) - MAX_REASONS
    return (*reasons[:MAX_REASONS], *([f"and {more} more"] if more > 0 else []))


def as_published(tool: Json, name: str, source: Source) -> Json:
    """The tool under its new name, saying in title and description where it comes from, in characters that can be
    seen; every other field as it was."""
    annotations = tool.get("annotations")
    inner = annotations.get("title") if isinstance(annotations, dict) else None
    own_title = _text(tool.get("title")) or _text(inner) or tool["name"]
    title = clean_line(f"{source.display}: {own_title}")
    description = f"[{source.upstream}] {clean_text(_text(tool.get('description')))}"
    published = {**tool, "name": name, "title": title, "description": description}
    if isinstance(annotations, dict):
        inner_title = clean_line(f"{source.display}: {_text(inner) or own_title}")
        published["annotations"] = {**annotations, "title": inner_title}
    if "inputSchema" not in published:
        published["inputSchema"] = {"type": "object"}
    return published


def for_handshake_client(tool: Json) -> Json:
    """The tool as revisions before 2026-07-28 can read it: there an output schema describes an object, and one that
    does not would fail the client's whole list."""
    schema = tool.get("outputSchema")
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return tool
    return {key: value for key, value in tool.items() if key != "outputSchema"}


def render_cursor(start: int) -> str:
    return base64.urlsafe_b64encode(b"t%d" % start).decode()


def parse_cursor(cursor: str) -> int:
    """Raises:
    ValueError: if `cursor` is none that we made.
    """
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
        start = int(text[1:])
    except (binascii.Error, ValueError):
        raise ValueError("the cursor is none of ours; start again without one") from None
    if start <= 0 or start % PAGE or render_cursor(start) != cursor:
        raise ValueError("the cursor is none of ours; start again without one")
    return start


def _is_name(name: Any) -> TypeGuard[str]:
    """Text that can be sent back to its upstream: half of a surrogate pair cannot."""
    return isinstance(name, str) and bool(name) and not any("\ud800" <= c <= "\udfff" for c in name)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
