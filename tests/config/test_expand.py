"""``${NAME}``: what is replaced, what is not, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.expand import Expanded, Unexpandable, expand_text, expand_tree

names = st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
ENVIRON = {"A": "one", "EMPTY": "", "TRICK": "${A}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("x${A}y${A}", "xoneyone"),
        ("${UNSET:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${UNSET:-}", ""),
        ("${A:-two}", "one"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("$A", "$A"),
        ("$$", "$$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        # What a variable holds is text, not a template.
        ("${TRICK}", "${A}"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    assert expand_text(text, ENVIRON) == expected


@pytest.mark.parametrize("text", ["${UNSET}", "${}", "${1A}", "${A", "${A:?no}", "${A-b}", "${ A }", "${Ä}"])
def test_what_cannot_be_replaced_is_refused(text: str) -> None:
    with pytest.raises(Unexpandable):
        expand_text(text, ENVIRON)


@given(names, st.text())
def test_a_variable_arrives_letter_by_letter(name: str, value: str) -> None:
    expanded = expand_text(f"${{{name}}}", {name: value})
    assert isinstance(expanded, Expanded)
    assert expanded == value
    assert expanded.written == f"${{{name}}}"


@given(st.text().filter(lambda text: "${" not in text), names)
def test_a_default_arrives_letter_by_letter(default: str, name: str) -> None:
    default = default.replace("}", "")
    assert expand_text(f"${{{name}:-{default}}}", {}) == default


@given(st.text())
def test_every_text_can_be_written(text: str) -> None:
    assert expand_text(text.replace("${", "$${"), {}) == text or "$${" in text


def test_texts_are_expanded_wherever_they_stand_and_keys_never() -> None:
    tree = {"${A}": ["${A}", 1, None, {"x": "${UNSET}"}], "y": "${A}"}
    expanded, faults = expand_tree(tree, ENVIRON)
    assert expanded == {"${A}": ["one", 1, None, {"x": "${UNSET}"}], "y": "one"}
    assert [path for path, _ in faults] == [("${A}", 3, "x")]
