"""`protocol.oidc.userinfo`: when more claims are asked for, and what of the answer counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.oidc import (
    ProviderMetadata,
    ProviderTokens,
    missing_claims,
    process_userinfo_response,
    userinfo_request,
)

METADATA = ProviderMetadata(
    "https://id.example.com",
    "https://id.example.com/a",
    "https://id.example.com/t",
    "https://id.example.com/k",
    userinfo_endpoint="https://graph.example.net/userinfo",
)
TOKENS = ProviderTokens("a.b.c", "the-access-token")
JSON = {"content-type": "application/json; charset=utf-8"}
VERIFIED = {"email": "alice@example.com", "email_verified": True}


def told(claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Mapping[str, Any]:
    return process_userinfo_response(200, JSON, json.dumps(userinfo).encode(), claims)


@pytest.mark.parametrize(
    ("claims", "user_claim", "allowed", "missing"),
    [
        ({}, "sub", (), ()),
        ({"hd": "example.com"}, "sub", ("hd",), ()),
        ({"groups": []}, "sub", ("groups",), ()),
        ({}, "preferred_username", (), ("preferred_username",)),
        ({"preferred_username": None}, "preferred_username", (), ("preferred_username",)),
        ({}, "upn", ("groups", "upn"), ("upn", "groups")),
        (VERIFIED, "email", (), ()),
        ({"email": "a@example.com", "email_verified": False}, "email", (), ()),
        ({"email": "a@example.com"}, "email", (), ("email_verified",)),
        ({}, "sub", ("email",), ("email", "email_verified")),
    ],
)
def test_only_what_decides_a_login_is_missed(
    claims: dict[str, Any], user_claim: str, allowed: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    assert missing_claims({"sub": "a1", **claims}, user_claim, allowed) == missing


def test_the_access_token_travels_in_the_header() -> None:
    assert userinfo_request(METADATA, TOKENS) == (
        "https://graph.example.net/userinfo",
        {"accept": "application/json", "authorization": "Bearer the-access-token"},
    )


def test_without_an_endpoint_nothing_is_asked() -> None:
    assert userinfo_request(replace(METADATA, userinfo_endpoint=None), TOKENS) is None


def test_without_a_bearer_token_nothing_can_be_asked() -> None:
    with pytest.raises(IdentityProviderUnavailable, match="no access token of type Bearer"):
        userinfo_request(METADATA, ProviderTokens("a.b.c"))


def test_missing_claims_are_filled_in_and_present_ones_stay() -> None:
    claims = {"sub": "a1", "name": "Alice", "hd": None, "iss": "https://id.example.com"}
    assert told(claims, {"sub": "a1", "name": "Mallory", "hd": "example.com", "groups": ["eng"], "iss": "x"}) == {
        "sub": "a1",
        "name": "Alice",
        "hd": "example.com",
        "groups": ["eng"],
        "iss": "https://id.example.com",
    }


@pytest.mark.requirement("OI7")
@pytest.mark.parametrize("subject", ["a2", "A1", "a1 ", "", None, 1, ["a1"]])
def test_an_answer_about_somebody_else_is_refused(subject: object) -> None:
    with pytest.raises(LoginRefused, match="another person"):
        told({"sub": "a1"}, {"sub": subject, "groups": ["eng"]})
    with pytest.raises(LoginRefused, match="another person"):
        told({"sub": "a1"}, {"groups": ["eng"]})


@pytest.mark.requirement("OI7")
@pytest.mark.parametrize(
    ("in_token", "in_answer", "result"),
    [
        ({}, VERIFIED, VERIFIED),
        ({"email": "alice@example.com"}, VERIFIED, VERIFIED),
        ({"email": "boss@example.com"}, VERIFIED, VERIFIED),
        (
            {"email_verified": True},
            {"email": "boss@example.com"},
            {"email": "boss@example.com", "email_verified": None},
        ),
        (
            {"email": "boss@example.com"},
            {"email_verified": True},
            {"email": "boss@example.com", "email_verified": None},
        ),
        (VERIFIED, {"email": "boss@example.com", "email_verified": True}, VERIFIED),
        (
            {"email": "boss@example.com", "email_verified": False},
            VERIFIED,
            {"email": "boss@example.com", "email_verified": False},
        ),
    ],
)
def test_an_address_and_the_word_that_it_is_verified_come_from_one_document(
    in_token: dict[str, Any], in_answer: dict[str, Any], result: dict[str, Any]
) -> None:
    assert told({"sub": "a1", **in_token}, {"sub": "a1", **in_answer}) == {"sub": "a1", **result}


@pytest.mark.parametrize("kind", ["application/jwt", "Application/JWT; charset=utf-8"])
def test_a_signed_answer_is_refused_with_the_way_out(kind: str) -> None:
    with pytest.raises(IdentityProviderUnavailable, match="userinfo_signed_response_alg"):
        process_userinfo_response(200, {"content-type": kind}, b"a.b.c", {"sub": "a1"})


def test_a_refusal_gives_the_code_and_nothing_else_of_the_provider() -> None:
    challenge = 'Bearer realm="x", error="insufficient_scope", error_description="token the-access-token lacks email"'
    with pytest.raises(IdentityProviderUnavailable, match=r"403: insufficient_scope; .*auth\.scopes") as caught:
        process_userinfo_response(403, {"www-authenticate": challenge}, b"the-access-token", {"sub": "a1"})
    assert "the-access-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"[]"), (200, b""), (200, b'{"sub":"a1","sub":"a2"}'), (302, b""), (401, b""), (500, b"")],
)
def test_any_other_answer_is_an_ill_provider(status: int, body: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable):
        process_userinfo_response(status, {}, body, {"sub": "a1"})


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["content-type", "www-authenticate"]), st.text()),
    st.binary(max_size=200)
    | st.dictionaries(st.text(), st.none() | st.text() | st.integers()).map(lambda value: json.dumps(value).encode()),
)
def test_no_answer_raises_anything_else_or_changes_who_it_is(status: int, headers: dict[str, str], body: bytes) -> None:
    claims = {"sub": "a1", "email": "a@example.com", "email_verified": False}
    try:
        merged = process_userinfo_response(status, headers, body, claims)
    except (IdentityProviderUnavailable, LoginRefused):
        return
    assert (merged["sub"], merged["email"]) == ("a1", "a@example.com")
