"""Asking the provider again: what is a clear no, and what says nothing of the person."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import IdentityProviderUnavailable
from aggregator.protocol.oidc import (
    ProviderMetadata,
    Refreshed,
    Withdrawn,
    parse_discovery,
    process_refresh_response,
    refresh_request,
)

from .signing import ISSUER

JSON = {"content-type": "application/json"}
GOOD = {"access_token": "a" * 20, "token_type": "Bearer", "expires_in": 300}


def metadata(**changes: Any) -> ProviderMetadata:
    endpoints = {name: f"{ISSUER}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    return parse_discovery(json.dumps({"issuer": ISSUER, **endpoints, **changes}).encode(), ISSUER)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_the_request_names_us_as_the_login_did_and_asks_for_no_other_scope() -> None:
    headers, form = refresh_request(metadata(), client_id="us", client_secret=None, refresh_token="r1")
    assert form == {"client_id": "us", "grant_type": "refresh_token", "refresh_token": "r1"}
    assert headers == {"accept": "application/json"}
    headers, form = refresh_request(metadata(), client_id="us", client_secret="s", refresh_token="r1")
    assert headers["authorization"].startswith("Basic ")
    assert "client_secret" not in form
    post = metadata(token_endpoint_auth_methods_supported=["client_secret_post"])
    assert refresh_request(post, client_id="us", client_secret="s", refresh_token="r1")[1]["client_secret"] == "s"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (GOOD, Refreshed(None, "a" * 20, None)),
        (GOOD | {"refresh_token": "r2"}, Refreshed(None, "a" * 20, "r2")),
        (GOOD | {"refresh_token": "r2", "id_token": "h.p.s"}, Refreshed("h.p.s", "a" * 20, "r2")),
        (GOOD | {"token_type": "mac"}, Refreshed()),
        (GOOD | {"refresh_token": 7, "id_token": ["x"]}, Refreshed(None, "a" * 20, None)),
        (GOOD | {"refresh_token": ""}, Refreshed(None, "a" * 20, None)),
        (GOOD | {"expires_in": "soon"}, Refreshed(None, "a" * 20, None)),
        ({"refresh_token": "r2"}, Refreshed(None, None, "r2")),  # no access token: a fault, but r1 is void now
        ({"id_token": "h.p.s"}, Refreshed("h.p.s", None, None)),
    ],
)
def test_a_good_answer_vouches_for_the_person_and_may_renew_the_token(fields: Any, expected: Refreshed) -> None:
    assert process_refresh_response(200, JSON, body(**fields)) == expected


@pytest.mark.parametrize("status", [400, 403])
def test_invalid_grant_is_the_one_clear_no(status: int) -> None:
    assert process_refresh_response(status, JSON, body(error="invalid_grant")) == Withdrawn("invalid_grant")
    told = body(error="invalid_grant", error_description="Session not active\u202e " + "t" * 30)
    assert process_refresh_response(status, JSON, told) == Withdrawn("Session not active? ***")


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, body(error="invalid_client")),
        (400, body(error="invalid_request")),
        (400, body(error=["invalid_grant"])),
        (400, b"<html>invalid_grant</html>"),
        (400, b'{"error": "invalid_grant", "error": "invalid_grant"}'),
        (401, body(error="invalid_client")),
        (401, body(error="invalid_grant")),
        (403, b"<html>blocked</html>"),
        (404, body(error="invalid_grant")),
        (408, b""),
        (429, body(error="invalid_grant")),
        (429, b"slow down"),
        (500, body(error="invalid_grant")),
        (500, body(error="server_error")),
        (502, b"<html>Bad Gateway</html>"),
        (503, body(error="temporarily_unavailable")),
        (302, b""),
        (200, b""),
        (200, b"[]"),
        (200, b"not json"),
        (200, b"{}"),
        (200, body(access_token=None)),
        (
            200,
            body(error="invalid_grant", access_token="a"),
        ),  # how GitHub and Slack say no, and no OpenID provider
    ],
)
def test_everything_else_says_nothing_of_the_person(status: int, content: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable):
        process_refresh_response(status, JSON, content)


@given(
    st.integers(100, 599),
    st.binary(max_size=60) | st.dictionaries(st.text(max_size=9), st.text(max_size=9)).map(lambda d: body(**d)),
)
def test_any_answer_is_one_of_the_three_and_never_another_error(status: int, content: bytes) -> None:
    try:
        answer = process_refresh_response(status, {}, content)
    except IdentityProviderUnavailable:
        return
    assert isinstance(answer, Refreshed) == (status == 200)


def test_no_text_holds_a_token() -> None:
    assert "secret" not in repr(Refreshed("secret", "secret", "secret"))
