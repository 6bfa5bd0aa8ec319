"""Prompts, resources and templates side by side, and the pages of MCP Apps."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.catalog import MAX_LINKS, Catalog, build_catalog
from aggregator.protocol.merged_prompts import PromptRoute
from aggregator.protocol.paging import Kind
from aggregator.protocol.revisions import HANDSHAKE
from aggregator.protocol.source import Source
from aggregator.protocol.uris import MAX_TEMPLATES, Place

Json = dict[str, Any]


def source(name: str, prefix: str | None = None, **more: Any) -> Source:
    lists = {key: tuple(value) for key, value in more.items() if isinstance(value, list)}
    rest = {key: value for key, value in more.items() if not isinstance(value, list)}
    return Source(name, name if prefix is None else prefix, name.title(), **{"tools": (), **lists, **rest})


def catalog(*sources: Source) -> Catalog:
    return build_catalog(sources, name_length=64)


def listed(found: Catalog, kind: Kind) -> list[Json]:
    page = b'{"result":' + b"".join(found.page(HANDSHAKE, None, ttl=1, server={}, kind=kind))
    items: list[Json] = json.loads(page)["result"][kind]
    return items


def test_prompts_are_named_like_tools_in_a_name_space_of_their_own() -> None:
    found = catalog(
        source("a", tools=[{"name": "x"}], prompts=[{"name": "x", "arguments": [{"name": "y", "new": 1}], "new": 2}]),
        source("b", prompts=[{"name": "x", "title": "X", "description": "Says x."}]),
    )
    assert listed(found, "prompts") == [
        {"name": "a__x", "title": "A: x", "arguments": [{"name": "y", "new": 1}], "new": 2},
        {"name": "b__x", "title": "B: X", "description": "[b] Says x."},
    ]
    assert found.locate_prompt("b__x") == PromptRoute("b", "x")
    assert found.locate_prompt("x") is None
    assert found.counts == {"a": 1, "b": 0}, "of tools"


def test_nobody_is_shown_what_cannot_be_seen() -> None:
    hidden = "a\u202eb"
    prompt = {
        "name": "p",
        "title": hidden,
        "description": hidden,
        "arguments": [{"name": hidden, "description": hidden}],
    }
    resource = {"uri": "x://1", "name": hidden, "description": hidden}
    found = catalog(source("a", prompts=[prompt], resources=[resource]))
    (shown,) = listed(found, "prompts")
    assert (shown["title"], shown["description"]) == ("A: ab", "[a] ab")
    assert shown["arguments"] == [{"name": hidden, "description": "ab"}], "its name belongs to a call"
    assert found.flagged == {"a": ("the prompt p: hidden characters in its arguments",)}
    (shown,) = listed(found, "resources")
    assert (shown["name"], shown["title"], shown["description"]) == ("ab", "A: ab", "[a] ab")


def test_the_rules_of_names_hold_for_prompts() -> None:
    found = catalog(
        source("a", prompts=[{"name": "b__c"}]),
        source("a__b", prompts=[{"name": "c"}, {"name": "d"}, {"name": "d"}, {"name": 7}, {}]),
        source("down", listed=False),
        source("greedy", "", prompts=[{"name": "gateway__x"}, {"name": "down__x"}, {"name": "z"}]),
    )
    assert [prompt["name"] for prompt in listed(found, "prompts")] == ["a__b__c", "a__b__d", "z"]
    assert len(found.left_out["a__b"]) == 4
    assert len(found.left_out["greedy"]) == 2


def test_resources_keep_their_uris_unless_two_upstreams_use_one() -> None:
    found = catalog(
        source("a", resources=[{"uri": "x://1", "name": "one", "size": 3}]),
        source("b", resources=[{"uri": "x://1", "name": "other"}, {"uri": "x://2"}]),
    )
    assert listed(found, "resources") == [
        {"uri": "x://1", "name": "one", "title": "A: one", "size": 3},
        {"uri": "x://b.gateway/1", "name": "other", "title": "B: other"},
        {"uri": "x://2", "name": "x://2", "title": "B: x://2"},
    ]
    assert found.locate_uri("x://1") == Place("a", "x://1")
    assert found.locate_uri("x://b.gateway/1") == Place("b", "x://1")
    publish = found.publisher("b")
    assert publish is not None
    assert publish("x://1") == "x://b.gateway/1"


def test_one_upstream_alone_costs_nothing_and_one_without_resources_is_left_alone() -> None:
    found = catalog(source("a", resources=[{"uri": "x://1", "name": "one"}]), source("tools", tools=[{"name": "t"}]))
    assert found.publisher("a") is None
    assert found.publisher("tools") is None
    both = catalog(source("a", capabilities={"resources": {}}), source("b", capabilities={"resources": {}}))
    assert both.publisher("a") is not None


def test_of_very_many_links_in_one_result_the_rest_stays_as_it_came() -> None:
    found = catalog(source("a", resources=[{"uri": "x://1"}]), source("b", resources=[{"uri": "x://2"}]))
    publish = found.publisher("b")
    assert publish is not None
    shown = [publish(f"x://new/{number}") for number in range(MAX_LINKS + 1)]
    assert shown[MAX_LINKS - 1 :] == [f"x://b.gateway/new/{MAX_LINKS - 1}", f"x://new/{MAX_LINKS}"]
    assert publish("x://new/0") == "x://b.gateway/new/0"


def test_what_is_no_resource_is_left_out_and_said() -> None:
    found = catalog(
        source(
            "a",
            resources=[
                {"uri": "not a uri"},
                {"uri": 7},
                {},
                {"uri": "x:" + "y" * 9000},
                {"uri": "x://1"},
                {"uri": "x://1"},
            ],
            templates=[{"uriTemplate": 7}, {"uriTemplate": "x://{a}"}],
        )
    )
    assert [item["uri"] for item in listed(found, "resources")] == ["x://1"]
    assert [item["uriTemplate"] for item in listed(found, "resourceTemplates")] == ["x://{a}"]
    assert len(found.left_out["a"]) == 6


def test_templates_lead_back_by_their_text_and_by_what_they_make() -> None:
    template = {"uriTemplate": "x://{id}/data", "name": "data"}
    found = catalog(source("a", templates=[template]), source("b", templates=[template]))
    first, second = (item["uriTemplate"] for item in listed(found, "resourceTemplates"))
    assert (first, second) == ("x://{id}/data", "x://b.gateway/{id}/data")
    assert found.locate_template(second) == Place("b", "x://{id}/data")
    assert found.locate_template("x://b.gateway/7/data") == Place("b", "x://7/data")
    assert found.locate_uri("x://7/data") == Place("a", "x://7/data")


def test_only_so_many_templates_of_one_upstream_are_used() -> None:
    many = [{"uriTemplate": f"x://{number}/{{a}}", "name": "t"} for number in range(MAX_TEMPLATES + 5)]
    found = catalog(source("a", templates=many))
    assert len(listed(found, "resourceTemplates")) == MAX_TEMPLATES
    assert found.left_out["a"] == (f"5 templates after the first {MAX_TEMPLATES}",)


PAGE_OF: Json = {"_meta": {"ui": {"resourceUri": "ui://app/main.html"}}}


def test_the_page_of_a_tool_is_a_resource_even_if_no_list_has_it() -> None:
    found = catalog(
        source("a", tools=[{"name": "show", **PAGE_OF}]),
        source("b", tools=[{"name": "show", **PAGE_OF}]),
    )
    pages = [tool["_meta"]["ui"]["resourceUri"] for tool in found.tools]
    assert pages == ["ui://app/main.html", "ui://b.gateway/app/main.html"]
    assert [found.locate_uri(page) for page in pages] == [
        Place("a", "ui://app/main.html"),
        Place("b", "ui://app/main.html"),
    ]


def test_a_page_may_call_its_servers_tools_by_their_own_names() -> None:
    app = source("app", tools=[{"name": "show", **PAGE_OF}, {"name": "load"}])
    route = catalog(app).locate("load")
    assert route is not None
    assert (route.upstream, route.tool) == ("app", "load")


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "load"}],
        [{"name": "show", **PAGE_OF}, {"name": "load", "_meta": {"ui": {"visibility": ["model"]}}}],
    ],
)
def test_an_own_name_is_good_for_pages_only(tools: list[Json]) -> None:
    assert catalog(source("app", tools=tools)).locate("load") is None


def test_an_own_name_that_two_upstreams_with_pages_use_is_nobodys() -> None:
    one, two = (source(name, tools=[{"name": "show", **PAGE_OF}, {"name": "load"}]) for name in ("one", "two"))
    assert catalog(one, two).locate("load") is None
    plain = source("plain", tools=[{"name": "load"}])
    route = catalog(plain, two).locate("load")
    assert route is not None
    assert route.upstream == "two", "only a server with pages can be meant"


def test_a_published_name_comes_before_an_own_one_and_ours_before_all() -> None:
    app = source("app", tools=[{"name": "show", **PAGE_OF}, {"name": "load"}, {"name": "gateway__status"}])
    found = catalog(source("bare", "", tools=[{"name": "load"}]), app)
    route = found.locate("load")
    assert route is not None
    assert route.upstream == "bare"
    assert found.locate("gateway__status") is None


uris = st.sampled_from(["x://1", "x://2", "y:1", "y:1/2", "ui://a", "bad uri"])
sources = st.lists(
    st.tuples(st.lists(uris, max_size=4), st.lists(st.sampled_from(["p", "q", "P"]), max_size=3)),
    min_size=2,
    max_size=4,
)


@given(sources)
def test_no_list_shows_two_items_under_one_name_or_uri_and_each_leads_to_its_own_upstream(
    parts: list[tuple[list[str], list[str]]],
) -> None:
    found = catalog(
        *(
            source(
                f"u{number}",
                resources=[{"uri": uri, "name": "n", "of": number} for uri in listed_uris],
                prompts=[{"name": name, "of": number} for name in names],
            )
            for number, (listed_uris, names) in enumerate(parts)
        )
    )
    resources, prompts = listed(found, "resources"), listed(found, "prompts")
    assert len({item["uri"] for item in resources}) == len(resources)
    assert len({item["name"] for item in prompts}) == len(prompts)
    for item in resources:
        place = found.locate_uri(item["uri"])
        assert place is not None
        assert place.upstream == f"u{item['of']}"
    for item in prompts:
        route = found.locate_prompt(item["name"])
        assert route is not None
        assert re.fullmatch(rf"u{item['of']}__{route.prompt}", item["name"])
