"""The tools of all upstreams as one list. Who calls them, and how, is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .headers import Annotated, BadAnnotation, read_annotations
from .jsonrpc import Json
from .links import ui_uris, with_published_ui
from .name_claims import NameClaims, NameRefused
from .names import is_gateway_name, is_wanted
from .source import Remarks, Source, is_name, text_or_empty
from .texts import clean_line, clean_text, hidden_in_schema, hides_something, readable_schema
from .uris import Uris


@dataclass(frozen=True, slots=True)
class Route:
    """Where a published name leads, and which of its parameters travel in headers too."""

    upstream: str
    tool: str
    annotated: Annotated = ()


@dataclass(frozen=True, slots=True)
class MergedTools:
    """`in_frames` has the own names that pages of upstreams may call; see `merge_tools`."""

    tools: tuple[Json, ...]
    routes: Mapping[str, Route]
    in_frames: Mapping[str, Route]
    counts: Mapping[str, int]


def merge_tools(sources: Sequence[Source], uris: Uris, names: NameClaims, remarks: Remarks) -> MergedTools:
    """Merge in the order of configuration; tools keep their upstream's order.

    A page of an MCP App knows its server's tools by their own names and calls them so. Of upstreams that have pages,
    an own name is therefore good too, unless it is a published one, or two of these upstreams use it, or its tool is
    not for pages.
    """
    tools: list[Json] = []
    routes: dict[str, Route] = {}
    counts: dict[str, int] = {}
    framed: dict[str, list[Route]] = {}
    for source in sources:
        counts.setdefault(source.upstream, 0)
        has_pages = any(ui_uris(tool) for tool in source.tools)
        for tool in source.tools:
            name = tool.get("name")
            if not is_name(name) or not isinstance(tool.get("inputSchema", {}), dict):
                remarks.leave_out(source, f"a tool without a usable name or inputSchema: {ascii(name)[:40]}")
                continue
            if not is_wanted(name, source.include, source.exclude):
                continue
            shown = clean_line(name, 128)
            try:
                annotated = read_annotations(tool.get("inputSchema"))
                published = names.claim(source, name)
            except (BadAnnotation, NameRefused) as exc:
                remarks.leave_out(source, f"{shown}: {clean_line(str(exc), 250)}")
                continue
            routes[published] = route = Route(source.upstream, name, annotated)
            if has_pages and is_for(tool, "app"):
                framed.setdefault(name, []).append(route)
            schemas: Json = {key: tool[key] for key in ("inputSchema", "outputSchema") if key in tool}
            if hides_something(schemas):
                for found in hidden_in_schema(tool.get("inputSchema")):
                    remarks.flag(source, f"{shown}: {found}")
                tool = {**tool, **{key: readable_schema(schema) for key, schema in schemas.items()}}
            tools.append(as_published(tool, published, source, uris))
            counts[source.upstream] += 1
    in_frames = {
        name: found[0]
        for name, found in framed.items()
        if len(found) == 1 and name not in routes and not is_gateway_name(name)
    }
    return MergedTools(tuple(tools), routes, in_frames, counts)


def as_published(tool: Json, name: str, source: Source, uris: Uris) -> Json:
    """The tool under its new name, saying in title and description where it comes from, in characters that can be
    seen; every other field as it was."""
    annotations = tool.get("annotations")
    inner = annotations.get("title") if isinstance(annotations, dict) else None
    own_title = text_or_empty(tool.get("title")) or text_or_empty(inner) or tool["name"]
    title = clean_line(f"{source.display}: {own_title}")
    description = f"[{source.upstream}] {clean_text(text_or_empty(tool.get('description')))}"
    published = {**tool, "name": name, "title": title, "description": description}
    if isinstance(annotations, dict):
        inner_title = clean_line(f"{source.display}: {text_or_empty(inner) or own_title}")
        published["annotations"] = {**annotations, "title": inner_title}
    if "inputSchema" not in published:
        published["inputSchema"] = {"type": "object"}
    return with_published_ui(published, lambda uri: uris.publish_link(source.upstream, uri))


def for_handshake_client(tool: Json) -> Json:
    """The tool as revisions before 2026-07-28 can read it: there an output schema describes an object, and one that
    does not would fail the client's whole list."""
    schema = tool.get("outputSchema")
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return tool
    return {key: value for key, value in tool.items() if key != "outputSchema"}


def is_for(tool: Json, reader: Literal["model", "app"]) -> bool:
    """MCP Apps: `_meta.ui.visibility` is who may call a tool, a model or a page; both where nothing is said."""
    meta: Any = tool.get("_meta")
    ui = meta.get("ui") if isinstance(meta, dict) else None
    visibility = ui.get("visibility") if isinstance(ui, dict) else None
    return not isinstance(visibility, list) or reader in visibility
