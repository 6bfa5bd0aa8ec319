"""What a search finds, how it is cut into pages, and what is left of hostile texts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.catalog import Catalog, Source, build_catalog
from aggregator.protocol.texts import HIDDEN
from aggregator.protocol.tool_search import MAX_SCHEMA, PAGE, Search, find_tools, parse_search

OURS = ({"name": "gateway__status", "title": "Gateway Status", "description": "Show it.", "inputSchema": {}},)


def tool(name: str, description: str = "Does things.", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def catalog(**tools: tuple[dict[str, Any], ...]) -> Catalog:
    sources = [Source(name, name, name.title(), listed) for name, listed in tools.items()]
    return build_catalog(sources, name_length=64, ours=OURS)


BOTH = catalog(mail=(tool("send", "Send a letter."), tool("read")), wiki=(tool("read", "Read a page."),))


def names(found: Any) -> list[str]:
    return [card.name for card in found.cards]


def test_without_words_everything_is_there_in_the_catalogs_order() -> None:
    found = find_tools(BOTH, Search())
    assert names(found) == ["mail__send", "mail__read", "wiki__read", "gateway__status"]
    assert (found.total, found.pages) == (4, 1)
    assert found.counts == (("mail", 2), ("wiki", 1), ("", 1))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("READ", ["mail__read", "wiki__read"]),
        ("read page", ["wiki__read"]),
        ("letter", ["mail__send"]),
        ("mail", ["mail__send", "mail__read"]),
        ("nothing like this", []),
    ],
)
def test_every_word_must_occur_in_name_title_or_description(words: str, expected: list[str]) -> None:
    assert names(find_tools(BOTH, Search(words))) == expected


def test_a_search_in_one_upstream_counts_all_of_them() -> None:
    found = find_tools(BOTH, Search("read", "wiki"))
    assert names(found) == ["wiki__read"]
    assert found.counts == (("mail", 2), ("wiki", 1), ("", 1))
    assert names(find_tools(BOTH, Search("", "unknown"))) == []


def test_a_card_says_whose_tool_it_is_and_what_it_says_of_itself() -> None:
    annotated = tool("wipe", "Wipes.", annotations={"destructiveHint": True, "readOnlyHint": "yes", "title": "Wipe"})
    [card, _] = find_tools(catalog(disk=(annotated,)), Search()).cards
    assert (card.upstream, card.title, card.description, card.hints) == (
        "disk",
        "Disk: Wipe",
        "Wipes.",
        ("destructive",),
    )
    assert card.schema == '{\n  "type": "object"\n}'


def test_many_tools_come_in_pages_and_a_page_too_far_is_the_last() -> None:
    many = catalog(up=tuple(tool(f"t{number}") for number in range(2500)))
    last = find_tools(many, Search(page=99999))
    assert (last.search.page, last.pages, last.total) == (51, 51, 2501)
    assert names(last) == ["gateway__status"]
    assert len(find_tools(many, Search(page=1)).cards) == PAGE


@pytest.mark.parametrize(
    ("parameters", "search"),
    [
        ({}, Search()),
        ({"q": "a\tb\u202e", "upstream": "x", "page": "3"}, Search("a b", "x", 3)),
        ({"page": "0"}, Search()),
        ({"page": "-1"}, Search()),
        ({"page": "٣"}, Search()),
        ({"page": "9" * 5000}, Search()),
    ],
)
def test_a_query_that_cannot_be_read_counts_as_absent(parameters: dict[str, str], search: Search) -> None:
    assert parse_search(parameters) == search


def test_a_long_schema_is_cut_and_says_so() -> None:
    wide = tool("t", inputSchema={"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}})
    [card, _] = find_tools(catalog(up=(wide,)), Search()).cards
    assert len(card.schema) < MAX_SCHEMA + 100
    assert "shortened" in card.schema


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_no_text_of_an_upstream_hides_or_reorders_characters(title: str, description: str, value: str) -> None:
    hostile = tool("t", description, title=title, inputSchema={"type": "object", "enum": [value], "title": title})
    for card in find_tools(catalog(up=(hostile,)), Search()).cards:
        for text in (card.name, card.title, card.description, card.schema):
            assert not HIDDEN.search(text)
