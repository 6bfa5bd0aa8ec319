"""Which headers an operator may set, and what they may say."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.headers import (
    MAX_VALUE,
    parse_header_name,
    read_again,
    read_bearer_token,
    read_header_value,
)
from aggregator.config.model import Secret
from aggregator.config.scalars import Wrong

HERE = Path("/nonexistent")


@pytest.mark.parametrize("name", ["X-Api-Key", "x-team", "Authorization", "Cookie", "User-Agent", "a.b_c~d!"])
def test_a_free_name_is_taken_as_written(name: str) -> None:
    assert parse_header_name(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Host", "belongs to the connection, which makes it itself"),
        ("content-length", "belongs to the connection"),
        ("Transfer-Encoding", "belongs to the connection"),
        ("CONNECTION", "belongs to the connection"),
        ("TE", "belongs to the connection"),
        ("Upgrade", "belongs to the connection"),
        ("Expect", "belongs to the connection"),
        ("Accept", "belongs to MCP"),
        ("Content-Type", "belongs to MCP"),
        ("Accept-Encoding", "belongs to MCP"),
        ("Last-Event-ID", "belongs to MCP"),
        ("Mcp-Session-Id", "belongs to MCP"),
        ("mcp-param-anything", "belongs to MCP"),
        ("Proxy-Authorization", "give user and password in outbound.proxy"),
        ("X Api Key", "is not the name of a header"),
        ("X-Api-Key:", "is not the name of a header"),
        ("Größe", "is not the name of a header"),
        ("x" * 129, "is not the name of a header"),
        ("", "an empty text"),
        ("X-A\r\nX-B", "a line break"),
        (5, "5 is not a text"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: Any, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse_header_name(name)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", ["a", "Basic dXM6cHc=", "a\tb", 'q="1", r', "x" * MAX_VALUE])
def test_a_value_of_plain_ascii_is_taken(value: str) -> None:
    assert read_header_value(value, HERE) == Secret(value)


BAD_VALUES: list[tuple[Any, str]] = [
    ("hunter2\r\nX-B: c", "holds a line break"),
    ("hunter2\n", "holds a line break"),
    ("hunter2\0", "a control character"),
    ("hunter2\x7f", "a control character"),
    ("hünter2", "not ASCII"),
    (" hunter2", "begins or ends with a space"),
    ("hunter2\t", "begins or ends with a space"),
    ("hunter2" * MAX_VALUE, "has 57344 characters"),
    ("", "an empty text"),
    (5, "put it in quotes"),
    (["hunter2"], "a list is not a secret"),
]


@pytest.mark.parametrize(("value", "words"), BAD_VALUES)
def test_what_no_header_can_say_is_refused_and_never_quoted(value: Any, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        read_header_value(value, HERE)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_value_that_is_taken_can_end_its_line(value: str) -> None:
    for read in (read_header_value, read_bearer_token):
        with contextlib.suppress(Wrong):
            taken = read(value, HERE).reveal()
            assert taken == value
            assert taken.isascii()
            assert not set(taken) & set("\r\n\0\x0b\x0c\x1c\x85")


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("Bearer abc", "give the token alone"),
        ("bearer abc", "give the token alone"),
        ("two words", "is it copied whole?"),
        ("abc\n", "is it copied whole?"),
        ("", "an empty text"),
        ("x" * (MAX_VALUE + 1), "has 8193 characters"),
    ],
)
def test_a_token_is_one_word(token: str, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        read_bearer_token(token, HERE)
    assert words in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_value_from_a_file_can_be_read_anew_with_what_stands_before_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    token = read_bearer_token({"file": "token"}, tmp_path).after("Bearer ")
    value = read_header_value({"file": "token"}, tmp_path)
    assert (token.reveal(), value.reveal()) == ("Bearer first", "first")
    (tmp_path / "token").write_text("second\n")
    for _ in range(2):
        token, value = read_again(token), read_again(value)
        assert (token.reveal(), value.reveal()) == ("Bearer second", "second")
    (tmp_path / "token").write_text("hunter2 \n")
    for secret in (token, value):
        with pytest.raises(Wrong) as caught:
            read_again(secret)
        assert "hunter2" not in str(caught.value)
    (tmp_path / "token").unlink()
    with pytest.raises(Wrong, match="cannot be read"):
        read_again(token)


def test_a_value_of_no_file_stays_what_it_is() -> None:
    secret = Secret("a")
    assert read_again(secret) is secret
    assert repr(secret.after("Bearer ")) == "Secret(***)"
