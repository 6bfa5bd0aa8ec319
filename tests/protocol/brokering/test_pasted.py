"""The address that somebody pastes: the answer to this login, whole, or a word what else it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.brokering.pasted import MAX_PASTED, parse_pasted, state_of

BACK = "http://localhost:8080/upstream-auth/callback/mail"


def parse(pasted: str) -> dict[str, str]:
    return dict(parse_pasted(pasted, redirect_uri=BACK, state="s1"))


@pytest.mark.parametrize(
    "pasted",
    [
        f"{BACK}?code=c&state=s1&iss=https%3A%2F%2Fas.example",
        f"  {BACK}?code=c&state=s1&iss=https%3A%2F%2Fas.example\n",
        f"{BACK}?code=c&sta\nte=s1&iss=https%3A%2F%2F\r\nas.example",
        f"{BACK}?code=c&state=s1&iss=https%3A%2F%2Fas.example#fragment",
    ],
)
def test_the_whole_address_is_an_answer_however_the_terminal_broke_it(pasted: str) -> None:
    assert parse(pasted) == {"code": "c", "state": "s1", "iss": "https://as.example"}


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("", "whole address"),
        ("c", "whole address"),
        ("https://evil.example/?code=c&state=s1", "whole address"),
        (f"{BACK}/x?code=c&state=s1", "whole address"),
        ("http://127.0.0.1:8080/upstream-auth/callback/mail?code=c&state=s1", "whole address"),
        (f"{BACK}?code=c", "another login"),
        (f"{BACK}?code=c&state=other", "another login"),
        (f"{BACK}?code=c&state=s1&state=s1", "another login"),
        (f"{BACK}?state=s1", "neither a code nor an error"),
        (f"{BACK}?code=c&code=d&state=s1", "neither a code nor an error"),
        (f"{BACK}?code={'c' * MAX_PASTED}&state=s1", "another login"),
    ],
)
def test_anything_else_is_not_and_is_not_quoted(pasted: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        parse(pasted)
    assert "evil" not in caught.value.description


def test_the_state_is_found_before_anything_is_believed() -> None:
    assert state_of(f"{BACK}?code=c&state=s1") == "s1"
    assert state_of("no address") == ""


@given(st.text())
def test_any_text_is_refused_in_words(text: str) -> None:
    state_of(text)
    with pytest.raises(Refusal):
        parse(text)
