"""`protocol.oidc.discovery`: a provider is who the configuration says, and its endpoints are usable URLs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import IdentityProviderUnavailable
from aggregator.protocol.oidc import ProviderMetadata, discovery_url, parse_discovery

ISSUER = "https://id.example.com"


def document(*, drop: str = "", **changed: Any) -> bytes:
    fields = {
        "issuer": ISSUER,
        "authorization_endpoint": ISSUER + "/authorize",
        "token_endpoint": "https://tokens.example.net/token?tenant=1",
        "jwks_uri": ISSUER + "/keys",
        "some_extension": {"unknown": [1, 2]},
        **changed,
    }
    fields.pop(drop, None)
    return json.dumps(fields).encode()


def test_a_minimal_document_is_enough() -> None:
    assert parse_discovery(document(), ISSUER) == ProviderMetadata(
        ISSUER,
        ISSUER + "/authorize",
        "https://tokens.example.net/token?tenant=1",
        ISSUER + "/keys",
        token_auth_methods=("client_secret_basic",),
        iss_in_response=False,
        userinfo_endpoint=None,
    )


def test_what_the_provider_declares_is_kept() -> None:
    declared = document(
        token_endpoint_auth_methods_supported=["private_key_jwt", "client_secret_post"],
        authorization_response_iss_parameter_supported=True,
        userinfo_endpoint="https://graph.example.net/userinfo",
    )
    metadata = parse_discovery(declared, ISSUER)
    assert metadata.token_auth_methods == ("private_key_jwt", "client_secret_post")
    assert metadata.iss_in_response is True
    assert metadata.userinfo_endpoint == "https://graph.example.net/userinfo"


@pytest.mark.requirement("OI1")
@pytest.mark.parametrize(
    ("discovered", "configured"),
    [
        (ISSUER, ISSUER),
        (ISSUER + "/", ISSUER),
        (ISSUER, ISSUER + "/"),
        (ISSUER + "/realms/a", ISSUER + "/realms/a/"),
    ],
)
def test_one_trailing_slash_may_differ_and_the_discovered_issuer_counts(discovered: str, configured: str) -> None:
    assert parse_discovery(document(issuer=discovered), configured).issuer == discovered


@pytest.mark.requirement("OI1")
@pytest.mark.parametrize(
    ("discovered", "configured"),
    [
        ("https://evil.example.com", ISSUER),
        (ISSUER + "//", ISSUER),
        (ISSUER, ISSUER + "//"),
        (ISSUER + "/other", ISSUER),
        (ISSUER.upper(), ISSUER),
        ("http://id.example.com", ISSUER),
        (ISSUER + ":443", ISSUER),
        (ISSUER + "?", ISSUER),
        ("https://login.example.com/{tenantid}/v2.0", "https://login.example.com/common/v2.0"),
        ("https://keycloak.somewhere.example.com/realms/other", "https://keycloak.somewhere.example.com/realms/mine"),
    ],
)
def test_another_issuer_is_refused_and_both_are_named(discovered: str, configured: str) -> None:
    with pytest.raises(IdentityProviderUnavailable) as caught:
        parse_discovery(document(issuer=discovered), configured, allow_http=True)
    assert discovered in str(caught.value)
    assert configured in str(caught.value)
    assert "auth.issuer" in str(caught.value)


@pytest.mark.requirement("OI1")
def test_an_issuer_that_stands_for_many_tenants_says_so() -> None:
    """Whoever accepts such a pattern lets every tenant of the provider in."""
    with pytest.raises(IdentityProviderUnavailable, match=r"many tenants.*your own tenant"):
        parse_discovery(document(issuer="https://login.example.com/{tenantid}/v2.0"), "https://login.example.com/v2.0")


def test_an_error_shows_an_address_without_what_may_be_secret() -> None:
    for issuer in ("https://user:pass@evil.example.com/", "https://evil.example.com/?token=pass", "https://x/#pass"):
        with pytest.raises(IdentityProviderUnavailable) as caught:
            parse_discovery(document(issuer=issuer), ISSUER)
        assert "pass" not in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_a_missing_or_mistyped_field_is_named(name: str) -> None:
    wrong: tuple[Any, ...] = (None, 7, "", ["https://id.example.com"])
    for broken in (document(drop=name), *(document(**{name: value}) for value in wrong)):
        with pytest.raises(IdentityProviderUnavailable, match=f"'{name}'"):
            parse_discovery(broken, ISSUER)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/x",
        "/relative",
        "//id.example.com/x",
        "https://",
        "https:///path",
        "https://user:password@id.example.com/",
        "https://id.example.com/#fragment",
        "https://id.example.com:port/",
        "https://id.example.com/ space",
        "https://id.example.com/\nx",
        "https://id.example.com\\@evil.example.com/",
        "https://[::1/",
        "https://bücher.example/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://id.example.com/",
    ],
)
def test_an_endpoint_that_is_no_plain_https_url_is_refused(name: str, url: str) -> None:
    with pytest.raises(IdentityProviderUnavailable, match=f"'{name}'"):
        parse_discovery(document(**{name: url}), ISSUER, allow_http=True)


@pytest.mark.parametrize(
    ("issuer", "allow_http", "accepted"),
    [
        ("http://localhost:8080", False, True),
        ("http://127.0.0.1:8080", False, True),
        ("http://127.9.9.9", False, True),
        ("http://[::1]:8080/realms/a", False, True),
        ("http://id.internal", True, True),
        ("http://id.internal", False, False),
        ("http://localhost.example.com", False, False),
        ("http://127.0.0.1.example.com", False, False),
        ("http://2130706433", False, False),
        ("http://169.254.169.254", False, False),
    ],
)
def test_plain_http_is_for_loopback_issuers_or_by_permission(issuer: str, allow_http: bool, accepted: bool) -> None:
    plain = document(
        issuer=issuer,
        authorization_endpoint=issuer + "/a",
        token_endpoint=issuer + "/t",
        jwks_uri=issuer + "/k",
    )
    if accepted:
        assert parse_discovery(plain, issuer, allow_http=allow_http).issuer == issuer
    else:
        with pytest.raises(IdentityProviderUnavailable, match="not https"):
            parse_discovery(plain, issuer, allow_http=allow_http)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>down</html>",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"issuer": "https://id.example.com", "issuer": "https://evil.example.com"}',
        b'{"n": NaN}',
        b'{"n": 1e999}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"n": "\\ud800"}',
        "\ufeff{}".encode(),
    ],
)
def test_what_is_no_json_object_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable):
        parse_discovery(body, ISSUER)


@pytest.mark.parametrize("value", ["client_secret_basic", [1], {"a": 1}, None])
def test_mistyped_authentication_methods_are_named(value: object) -> None:
    with pytest.raises(IdentityProviderUnavailable, match="token_endpoint_auth_methods_supported"):
        parse_discovery(document(token_endpoint_auth_methods_supported=value), ISSUER)


def test_a_flag_must_be_a_flag() -> None:
    with pytest.raises(IdentityProviderUnavailable, match="iss_parameter"):
        parse_discovery(document(authorization_response_iss_parameter_supported="yes"), ISSUER)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, ISSUER + "/.well-known/openid-configuration"),
        (ISSUER + "/", ISSUER + "/.well-known/openid-configuration"),
        (ISSUER + "/realms/a", ISSUER + "/realms/a/.well-known/openid-configuration"),
    ],
)
def test_the_document_stands_below_the_issuer(issuer: str, url: str) -> None:
    assert discovery_url(issuer) == url


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_document_raises_anything_else(body: bytes) -> None:
    with pytest.raises(IdentityProviderUnavailable):
        parse_discovery(body, ISSUER)
