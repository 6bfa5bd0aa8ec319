"""The tools of all upstreams as one list. Who calls them, and how, is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .drafts import Route, is_for
from .headers import BadAnnotation
from .links import Publish
from .name_claims import NameClaims, NameRefused
from .names import is_gateway_name
from .paging import Item
from .source import Remarks, Source
from .texts import clean_line
from .uris import Uris


@dataclass(frozen=True, slots=True)
class MergedTools:
    """`in_frames` has the own names that pages of upstreams may call; see `merge_tools`."""

    tools: tuple[Item, ...]
    routes: Mapping[str, Route]
    in_frames: Mapping[str, Route]
    counts: Mapping[str, int]


def merge_tools(sources: Sequence[Source], uris: Uris, names: NameClaims, remarks: Remarks) -> MergedTools:
    """Merge in the order of configuration; tools keep their upstream's order. Every source has its drafts.

    A page of an MCP App knows its server's tools by their own names and calls them so. Of upstreams that have pages,
    an own name is therefore good too, unless it is a published one, or two of these upstreams use it, or its tool is
    not for pages.
    """
    tools: list[Item] = []
    routes: dict[str, Route] = {}
    counts: dict[str, int] = {}
    framed: dict[str, list[Route]] = {}
    for source in sources:
        counts.setdefault(source.upstream, 0)
        drafts = source.drafts or ()
        has_pages = any(draft.pages for draft in drafts)
        publish = _publisher(uris, source)
        for draft in drafts:
            name = draft.name
            if name is None:
                found = ascii(draft.tool.get("name"))[:40]
                remarks.leave_out(source, f"a tool without a usable name or inputSchema: {found}")
                continue
            if not draft.is_wanted(source.include, source.exclude):
                continue
            try:
                route = draft.route(source.upstream)
                published = names.claim_as(source, *draft.named(source.prefix, names.limit))
            except (BadAnnotation, NameRefused) as exc:
                remarks.leave_out(source, f"{clean_line(name, 128)}: {clean_line(str(exc), 250)}")
                continue
            routes[published] = route
            if has_pages and is_for(draft.tool, "app"):
                framed.setdefault(name, []).append(route)
            tools.append(draft.shown(published, source.upstream, source.display, publish))
            for flag in draft.flags:
                remarks.flag(source, flag)
            counts[source.upstream] += 1
    in_frames = {
        name: found[0]
        for name, found in framed.items()
        if len(found) == 1 and name not in routes and not is_gateway_name(name)
    }
    return MergedTools(tuple(tools), routes, in_frames, counts)


def _publisher(uris: Uris, source: Source) -> Publish:
    return lambda uri: uris.publish_link(source.upstream, uri)
