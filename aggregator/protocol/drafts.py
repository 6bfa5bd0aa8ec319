"""One tool as its upstream lists it, and all that can be said of it without knowing any other upstream.

Twenty people see twenty catalogs of mostly the same tools. What is slow about a
tool (reading its annotations, looking for hidden characters, writing it as JSON)
is therefore done once for each text of a tool, and shared; what depends on
others (who has a name, where a URI leads) is `merged_tools`' and done for each
catalog. Sharing goes by the whole text: it shows nobody what they did not list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakValueDictionary

from .confusables import skeletons
from .field_kinds import mended_fields, mended_tool, takes_object, with_object_properties
from .headers import ANNOTATION, Annotated, BadAnnotation, read_annotations
from .jsonrpc import Json, dump
from .links import Publish, ui_uris, with_published_ui
from .names import is_wanted, published_name
from .paging import Item
from .texts import (
    clean_line,
    clean_text,
    hidden_in_schema,
    hides_something,
    is_name,
    may_hide_something,
    readable_schema,
    text_or_empty,
)

MAX_SHOWN = 8  # forms of one tool: a name, a title, links. There are two or three, unless an upstream plays with them

_ANNOTATION = ANNOTATION.encode()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a published name leads, and which of its parameters travel in headers too."""

    upstream: str
    tool: str
    annotated: Annotated = ()


class Draft:
    """One tool as it came. Everything else about it is worked out when it is asked for the first time, and kept.

    `name` is its own, None if it cannot be listed at all; `pages` are those of MCP Apps that it names; `flags` tell of
    hidden characters that are not ours to rewrite, and of what had to be mended, once it was shown. `written` is the
    tool as JSON of ours: to look through it tells of most tools that they need no closer look.
    """

    __slots__ = (
        "__weakref__",
        "_items",
        "_may_be_annotated",
        "_may_hide_something",
        "_named",
        "_readable",
        "_refused",
        "_route",
        "_wanted",
        "flags",
        "name",
        "pages",
        "tool",
    )

    def __init__(self, tool: Json, written: bytes | None = None) -> None:
        written = dump(tool) if written is None else written
        self.tool = tool
        name = tool.get("name")
        self.name = name if is_name(name) and takes_object(tool.get("inputSchema")) else None
        self.pages = tuple(ui_uris(tool))
        self.flags: tuple[str, ...] = ()
        self._may_be_annotated = _ANNOTATION in written
        self._refused: str | None = None
        self._route: Route | None = None
        self._wanted: tuple[tuple[str, ...], tuple[str, ...], bool] | None = None
        self._named: tuple[str, int, str, tuple[str, ...]] | None = None
        self._may_hide_something = may_hide_something(written)
        self._readable: Json | None = None
        self._items: dict[tuple[str, ...], Item] = {}

    def is_wanted(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
        """Whether the operator's patterns let it through."""
        known = self._wanted
        if known is None or known[0] is not include or known[1] is not exclude:
            known = self._wanted = (include, exclude, is_wanted(self.tool["name"], include, exclude))
        return known[2]

    def named(self, prefix: str, limit: int) -> tuple[str, tuple[str, ...]]:
        """Its published name, and what that looks like; see `published_name` and `skeletons`."""
        known = self._named
        if known is None or known[0] != prefix or known[1] != limit:
            published = published_name(prefix, self.tool["name"], limit)
            known = self._named = (prefix, limit, published, skeletons(published))
        return known[2], known[3]

    def route(self, upstream: str) -> Route:
        """The way back to it.

        Raises:
            BadAnnotation: if clients must not be shown it.
        """
        if self._refused is not None:
            raise BadAnnotation(self._refused)
        if (known := self._route) is None or known.upstream != upstream:
            try:
                annotated = read_annotations(self.tool.get("inputSchema")) if self._may_be_annotated else ()
            except BadAnnotation as exc:
                self._refused = str(exc)
                raise
            self._route = known = Route(upstream, self.tool["name"], annotated)
        return known

    def shown(self, name: str, upstream: str, display: str, publish: Publish) -> Item:
        """The tool under its new name, saying in title and description where it comes from, in characters that can be
        seen; every other field as it was."""
        key = (name, upstream, display, *[publish(uri) for uri in self.pages])
        if (item := self._items.get(key)) is None:
            if len(self._items) >= MAX_SHOWN:
                self._items.clear()
            made = as_published(self._read(), name, upstream, display, publish)
            item = self._items[key] = Item(made, for_handshake_client)
        return item

    def _read(self) -> Json:
        if self._readable is None:
            tool = mended_tool(self.tool)
            told = [mended_fields(self.tool, tool)] if tool is not self.tool else []
            if self._may_hide_something:
                schemas: Json = {key: tool[key] for key in ("inputSchema", "outputSchema") if key in tool}
                if hides_something(schemas):
                    told += hidden_in_schema(tool.get("inputSchema"))
                    tool = {**tool, **{key: readable_schema(schema) for key, schema in schemas.items()}}
            shown = clean_line(tool["name"], 128)
            self.flags = tuple(f"{shown}: {found}" for found in told if found)
            self._readable = tool
        return self._readable


class Drafts:
    """The drafts of one upstream's tools, whoever listed them, for as long as a listing has them."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, Draft] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, tools: Sequence[Json]) -> tuple[Draft, ...]:
        """One draft for each tool, in order: that of an equal tool which was listed before, if there is one."""
        return tuple([self._take(tool) for tool in tools])

    def _take(self, tool: Json) -> Draft:
        written = dump(tool)
        digest = hashlib.blake2b(written, digest_size=32).digest()
        if (draft := self._known.get(digest)) is None:
            self._known[digest] = draft = Draft(tool, written)
        return draft


def as_published(tool: Json, name: str, upstream: str, display: str, publish: Publish) -> Json:
    """See `Draft.shown`."""
    annotations = tool.get("annotations")
    inner = annotations.get("title") if isinstance(annotations, dict) else None
    own_title = text_or_empty(tool.get("title")) or text_or_empty(inner) or tool["name"]
    title = clean_line(f"{display}: {own_title}")
    description = f"[{upstream}] {clean_text(text_or_empty(tool.get('description')))}"
    published = {**tool, "name": name, "title": title, "description": description}
    if isinstance(annotations, dict):
        inner_title = clean_line(f"{display}: {text_or_empty(inner) or own_title}")
        published["annotations"] = {**annotations, "title": inner_title}
    return with_published_ui(published, publish)


def for_handshake_client(tool: Json) -> Json:
    """The tool as revisions before 2026-07-28 can read it: there an output schema describes an object, and a property
    is described by one. What is otherwise would fail the client's whole list."""
    made = {key: value for key, value in tool.items() if key != "outputSchema" or _describes_object(value)}
    for key in ("inputSchema", "outputSchema"):
        if key in made:
            made[key] = with_object_properties(made[key])
    return tool if len(made) == len(tool) and all(made[key] is value for key, value in tool.items()) else made


def _describes_object(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "object"


def is_for(tool: Json, reader: Literal["model", "app"]) -> bool:
    """MCP Apps: `_meta.ui.visibility` is who may call a tool, a model or a page; both where nothing is said."""
    meta = tool.get("_meta")
    ui = meta.get("ui") if isinstance(meta, dict) else None
    visibility = ui.get("visibility") if isinstance(ui, dict) else None
    return not isinstance(visibility, list) or reader in visibility
