from __future__ import annotations

import gc
import json
import operator
from dataclasses import replace
from typing import Any

from aggregator.protocol.catalog import build_catalog
from aggregator.protocol.drafts import MAX_SHOWN, Drafts
from aggregator.protocol.paging import Item
from aggregator.protocol.source import Source

TOOLS: list[dict[str, Any]] = [
    {"name": "a", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}},
    {"name": "b", "inputSchema": {"type": "object", "properties": {"x": {"type": "string", "enum": ["\u200b"]}}}},
    {"name": "c", "inputSchema": {"type": "object"}},
]


def listed(drafts: Drafts, tools: list[dict[str, Any]], upstream: str = "up", **more: Any) -> Source:
    """As another answer of the upstream: nothing of it is the same object as anything else."""
    taken = drafts.take(json.loads(json.dumps(tools)))
    return Source(upstream, upstream, upstream, tuple(draft.tool for draft in taken), drafts=taken, **more)


def test_equal_tools_of_two_peoples_listings_are_read_and_rendered_once() -> None:
    drafts = Drafts()
    mine, theirs = listed(drafts, TOOLS), listed(drafts, [*TOOLS, {"name": "own"}])
    first, second = (build_catalog([source], name_length=64) for source in (mine, theirs))
    assert all(map(operator.is_, first.lists["tools"].items, second.lists["tools"].items))
    assert [item.shown["name"] for item in second.lists["tools"].items] == ["up__a", "up__b", "up__c", "up__own"]
    for mine_shown, theirs_shown in zip(first.lists["tools"].items, second.lists["tools"].items, strict=False):
        for stateless in (True, False):
            assert mine_shown.render(stateless=stateless) is theirs_shown.render(stateless=stateless)


def test_tools_that_differ_in_anything_are_two() -> None:
    drafts = Drafts()
    alike: list[Any] = [1, True, 1.0, "1", None]
    taken = drafts.take([{"name": "a", "x": value} for value in alike] + [{"x": 1, "name": "a"}])
    assert len({id(draft) for draft in taken}) == len(alike) + 1


def test_nothing_is_kept_that_no_listing_has() -> None:
    drafts = Drafts()
    source = listed(drafts, TOOLS)
    assert len(drafts) == 3
    source = listed(drafts, TOOLS[:1])
    gc.collect()
    assert len(drafts) == len(source.tools) == 1


def test_what_is_said_of_a_tool_is_said_in_every_catalog() -> None:
    drafts = Drafts()
    bad = {"name": "bad", "inputSchema": {"type": "object", "properties": {"x": {"x-mcp-header": "no token"}}}}
    nameless: dict[str, Any] = {"inputSchema": {}}
    for _ in range(2):
        catalog = build_catalog([listed(drafts, [*TOOLS, bad, nameless])], name_length=64)
        assert catalog.flagged == {"up": ("b: U+200B in 'enum' of 'x'",)}
        assert [reason.partition(":")[0] for reason in catalog.left_out["up"]] == [
            "bad",
            "a tool without a usable name or inputSchema",
        ]
        assert catalog.counts == {"up": 3}


def test_names_links_and_titles_are_each_catalogs_own() -> None:
    drafts = Drafts()
    page = {"name": "p", "inputSchema": {}, "_meta": {"ui": {"resourceUri": "ui://page"}}}
    source = listed(drafts, [page], capabilities={"resources": {}})
    first = Source("first", "first", "First", ({**page, "name": "q"},), capabilities={"resources": {}})
    alone, beside = (build_catalog(sources, name_length=64).tools[-1] for sources in ([source], [first, source]))
    assert alone["_meta"]["ui"]["resourceUri"] == "ui://page"
    assert beside["_meta"]["ui"]["resourceUri"] == "ui://up.gateway/page"
    called = build_catalog([replace(source, prefix="other", display="Other")], name_length=64).tools[0]
    assert (called["name"], called["title"]) == ("other__p", "Other: p")
    narrowed = build_catalog([replace(source, exclude=("p",))], name_length=64)
    assert narrowed.tools == ()
    assert build_catalog([source], name_length=64).tools == (alone,)


def test_an_upstream_that_has_another_title_every_time_takes_no_more_memory() -> None:
    drafts = Drafts()
    source = listed(drafts, TOOLS)
    for number in range(100):
        catalog = build_catalog([replace(source, display=f"Title {number}")], name_length=64)
        assert catalog.tools[0]["title"] == f"Title {number}: a"
    gc.collect()
    assert sum(isinstance(thing, Item) and thing.shown["name"] == "up__a" for thing in gc.get_objects()) <= MAX_SHOWN
