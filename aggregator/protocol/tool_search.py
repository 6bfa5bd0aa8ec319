"""Which tools of a catalog a person looks for, one page of them, as texts that are fit to be shown.

Titles and descriptions are the upstream's own words: the catalog has taken
hidden characters out of them and put the upstream's name before; this file does
the same for the schema. Pure; it must not know HTML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .catalog import Catalog
from .jsonrpc import Json
from .texts import clean_line, clean_text

PAGE = 50  # tools; with 2,500 of them a page stays below 500 kB
MAX_DESCRIPTION = 2000
MAX_SCHEMA = 8000
MAX_QUERY = 100
OWN = ""  # the upstream of our own tools

# 2026-07-28, tools, annotations: hints "from untrusted servers"; hence "says" in every page that shows them.
_HINTS = (("readOnlyHint", "read-only"), ("destructiveHint", "destructive"))


@dataclass(frozen=True, slots=True)
class Card:
    """One tool. `hints` are what its upstream says it does; `schema` is JSON text."""

    name: str
    title: str
    upstream: str
    description: str
    hints: tuple[str, ...]
    schema: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was asked: words that all must occur, an upstream or None for all, and the page, from 1."""

    words: str = ""
    upstream: str | None = None
    page: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """One page of what was found. `search` is as asked, with a page that exists; `counts` are of all tools."""

    search: Search
    cards: tuple[Card, ...]
    total: int
    pages: int
    counts: tuple[tuple[str, int], ...]


def parse_search(parameters: dict[str, str]) -> Search:
    """The search of a query string; what cannot be read counts as absent."""
    page = parameters.get("page", "")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1
    words = clean_line(parameters.get("q", ""), MAX_QUERY)
    return Search(words, parameters.get("upstream"), max(number, 1))


def find_tools(catalog: Catalog, search: Search) -> Found:
    """The tools whose name, title or description holds every word, in the catalog's order, without regard to case."""
    wanted = search.words.casefold().split()
    counts: dict[str, int] = {}
    matching: list[tuple[Json, str]] = []
    for tool in catalog.tools:
        route = catalog.locate(tool["name"])
        upstream = OWN if route is None else route.upstream
        counts[upstream] = counts.get(upstream, 0) + 1
        if search.upstream in (None, upstream) and _holds(tool, wanted):
            matching.append((tool, upstream))
    pages = max(1, -(-len(matching) // PAGE))
    page = min(search.page, pages)
    cards = tuple(_card(tool, upstream) for tool, upstream in matching[(page - 1) * PAGE : page * PAGE])
    return Found(Search(search.words, search.upstream, page), cards, len(matching), pages, tuple(counts.items()))


def _holds(tool: Json, wanted: list[str]) -> bool:
    if not wanted:
        return True
    text = "\n".join(_text(tool.get(key)) for key in ("name", "title", "description")).casefold()
    return all(word in text for word in wanted)


def _card(tool: Json, upstream: str) -> Card:
    annotations = tool.get("annotations")
    hints = tuple(label for key, label in _HINTS if isinstance(annotations, dict) and annotations.get(key) is True)
    description = _text(tool.get("description")).removeprefix(f"[{upstream}] ")
    schema = json.dumps(tool.get("inputSchema", {}), indent=2, ensure_ascii=False)
    return Card(
        clean_line(tool["name"]),
        clean_line(_text(tool.get("title"))),
        upstream,
        clean_text(description, MAX_DESCRIPTION),
        hints,
        clean_text(schema, MAX_SCHEMA),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
