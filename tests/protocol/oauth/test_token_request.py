"""Requests to the token endpoint: what is asked, and who asks."""

from __future__ import annotations

import base64
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.registration import Client, hash_secret
from aggregator.protocol.oauth.token_request import (
    CodeRequest,
    RefreshRequest,
    authenticate_client,
    parse_token_request,
)

from .values import CLIENTS, NOW, client, client_id

PUBLIC = client()
CONFIDENTIAL = client(id="reg-2", auth_method="client_secret_post", secret_hash=hash_secret("s3:cret%"))


def authenticated(form: dict[str, str], authorization: str | None = None) -> Client:
    return authenticate_client(form, authorization, clients=CLIENTS, now=NOW)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{quote_plus(name)}:{quote_plus(password)}".encode()).decode()


def test_a_form_is_read_once_into_what_it_asks() -> None:
    form = {"grant_type": "authorization_code", "code": "c", "code_verifier": "v", "unknown": "x"}
    assert parse_token_request(form) == CodeRequest("c", "v", None, None)
    form = {"grant_type": "refresh_token", "refresh_token": "r", "scope": "s", "resource": "u"}
    assert parse_token_request(form) == RefreshRequest("r", "s", "u")


@pytest.mark.requirement("TK1")
@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "ü"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
    ],
)
def test_an_incomplete_or_unknown_grant_is_refused(form: dict[str, str], error: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_token_request(form)
    assert (caught.value.status, caught.value.error) == (400, error)


def test_a_public_client_only_names_itself() -> None:
    assert authenticated({"client_id": client_id(PUBLIC)}) == PUBLIC
    assert authenticated({}, basic(client_id(PUBLIC), "")) == PUBLIC


@pytest.mark.requirement("TK5")
def test_a_confidential_client_proves_itself_in_the_form_or_by_basic() -> None:
    id = client_id(CONFIDENTIAL)
    assert authenticated({"client_id": id, "client_secret": "s3:cret%"}) == CONFIDENTIAL
    assert authenticated({}, basic(id, "s3:cret%")) == CONFIDENTIAL
    assert authenticated({"client_id": id}, basic(id, "s3:cret%")) == CONFIDENTIAL


@pytest.mark.requirement("TK5")
@pytest.mark.parametrize("secret", [None, "wrong", "s3:cret", "ü", "\ud800"])
def test_a_confidential_client_without_its_secret_is_invalid(secret: str | None) -> None:
    form = {"client_id": client_id(CONFIDENTIAL)} | ({} if secret is None else {"client_secret": secret})
    with pytest.raises(Refusal) as caught:
        authenticated(form)
    assert (caught.value.status, caught.value.error, caught.value.headers) == (401, "invalid_client", ())


@pytest.mark.requirement("TK5")
@pytest.mark.parametrize(
    "authorization",
    [
        basic("x", "y"),
        basic(client_id(CONFIDENTIAL), "wrong"),
        basic(client_id(CONFIDENTIAL), ""),
        "Basic",
        "Basic %",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Bearer x",
        "",
    ],
)
def test_after_failed_basic_authentication_there_is_a_basic_challenge(authorization: str) -> None:
    with pytest.raises(Refusal) as caught:
        authenticated({}, authorization)
    assert (caught.value.status, caught.value.error) == (401, "invalid_client")
    assert caught.value.headers == (("www-authenticate", 'Basic realm="mcp-aggregator"'),)


@pytest.mark.parametrize(
    ("form", "authorization"),
    [
        ({}, None),
        ({"client_secret": "x"}, None),
        ({"client_secret": "s3:cret%"}, basic(client_id(CONFIDENTIAL), "s3:cret%")),
        ({"client_id": "other"}, basic(client_id(CONFIDENTIAL), "s3:cret%")),
    ],
)
def test_no_client_or_two_are_a_bad_request(form: dict[str, str], authorization: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        authenticated(form, authorization)
    assert (caught.value.status, caught.value.error) == (400, "invalid_request")


def test_an_unknown_client_is_told_to_register_again() -> None:
    with pytest.raises(Refusal) as caught:
        authenticated({"client_id": "nobody"})
    assert (caught.value.status, caught.value.error) == (401, "invalid_client")


@given(st.text(), st.dictionaries(st.sampled_from(["client_id", "client_secret"]), st.text(min_size=1)))
def test_any_credentials_of_strangers_are_refused_cleanly(authorization: str, form: dict[str, str]) -> None:
    for header in (None, authorization, "Basic " + base64.b64encode(authorization.encode("utf-8", "replace")).decode()):
        with pytest.raises(Refusal):
            authenticated(form, header)
