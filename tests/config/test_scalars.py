"""Durations, sizes, numbers and texts: what is taken, what is meant, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.expand import Expanded
from aggregator.config.scalars import (
    UNITS,
    Wrong,
    nearest,
    parse_boolean,
    parse_duration,
    parse_milliseconds,
    parse_size,
    parse_text,
    show,
    whole,
)

port = whole(0, 65535, "port")


def refusal(parse: Callable[[Any], Any], value: Any) -> Wrong:
    with pytest.raises(Wrong) as caught:
        parse(value)
    return caught.value


@given(st.integers(1, 999_999_999), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == number * UNITS[unit]


@given(st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none()))
def test_anything_is_a_duration_or_refused(value: Any) -> None:
    try:
        seconds = parse_duration(value)
    except Wrong:
        return
    assert seconds > 0


@pytest.mark.parametrize(
    ("parse", "value", "expected"),
    [
        (parse_duration, Expanded(" 15m ", "${X}"), 900.0),
        (parse_milliseconds, 5000, 5.0),
        (parse_milliseconds, 5000.0, 5.0),
        (parse_milliseconds, Expanded("5000", "${X}"), 5.0),
        (parse_size, "4MiB", 4 * 2**20),
        (parse_size, "1024B", 1024),
        (port, 0, 0),
        (port, 65535, 65535),
        (port, Expanded("8080", "${X}"), 8080),
        (parse_boolean, True, True),
        (parse_boolean, Expanded("False", "${X}"), False),
        (parse_text, Expanded("x", "${X}"), "x"),
    ],
)
def test_good_values_are_taken(parse: Callable[[Any], Any], value: Any, expected: Any) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    ("parse", "value", "words", "suggestion"),
    [
        (parse_duration, 25, "25 is not a duration", "25s"),
        (parse_duration, "15 m", "'15 m' is not a duration", None),
        (parse_duration, "0s", "no time at all", None),
        (parse_duration, "1h30m", "is not a duration", None),
        (parse_duration, "-5s", "is not a duration", None),
        (parse_duration, True, "true is not a duration", None),
        (parse_duration, "٣s", "is not a duration", None),
        (parse_milliseconds, "5s", "'5s' is not a number of milliseconds", "5000"),
        (parse_milliseconds, "5000", "write the number without quotes", None),
        (parse_milliseconds, 0, "from 1 to 86400000", None),
        (parse_milliseconds, 1.5, "1.5 is not a number of milliseconds", None),
        (parse_milliseconds, True, "true is not a number", None),
        (parse_milliseconds, 10**9, "from 1 to 86400000", None),
        (parse_size, "4MB", "'4MB' is not a size", "4MiB"),
        (parse_size, "4m", "'4m' is not a size", "4MiB"),
        (parse_size, 4194304, "4194304 is not a size", None),
        (parse_size, "1B", "out of range", None),
        (parse_size, "2GiB", "out of range", None),
        (port, -1, "-1 is not a port", None),
        (port, 65536, "from 0 to 65535", None),
        (port, "3000", "write the number without quotes", None),
        (port, Expanded("http", "${PORT}"), "'${PORT}' is not a port once filled", None),
        (port, None, "nothing is not a port", None),
        (parse_boolean, "yes", "'yes' is neither true nor false", "true"),
        (parse_boolean, 1, "1 is neither true nor false", None),
        (parse_text, 5, "5 is not a text; put it in quotes", None),
        (parse_text, "", "an empty text", None),
        (parse_text, "a\nb", "line break", None),
        (parse_text, ["a"], "a list is not a text", None),
    ],
)
def test_bad_values_are_refused_with_what_was_meant(
    parse: Callable[[Any], Any], value: Any, words: str, suggestion: str | None
) -> None:
    wrong = refusal(parse, value)
    assert words in str(wrong)
    assert wrong.suggestion == suggestion


@given(st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text())))
def test_a_shown_value_is_one_short_line(value: Any) -> None:
    shown = show(value)
    assert shown.isprintable() or not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert len(shown) <= 400


def test_a_value_from_the_environment_is_shown_as_the_file_writes_it() -> None:
    assert show(Expanded("hunter2", "${X}")) == "'${X}'"


@pytest.mark.parametrize(
    ("word", "meant"), [("client_id", "clientId"), ("clientid", "clientId"), ("clintId", "clientId"), ("zzz", None)]
)
def test_the_nearest_key_is_the_one_meant(word: str, meant: str | None) -> None:
    assert nearest(word, ["clientId", "scopes"]) == meant
