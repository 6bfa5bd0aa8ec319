"""Authorization server metadata: where it is looked for, whose it must be, and what makes it unusable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.errors import ConnectFailed
from aggregator.protocol.brokering.reach import Reach
from aggregator.protocol.brokering.server import (
    OtherIssuer,
    ServerMetadata,
    default_server,
    is_same_issuer,
    metadata_urls,
    parse_server_metadata,
)

ISSUER = "https://as.example"
REACH = Reach(("https://mcp.example/mcp",))


def document(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "code_challenge_methods_supported": ["S256"],
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def parse(asked: str = ISSUER, /, *, vouched: bool = False, **changes: Any) -> ServerMetadata:
    return parse_server_metadata(document(**changes), asked, REACH, is_vouched_for=vouched)


@pytest.mark.requirement("UP2")
@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://as.example",
            [
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ],
        ),
        (
            "https://as.example/",
            [
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ],
        ),
        (
            "https://as.example:8443/tenant/1",
            [
                "https://as.example:8443/.well-known/oauth-authorization-server/tenant/1",
                "https://as.example:8443/.well-known/openid-configuration/tenant/1",
                "https://as.example:8443/tenant/1/.well-known/openid-configuration",
            ],
        ),
        (
            "https://as.example/t/",
            [
                "https://as.example/.well-known/oauth-authorization-server/t",
                "https://as.example/.well-known/openid-configuration/t",
                "https://as.example/t/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_the_three_places_are_asked_in_order(issuer: str, urls: list[str]) -> None:
    assert list(metadata_urls(issuer)) == urls


@pytest.mark.requirement("UP1")
@pytest.mark.parametrize(
    ("named", "asked", "same"),
    [
        ("https://as.example", "https://as.example", True),
        ("https://as.example/", "https://as.example", True),
        ("https://as.example", "https://as.example/", True),
        ("https://as.example/t/", "https://as.example/t", True),
        ("https://as.example//", "https://as.example", False),
        ("https://AS.example", "https://as.example", False),
        ("https://as.example:443", "https://as.example", False),
        ("http://as.example", "https://as.example", False),
        ("https://as.example/t", "https://as.example", False),
        ("https://honest.example", "https://evil.example", False),
    ],
)
def test_metadata_counts_only_for_the_issuer_that_it_names(named: str, asked: str, same: bool) -> None:
    assert is_same_issuer(named, asked) is same
    if same:
        assert parse(asked, issuer=named).issuer == named  # what `iss` must then be, to the letter
    else:
        with pytest.raises(OtherIssuer, match="speaks for"):
            parse(asked, issuer=named)


@pytest.mark.requirement("UP2")
@pytest.mark.parametrize(
    ("methods", "vouched", "taken"),
    [
        (["S256"], False, True),
        (["plain", "S256"], False, True),
        (["plain"], False, False),
        ([], False, False),
        (..., False, False),
        ("S256", False, False),
        (None, False, False),
        (..., True, True),  # Entra ID, named by the operator
        (["plain"], True, False),
        ([], True, False),
    ],
)
def test_a_server_without_pkce_is_refused(methods: Any, vouched: bool, taken: bool) -> None:
    if taken:
        parse(vouched=vouched, code_challenge_methods_supported=methods)
    else:
        with pytest.raises(ConnectFailed, match="PKCE"):
            parse(vouched=vouched, code_challenge_methods_supported=methods)


@pytest.mark.requirement("UP7", "UP8")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(document.cookie)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "http://as.example/x",
        "http://localhost/x",
        "http://169.254.169.254/latest/meta-data",
        "https://user:pass@as.example/x",
        "https://as.example/x#y",
        "//as.example/x",
        "/x",
        "",
        5,
        ...,
    ],
)
def test_an_endpoint_that_may_not_be_used_makes_the_server_useless(name: str, url: Any) -> None:
    with pytest.raises(ConnectFailed, match=name):
        parse(**{name: url})


@pytest.mark.requirement("UP8")
def test_an_endpoint_that_can_be_done_without_is_left_out() -> None:
    metadata = parse(
        registration_endpoint="http://169.254.169.254/",
        revocation_endpoint="file:///x",
        userinfo_endpoint="https://as.example/userinfo",
    )
    assert (metadata.registration_endpoint, metadata.revocation_endpoint) == (None, None)
    assert metadata.userinfo_endpoint == "https://as.example/userinfo"


def test_what_it_does_not_say_has_the_defaults_of_the_rfc() -> None:
    metadata = parse()
    assert metadata.auth_methods == ("client_secret_basic",)
    assert not metadata.iss_promised
    assert not metadata.takes_client_documents
    full = parse(
        token_endpoint_auth_methods_supported=["none"],
        scopes_supported=["openid", "a b", 5],
        authorization_response_iss_parameter_supported=True,
        client_id_metadata_document_supported=True,
    )
    assert full.scopes == ("openid", "a", "b")
    assert full.iss_promised
    assert full.takes_client_documents
    assert not parse(authorization_response_iss_parameter_supported="true").iss_promised


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"issuer": NaN}', b"{" * 5000])
def test_what_is_no_document_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ConnectFailed, match=r"metadata of https://as\.example is"):
        parse_server_metadata(body, ISSUER, REACH)


def test_an_older_server_without_metadata_has_the_default_endpoints() -> None:
    server = default_server("https://mcp.example")
    assert server.authorization_endpoint == "https://mcp.example/authorize"
    assert (server.token_endpoint, server.registration_endpoint) == (
        "https://mcp.example/token",
        "https://mcp.example/register",
    )
