"""The reader: YAML 1.2 and JSON as values with positions, problems of form, and nothing that crashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.document import MAX_VALUES, parse_document, render_path

PLAIN: list[tuple[str, Any]] = [
    ("no", "no"),
    ("on", "on"),
    ("yes", "yes"),
    ("True", True),
    ("false", False),
    ("~", None),
    ("null", None),
    ("", None),
    ("0", 0),
    ("-12", -12),
    ("012", "012"),
    ("0x10", "0x10"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("2026-11-21", "2026-11-21"),
    ("1.5", 1.5),
    ("5e3", 5000.0),
    (".inf", ".inf"),
    ("1234567890123456789", "1234567890123456789"),
    ("'5'", "5"),
    ('"true"', "true"),
    ("!!str 5", "5"),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), PLAIN, ids=[text or "nothing" for text, _ in PLAIN])
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    document = parse_document(f"key: {text}\n")
    assert document.problems == ()
    assert document.root == {"key": value}
    assert type(document.root["key"]) is type(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**16), 10**16)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\ufeff", exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner),
    max_leaves=8,
)


@given(json_values, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_is_read_as_json(value: Any, indent: Any, ascii_only: bool) -> None:
    wrapped = {"value": value}
    document = parse_document(json.dumps(wrapped, indent=indent, ensure_ascii=ascii_only))
    assert document.problems == ()
    assert document.root == wrapped


def test_an_escaped_backslash_before_u_is_no_surrogate() -> None:
    text = r'{"a": "\\ud83d\\ude00", "b": "\ud83d\ude00"}'
    assert parse_document(text).root == json.loads(text)


def test_values_and_keys_have_places() -> None:
    document = parse_document("a:\n  - b: 'x'\n    c: [1,\n      2]\n")
    places = {render_path(path): (place.key, place.value) for path, place in document.places.items()}
    assert places == {
        "": ((1, 1), (1, 1)),
        "a": ((1, 1), (2, 3)),
        "a[0]": ((2, 5), (2, 5)),
        "a[0].b": ((2, 5), (2, 8)),
        "a[0].c": ((3, 5), (3, 8)),
        "a[0].c[0]": ((3, 9), (3, 9)),
        "a[0].c[1]": ((4, 7), (4, 7)),
    }


def test_what_is_not_there_has_the_place_of_what_is_around_it() -> None:
    document = parse_document("a: 1\nb:\n  c: 2\n")
    place = document.place(("b", "missing", 3))
    assert place is not None
    assert place.key == (2, 1)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", '{"a": 1,\n "b": 2,\n"a": {"x": [3]}}'])
def test_a_key_that_stands_twice_is_a_problem_and_the_first_counts(text: str) -> None:
    document = parse_document(text)
    assert document.root == {"a": 1, "b": 2}
    (problem,) = document.problems
    assert (problem.path, problem.line, problem.column) == ("a", 3, 1)
    assert problem.message == "stands twice; it is on line 1 already"


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"a": 1,, }', 1, 9, "not valid JSON: Expecting property name"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "not valid JSON: Expecting ',' delimiter"),
        ('{"a": 1', 1, 8, "not valid JSON: Expecting ',' delimiter"),
        ("a: 1\n b: 2\n", 2, 3, "not valid YAML: mapping values are not allowed"),
        ("a:\n\tb: 1\n", 2, 1, "a tab stands here; YAML is indented with spaces"),
        ("a: 'x\n", 2, 1, "not valid YAML"),
        ("a: [x, ${Y}]\n", 1, 8, 'inside [ ] and { } a variable needs quotes: "${NAME}"'),
        ("a: {b: ${Y}}\n", 1, 8, "inside [ ] and { } a variable needs quotes"),
        ("a: [x, y\nb: 1\n", 2, 2, "did not find expected ',' or ']'"),
        ("a: \x07\n", 1, 4, "a control character (0x07)"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document"),
        ("[a, b]: 1\n", 1, 1, "a key is a plain text"),
    ],
)
def test_broken_syntax_is_one_problem_with_its_place(text: str, line: int, column: int, words: str) -> None:
    document = parse_document(text)
    assert document.broken
    (problem,) = document.problems
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message


def test_aliases_work_within_reason() -> None:
    document = parse_document("a: &x {b: [1]}\nc: *x\n")
    assert document.root == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize("text", ["a: *nowhere\n", "a: &x [*x]\n", "*x : 1\n"])
def test_an_alias_without_its_anchor_above_is_a_problem(text: str) -> None:
    document = parse_document(text)
    assert len(document.problems) == 1
    assert "nowhere" not in document.problems[0].message


def test_a_tag_is_a_problem() -> None:
    document = parse_document("a: !env X\nb: !!set {x: 1}\nc: !list []\n")
    assert [problem.path for problem in document.problems] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 5_000 + "x",
        '{"a":' * 40 + "1" + "}" * 40,
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join(f'*{a}' for _ in range(10))}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "x: [" + "1," * (MAX_VALUES + 1) + "]",
    ],
    ids=["lists", "mappings", "blocks", "json", "billion laughs", "long"],
)
def test_an_absurd_text_is_a_problem_and_not_a_crash(text: str) -> None:
    document = parse_document(text)
    assert document.broken
    assert len(document.problems) == 1


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    parse_document(text)
    parse_document("{" + text)


def test_odd_keys_are_quoted_in_a_path() -> None:
    assert render_path(("a", 0, "b c", "$schema", "x-y")) == 'a[0]["b c"].$schema.x-y'
