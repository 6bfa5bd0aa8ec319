from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.protocol.catalog import build_catalog
from aggregator.protocol.drafts import for_handshake_client
from aggregator.protocol.revisions import HANDSHAKE, STATELESS
from aggregator.protocol.source import Source

SERVER = {"name": "us"}


def source(name: str, *tools: Any, prefix: str | None = None, **more: Any) -> Source:
    return Source(name, name if prefix is None else prefix, name.title(), tools, **more)


def names(*sources: Source, **more: Any) -> list[str]:
    return [tool["name"] for tool in build_catalog(sources, name_length=64, **more).tools]


def result_of(page: tuple[bytes, bytes]) -> dict[str, Any]:
    message: dict[str, dict[str, Any]] = json.loads(b'{"result":' + b"".join(page))
    return message["result"]


def test_tools_stand_in_the_order_of_configuration_then_of_their_upstream_and_ours_come_last() -> None:
    listed = names(
        source("b", {"name": "z"}, {"name": "a"}), source("a", {"name": "m"}), ours=({"name": "gateway__x"},)
    )
    assert listed == ["b__z", "b__a", "a__m", "gateway__x"]


@pytest.mark.parametrize(
    ("tool", "title", "description", "inner"),
    [
        ({}, "Gmail: send", "[gmail] ", None),
        ({"title": "Send"}, "Gmail: Send", "[gmail] ", None),
        ({"description": "Sends.\n"}, "Gmail: send", "[gmail] Sends.\n", None),
        ({"annotations": {"title": "Inner"}}, "Gmail: Inner", "[gmail] ", "Gmail: Inner"),
        ({"annotations": {"title": "Inner"}, "title": "Outer"}, "Gmail: Outer", "[gmail] ", "Gmail: Inner"),
        ({"annotations": {"readOnlyHint": True}, "title": "Outer"}, "Gmail: Outer", "[gmail] ", "Gmail: Outer"),
    ],
)
def test_titles_and_descriptions_say_where_a_tool_comes_from(
    tool: dict[str, Any], title: str, description: str, inner: str | None
) -> None:
    catalog = build_catalog([source("gmail", {"name": "send", "inputSchema": {}, **tool})], name_length=64)
    (published,) = catalog.tools
    assert (published["title"], published["description"]) == (title, description)
    assert published.get("annotations", {}).get("title") == inner
    if "readOnlyHint" in tool.get("annotations", {}):
        assert published["annotations"]["readOnlyHint"] is True


def test_a_route_is_found_by_the_exact_name_only() -> None:
    catalog = build_catalog([source("a", {"name": "b__c"}), source("a__b", {"name": "d"})], name_length=64)
    route = catalog.locate("a__b__c")
    assert route is not None
    assert (route.upstream, route.tool) == ("a", "b__c")
    route = catalog.locate("a__b__d")
    assert route is not None
    assert (route.upstream, route.tool) == ("a__b", "d")
    for name in ("A__B__C", "a__b__c ", "b__c", "a__b", "", "gateway__status"):
        assert catalog.locate(name) is None


def test_two_upstreams_that_make_the_same_name_are_told_apart_by_their_order() -> None:
    catalog = build_catalog([source("a", {"name": "b__c"}), source("a__b", {"name": "c"})], name_length=64)
    route = catalog.locate("a__b__c")
    assert route is not None
    assert route.upstream == "a"
    assert catalog.left_out == {"a__b": ("c: the name 'a__b__c', or one that looks like it, already belongs to a",)}
    assert catalog.counts == {"a": 1, "a__b": 0}


def test_a_name_below_the_prefix_of_one_that_has_not_answered_is_kept_for_it() -> None:
    down, greedy = source("a", listed=False), source("b", {"name": "a__x"}, {"name": "A__y"}, {"name": "z"}, prefix="")
    assert names(down, greedy) == ["z"]
    assert names(greedy, down) == ["a__x", "A__y", "z"], "who is configured first may have any name"
    assert names(source("a", prefix="", listed=False), greedy) == ["a__x", "A__y", "z"]


def test_a_page_is_rendered_for_each_revision() -> None:
    tool = {"name": "x", "inputSchema": {}, "outputSchema": {"type": "string"}, "é": "\ud800"}
    catalog = build_catalog([source("a", tool)], name_length=64)
    stateless = result_of(catalog.page(STATELESS, None, ttl=5, server=SERVER))
    assert stateless["tools"][0]["outputSchema"] == {"type": "string"}
    assert (stateless["ttlMs"], stateless["cacheScope"], stateless["resultType"]) == (5, "private", "complete")
    again = result_of(catalog.page(STATELESS, None, ttl=4, server=SERVER))
    assert again["ttlMs"] == 4
    handshake = result_of(catalog.page(HANDSHAKE, None, ttl=5, server=SERVER))
    assert set(handshake) == {"tools"}
    assert "outputSchema" not in handshake["tools"][0]
    assert handshake["tools"][0]["é"] == "\ud800"


def test_only_an_output_schema_that_an_older_client_cannot_read_is_taken_away() -> None:
    for schema in ({"type": "object"}, {"type": "object", "$defs": {}}):
        tool = {"name": "a", "outputSchema": schema}
        assert for_handshake_client(tool) is tool
    others: list[Any] = [{"type": "array"}, {"type": ["object", "null"]}, {"anyOf": []}, True, [], "x"]
    for other in others:
        assert for_handshake_client({"name": "a", "outputSchema": other}) == {"name": "a"}
