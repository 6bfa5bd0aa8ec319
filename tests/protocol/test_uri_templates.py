from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.uri_templates import MAX_LENGTH, parse_template


@pytest.mark.parametrize(
    ("template", "uri", "same"),
    [
        ("a://b", "a://b", True),
        ("a://b", "a://bc", False),
        ("t://{id}/data", "t://7/data", True),
        ("t://{id}/data", "t://a%2Fb/data", True),
        ("t://{id}/data", "t://a/b/data", False),
        ("t://{id}/data", "t://7/data/", False),
        ("t://{id}/data", "t:///data", True),
        ("t://{id}", "t://data/data", False),
        ("t://{+path}/data", "t://a/b/data", True),
        ("t://{path*}/data", "t://a/b/data", True),
        ("t:/{/path}", "t://a", True),
        ("t://x{?q,r}", "t://x?q=1&r=/", True),
        ("t://x{?q,r}", "t://x", True),
        ("t://{a}{b}", "t://ab", True),
        ("t://{a}{+b}", "t://a/b", True),
        ("t://{a}-{b}", "t://a-b-c", True),
        ("t://{a}/{b}/{c}", "t://1/2/3", True),
        ("t://{a}/{b}/{c}", "t://1/2", False),
        ("t://{a}/x/{+b}/x", "t://1/x/2/x/3/x", True),
        ("{+all}", "anything at all", True),
        ("t://{a}.{b}", "t://x", False),
    ],
)
def test_a_template_matches_what_it_may_have_made(template: str, uri: str, same: bool) -> None:
    parsed = parse_template(template)
    assert parsed is not None
    assert parsed.matches(uri) is same


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{a{b}c}", "x" * (MAX_LENGTH + 1)])
def test_what_is_no_template_is_none(text: str) -> None:
    assert parse_template(text) is None


@given(st.lists(st.sampled_from(["a", "/", "{x}", "{+y}", "b-"]), max_size=8), st.text("ab/-0", max_size=12))
def test_it_decides_as_a_regular_expression_would(parts: list[str], uri: str) -> None:
    """The expression is what it must never be made of: on some of these it would take for ever if they were longer."""
    parsed = parse_template("".join(parts))
    assert parsed is not None
    pattern, gap = "", "[^/]*"
    for part in parts:
        gap = ".*" if part == "{+y}" else gap
        pattern += gap if part[0] == "{" else re.escape(part)
    pattern = pattern.replace("[^/]*.*", ".*")  # side by side they are one gap
    assert parsed.matches(uri) is (re.fullmatch(pattern, uri) is not None)
    assert parsed.matches(parsed.example)


def test_the_worst_template_and_uri_are_compared_quickly() -> None:
    tried = (parse_template(("a" + gap) * 300 + "b") for gap in ("{x}", "{+x}", "/{x}"))
    worst = [parsed for parsed in tried if parsed is not None]
    assert len(worst) == 3
    started = time.process_time()
    for parsed in worst:
        for uri in ("a" * (MAX_LENGTH - 2) + "cb", "a/" * (MAX_LENGTH // 2 - 1) + "cb"):
            for _ in range(100):
                parsed.matches(uri)
    assert time.process_time() - started < 2
    assert not worst[1].matches("a" * MAX_LENGTH + "b"), "longer ones are not compared"
