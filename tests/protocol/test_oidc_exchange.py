"""`protocol.oidc.exchange`: what we send to the provider, and what its answers mean."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest

from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.oidc import (
    ProviderMetadata,
    ProviderTokens,
    authorization_request,
    check_response_issuer,
    process_token_response,
    token_request,
)

METADATA = ProviderMetadata(
    "https://id.example.com", "https://id.example.com/a", "https://id.example.com/t", "https://k/"
)
VERIFIER = "v" * 43
JSON = {"content-type": "application/json"}


def authorize(metadata: ProviderMetadata = METADATA, scopes: tuple[str, ...] = ("openid", "email")) -> str:
    return authorization_request(
        metadata,
        client_id="mcp & co",
        redirect_uri="https://mcp.example.com/callback",
        scopes=scopes,
        state="the-state",
        nonce="the-nonce",
        code_verifier=VERIFIER,
    )


def exchange(metadata: ProviderMetadata, secret: str | None) -> tuple[dict[str, str], dict[str, str]]:
    return token_request(
        metadata,
        client_id="mcp-aggregator",
        client_secret=secret,
        code="the-code",
        redirect_uri="https://mcp.example.com/callback",
        code_verifier=VERIFIER,
    )


@pytest.mark.requirement("OI5", "OI6")
def test_the_authorization_request_carries_state_nonce_and_an_s256_challenge() -> None:
    url = urlsplit(authorize())
    assert url._replace(query="").geturl() == METADATA.authorization_endpoint
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    assert parse_qs(url.query) == {
        "response_type": ["code"],
        "client_id": ["mcp & co"],
        "redirect_uri": ["https://mcp.example.com/callback"],
        "scope": ["openid email"],
        "state": ["the-state"],
        "nonce": ["the-nonce"],
        "code_challenge": [base64.urlsafe_b64encode(digest).decode().rstrip("=")],
        "code_challenge_method": ["S256"],
    }
    assert VERIFIER not in url.query


def test_openid_is_asked_for_even_if_the_configuration_forgets_it() -> None:
    assert parse_qs(urlsplit(authorize(scopes=("email",))).query)["scope"] == ["openid email"]


@pytest.mark.parametrize("endpoint", ["https://k/a?tenant=1", "https://k/a?tenant=1&", "https://k/a?"])
def test_a_query_of_the_authorization_endpoint_is_retained(endpoint: str) -> None:
    url = authorize(replace(METADATA, authorization_endpoint=endpoint))
    assert url.startswith(endpoint)
    assert parse_qs(urlsplit(url).query, strict_parsing=True)["state"] == ["the-state"]


@pytest.mark.parametrize("methods", [("client_secret_basic",), ("client_secret_post", "client_secret_basic")])
def test_a_confidential_client_prefers_basic(methods: tuple[str, ...]) -> None:
    headers, form = exchange(replace(METADATA, token_auth_methods=methods), "s3cret")
    assert headers["authorization"] == "Basic " + base64.b64encode(b"mcp-aggregator:s3cret").decode()
    assert form == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "https://mcp.example.com/callback",
        "code_verifier": VERIFIER,
    }


def test_basic_encodes_both_halves_as_a_form_does() -> None:
    headers, _ = exchange(METADATA, "a:b c+d/ü%")
    user, _, password = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode().partition(":")
    assert user == "mcp-aggregator"
    assert password == "a%3Ab+c%2Bd%2F%C3%BC%25"
    assert unquote_plus(password) == "a:b c+d/ü%"


def test_post_is_used_where_basic_is_not_offered() -> None:
    headers, form = exchange(replace(METADATA, token_auth_methods=("client_secret_post",)), "s3cret")
    assert "authorization" not in headers
    assert (form["client_id"], form["client_secret"]) == ("mcp-aggregator", "s3cret")


def test_a_public_client_names_itself_and_sends_no_secret() -> None:
    headers, form = exchange(replace(METADATA, token_auth_methods=("none",)), None)
    assert "authorization" not in headers
    assert form["client_id"] == "mcp-aggregator"
    assert "client_secret" not in form


def test_a_provider_that_takes_no_secret_we_can_send_is_named() -> None:
    with pytest.raises(IdentityProviderUnavailable, match="private_key_jwt"):
        exchange(replace(METADATA, token_auth_methods=("private_key_jwt",)), "s3cret")


def test_the_issuer_of_the_response_may_be_absent_or_right() -> None:
    check_response_issuer(METADATA, None)
    check_response_issuer(METADATA, METADATA.issuer)


@pytest.mark.parametrize("issuer", ["https://evil.example.com", METADATA.issuer + "/", ""])
def test_a_response_from_another_issuer_is_refused(issuer: str) -> None:
    with pytest.raises(LoginRefused, match="another issuer"):
        check_response_issuer(METADATA, issuer)


def test_a_promised_issuer_that_is_missing_is_refused() -> None:
    with pytest.raises(LoginRefused, match="'iss'"):
        check_response_issuer(replace(METADATA, iss_in_response=True), None)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_the_id_token_and_a_bearer_token_are_taken_out_of_the_answer(kind: str) -> None:
    body = json.dumps({"id_token": "a.b.c", "access_token": "secret+/=", "token_type": kind, "x": {}}).encode()
    tokens = process_token_response(200, JSON, body)
    assert tokens == ProviderTokens("a.b.c", "secret+/=")
    assert "secret" not in repr(tokens)
    assert "a.b.c" not in repr(tokens)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"access_token": "secret"},
        {"access_token": "secret", "token_type": "DPoP"},
        {"access_token": "secret", "token_type": "Bearer, DPoP"},
        {"access_token": "secret", "token_type": ["Bearer"]},
        {"access_token": "se\r\ncret", "token_type": "Bearer"},
        {"access_token": "", "token_type": "Bearer"},
        {"access_token": 7, "token_type": "Bearer"},
        {"access_token": "x" * 40_000, "token_type": "Bearer"},
        {"token_type": "Bearer"},
    ],
)
def test_an_access_token_that_we_could_not_use_is_none_and_hinders_no_login(fields: dict[str, object]) -> None:
    body = json.dumps({"id_token": "a.b.c", **fields}).encode()
    assert process_token_response(200, JSON, body) == ProviderTokens("a.b.c", None)


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_code_is_a_refused_login(status: int) -> None:
    body = b'{"error": "invalid_grant", "error_description": "grant request is invalid"}'
    with pytest.raises(LoginRefused, match="invalid_grant"):
        process_token_response(status, JSON, body)


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
def test_a_refused_client_is_for_the_operator(status: int, error: str) -> None:
    with pytest.raises(IdentityProviderUnavailable, match=r"auth\.clientSecret"):
        process_token_response(status, JSON, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{}"),
        (200, b'{"id_token": 7}'),
        (200, b'{"id_token": ""}'),
        (200, b'{"error": "invalid_grant"}'),
        (200, b"<html>"),
        (200, b'["a"]'),
        (302, b""),
        (400, b"<html>"),
        (400, b"{}"),
        (400, b'{"error": 7}'),
        (400, b'{"error": "no code\\n"}'),
        (429, b'{"error": "slow_down"}'),
        (500, b'{"error": "server_error"}'),
        (502, b"Bad Gateway"),
    ],
)
def test_any_other_answer_is_an_ill_provider(status: int, body: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable):
        process_token_response(status, {}, body)


def test_an_error_never_repeats_a_code_or_a_token() -> None:
    code = "SplxlOBeZQQYbYS6WxSbIA-0123456789"
    body = json.dumps({"error": "invalid_grant", "error_description": f"code {code} is spent\r\nX-Evil: 1"}).encode()
    with pytest.raises(LoginRefused) as caught:
        process_token_response(400, JSON, body)
    assert code not in str(caught.value)
    assert str(caught.value).isprintable()
