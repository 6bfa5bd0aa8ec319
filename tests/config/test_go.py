"""Go's rules for variables, durations and booleans, which files of mcpmux are written for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.expand import Expanded
from aggregator.config.go import expand, parse_go_boolean, parse_go_duration
from aggregator.config.scalars import Wrong

ENVIRON = {"A": "one", "B_2": "two", "E": "", "A:-x": "odd", "2": "special"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("no variable", "no variable"),
        ("${A}", "one"),
        ("$A", "one"),
        ("x${A}y$B_2-z", "xoneytwo-z"),
        ("$Ax", ""),
        ("${UNSET}|$UNSET|", "||"),
        ("${A:-x}", "odd"),
        ("${UNSET:-default}", ""),
        ("$", "$"),
        ("5 $", "5 $"),
        ("a$ b", "a$ b"),
        ('"$"', '"$"'),
        ("$/x", "$/x"),
        ("$(pidof mcpmux)", "$(pidof mcpmux)"),
        ("$$A", "A"),
        ("$2x", "specialx"),
        ("$?", ""),
        ("${}", ""),
        ("${", ""),
        ("${A", "A"),
        ("# $A in a comment", "# one in a comment"),
        ("€$A", "€one"),
        ("$É", "$É"),
    ],
)
def test_variables_are_expanded_as_go_does(source: str, text: str) -> None:
    assert expand(source, ENVIRON).text == text


def test_what_is_not_set_is_told_apart_from_what_is_empty() -> None:
    found = expand("$E ${UNSET} $", ENVIRON).variables
    assert [(each.name, each.position, each.is_set) for each in found] == [("E", 0, True), ("UNSET", 3, False)]


def test_a_place_in_the_expanded_text_leads_back_to_the_source() -> None:
    expansion = expand("a: ${A}\nb: x$B_2!\n", ENVIRON)
    assert expansion.text == "a: one\nb: xtwo!\n"
    assert [expansion.origin(index) for index in range(3)] == [0, 1, 2]
    assert [expansion.origin(index) for index in (3, 4, 5)] == [3, 3, 3]  # within a value: where it is written
    assert expansion.origin(6) == 7
    assert expansion.origin(expansion.text.index("!")) == 16
    assert expansion.written(3, 6) == "${A}"
    assert expansion.written(10, 15) == "x$B_2!"
    assert expansion.written(0, 1) is None


@given(st.text(alphabet="aA$ {}\n:é", max_size=30))
def test_every_place_leads_somewhere_and_never_backwards(source: str) -> None:
    expansion = expand(source, {"a": "longer\ntext", "A": ""})
    origins = [expansion.origin(index) for index in range(len(expansion.text) + 1)]
    assert origins == sorted(origins)
    assert all(0 <= origin <= len(source) for origin in origins)
    for index, origin in enumerate(origins[:-1]):
        if expansion.written(index, index) is None:
            assert expansion.text[index] == source[origin]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1m30s", 90),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("300ms", 0.3),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("0", 0),
        ("0s", 0),
        ("-5s", -5),
        ("+5s", 5),
    ],
)
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "5d", "1h-5m", "5M", "٥m", ".s", 5, None])
def test_what_is_no_duration_of_go_is_refused(text: Any) -> None:
    with pytest.raises(Wrong, match="is not a duration"):
        parse_go_duration(text)


def test_a_duration_from_the_environment_is_shown_as_written() -> None:
    with pytest.raises(Wrong, match=r"'\$\{TTL\}' is not a duration"):
        parse_go_duration(Expanded("hunter2", "${TTL}"))


@pytest.mark.parametrize(("value", "meant"), [(True, True), ("yes", True), ("On", True), ("off", False), ("n", False)])
def test_booleans_are_those_of_gos_yaml(value: Any, meant: bool) -> None:
    assert parse_go_boolean(value) is meant


@pytest.mark.parametrize("value", ["maybe", "", 1, 0, None, []])
def test_what_is_no_boolean_of_gos_yaml_is_refused(value: Any) -> None:
    with pytest.raises(Wrong, match="is neither true nor false"):
        parse_go_boolean(value)
