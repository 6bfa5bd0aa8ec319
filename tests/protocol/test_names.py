from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.protocol.catalog import build_catalog
from aggregator.protocol.confusables import skeletons
from aggregator.protocol.names import is_gateway_name, is_wanted, may_publish, published_name
from aggregator.protocol.source import Source

prefixes = st.from_regex(r"[A-Za-z0-9_.-]{1,32}", fullmatch=True) | st.just("")
short = st.text("abIl1_-.é \U0001f600", min_size=1, max_size=6)
tools = short | st.text(min_size=1, max_size=90) | st.from_regex(r"[a-z_]{30,100}", fullmatch=True)
limits = st.integers(48, 128)


@given(prefixes, tools, limits)
def test_a_published_name_is_short_plain_and_always_the_same(prefix: str, tool: str, limit: int) -> None:
    name = published_name(prefix, tool, limit)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name)
    assert len(name) <= limit
    assert name == published_name(prefix, tool, limit)
    assert may_publish(prefix, name)


@given(prefixes, st.from_regex(r"[A-Za-z0-9_.-]{1,14}", fullmatch=True))
def test_a_name_that_fits_is_left_alone(prefix: str, tool: str) -> None:
    assert published_name(prefix, tool, 64) == (f"{prefix}__{tool}" if prefix else tool)


@pytest.mark.requirement("AP3")
@settings(max_examples=300)
@given(st.lists(st.tuples(prefixes, st.lists(tools, max_size=6)), max_size=4), limits)
def test_every_tool_has_a_name_of_its_own_or_a_reason_why_not(
    upstreams: list[tuple[str, list[str]]], limit: int
) -> None:
    """A-P 3: published names are injective over all pairs, and lead back to where they came from."""
    sources = [
        Source(f"u{i}", prefix, f"U{i}", tuple({"name": tool} for tool in offered))
        for i, (prefix, offered) in enumerate(upstreams)
    ]
    catalog = build_catalog(sources, name_length=limit)
    names: list[Any] = [tool["name"] for tool in catalog.tools]
    assert len(set(names)) == len(names) == len(catalog.routes)
    assert set(names) == set(catalog.routes)
    reached = {(route.upstream, route.tool) for route in catalog.routes.values()}
    assert len(reached) == len(names)
    for source in sources:
        missing = [tool["name"] for tool in source.tools if (source.upstream, tool["name"]) not in reached]
        offered = len(source.tools)
        assert len(catalog.left_out.get(source.upstream, ())) == offered - catalog.counts[source.upstream]
        assert not missing or source.upstream in catalog.left_out
    owners: dict[str, str] = {}
    for name in names:
        for look in skeletons(name):  # no two upstreams publish names that look alike
            assert owners.setdefault(look, catalog.routes[name].upstream) == catalog.routes[name].upstream


def test_a_long_name_keeps_a_readable_head() -> None:
    name = published_name("github", "create_or_update_file_in_a_repository_of_your_organisation_now", 64)
    assert len(name) == 64
    assert name.startswith("github__create_or_update_file_in_a_repository_of_your_o")
    assert name != published_name("github", "create_or_update_file_in_a_repository_of_your_organisation_then", 64)
    assert published_name("a", "é", 64) != published_name("a", "è", 64)
    assert published_name("a", "x\n", 64) != "a__x\n"


@pytest.mark.parametrize("name", ["gateway__status", "Gateway__x", "GATEWAY__", "gateway__"])
def test_what_begins_with_gateway_is_ours(name: str) -> None:
    assert is_gateway_name(name)
    assert not is_gateway_name(name.replace("__", "_"))


@pytest.mark.parametrize(
    ("tool", "include", "exclude", "wanted"),
    [
        ("get_a", ("*",), (), True),
        ("get_a", ("get_*",), (), True),
        ("Get_a", ("get_*",), (), False),
        ("get_a", ("get_?",), (), True),
        ("get_a", ("get_[ab]",), (), True),
        ("get_a", (), (), False),
        ("get_a", ("*",), ("*_a",), False),
        ("get_a", ("get_a",), ("get_a",), False),
        ("get.a", ("get?a",), (), True),
    ],
)
def test_patterns_choose_and_exclusion_wins(tool: str, include: Any, exclude: Any, wanted: bool) -> None:
    assert is_wanted(tool, include, exclude) is wanted
