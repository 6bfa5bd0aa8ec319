"""Names, prefixes, scopes, claims and stores."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.kinds import (
    AUTH_TYPES,
    one_of,
    parse_allow,
    parse_code_lifetime,
    parse_name,
    parse_prefix,
    parse_scope,
    parse_storage,
)
from aggregator.config.scalars import NotYet, Wrong


@given(st.from_regex("[A-Za-z0-9_-]{1,32}", fullmatch=True).filter(lambda name: name.lower() != "gateway"))
def test_a_name_of_good_characters_is_taken(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 33, "a b", "gmail\n", "gmäil", "a/b", "a:b", ".", "..", "...", "gateway", "Gateway", 5, None, ["a"]],
)
def test_anything_else_is_no_name(name: Any) -> None:
    with pytest.raises(Wrong):
        parse_name(name)


def test_a_prefix_may_be_empty_and_is_a_name_otherwise() -> None:
    assert parse_prefix("") == ""
    assert parse_prefix("mail") == "mail"
    for prefix in ("gateway", "a b", None):
        with pytest.raises(Wrong):
            parse_prefix(prefix)


@pytest.mark.parametrize("scope", ["openid", "https://www.googleapis.com/auth/x", "a:b/c.d"])
def test_a_scope_is_one_token(scope: str) -> None:
    assert parse_scope(scope) == scope


@pytest.mark.parametrize("scope", ["openid email", "", 'a"b', "a\\b", "é", 5])
def test_anything_else_is_no_scope(scope: Any) -> None:
    with pytest.raises(Wrong):
        parse_scope(scope)


@pytest.mark.parametrize(
    ("storage", "kept"), [("", "memory"), ("memory", "memory"), ("/data/a.sqlite", "/data/a.sqlite"), ("x", "x")]
)
def test_storage_is_memory_or_a_path(storage: str, kept: str) -> None:
    assert parse_storage(storage) == kept


@pytest.mark.parametrize("storage", ["redis://h", "sqlite:///x", "file://x", ":memory:", 5, "mysql://u:hunter2@h/d"])
def test_other_stores_do_not_exist(storage: Any) -> None:
    with pytest.raises(Wrong) as caught:
        parse_storage(storage)
    assert not isinstance(caught.value, NotYet)
    assert "hunter2" not in str(caught.value)


def test_claims_are_texts_or_lists_of_texts() -> None:
    assert parse_allow({"hd": "a.com", "groups": ["x", "y"]}) == {"hd": ("a.com",), "groups": ("x", "y")}
    assert parse_allow({}) == {}


@pytest.mark.parametrize("allow", [{"groups": []}, {"hd": True}, {"hd": ""}, {"hd": ["a", 1]}, ["a"], "a", {"hd": {}}])
def test_a_rule_that_nobody_could_meet_is_refused(allow: Any) -> None:
    with pytest.raises(Wrong):
        parse_allow(allow)


def test_a_word_that_is_none_of_those_known_is_told_them() -> None:
    parse = one_of(AUTH_TYPES)
    assert parse("bearer") == "bearer"
    for wrong in ("users", 5, None, ["user"]):
        with pytest.raises(Wrong, match="is not one of 'user', 'none'") as caught:
            parse(wrong)
        assert caught.value.suggestion == ("user" if wrong == "users" else None)


def test_a_code_lives_ten_minutes_at_most() -> None:
    assert parse_code_lifetime("10m") == 600.0
    with pytest.raises(Wrong, match="too long"):
        parse_code_lifetime("11m")
