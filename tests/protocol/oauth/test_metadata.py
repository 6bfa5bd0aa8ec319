"""The metadata documents say what holds, and follow from the issuer URL alone."""

from __future__ import annotations

import pytest

from aggregator.protocol.oauth.metadata import (
    authorization_server_metadata,
    authorization_server_paths,
    protected_resource_metadata,
    protected_resource_paths,
)
from aggregator.protocol.oauth.site import site_of

from .values import SITE


@pytest.mark.requirement("AZ11", "MD2")
def test_the_authorization_server_describes_itself() -> None:
    document = authorization_server_metadata(SITE)
    assert document["issuer"] == "https://mcp.example.com"
    assert document["authorization_endpoint"] == "https://mcp.example.com/authorize"
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["authorization_response_iss_parameter_supported"] is True
    assert document["client_id_metadata_document_supported"] is True
    assert "client_id_metadata_document_supported" not in authorization_server_metadata(SITE, takes_documents=False)
    assert "none" in document["token_endpoint_auth_methods_supported"]  # claude.ai asks for both before it uses CIMD


@pytest.mark.requirement("MD1", "RS8")
def test_the_protected_resource_describes_itself() -> None:
    document = protected_resource_metadata(SITE)
    assert document["resource"] == "https://mcp.example.com/mcp"
    assert document["authorization_servers"] == ["https://mcp.example.com"]
    assert document["scopes_supported"] == ["mcp:tools"]


@pytest.mark.requirement("MD1", "MD2")
def test_documents_stand_where_clients_look() -> None:
    assert authorization_server_paths(SITE) == ("/.well-known/oauth-authorization-server",)
    assert protected_resource_paths(SITE) == (
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-protected-resource",
    )
    team = site_of("https://h.example/team")
    assert authorization_server_paths(team)[0] == "/.well-known/oauth-authorization-server/team"
    assert "/team/.well-known/oauth-authorization-server" in authorization_server_paths(team)
    assert protected_resource_paths(team)[0] == "/.well-known/oauth-protected-resource/team/mcp"


@pytest.mark.parametrize("url", ["https://h.example/team", "https://h.example/team/"])
def test_an_issuer_with_a_path_carries_it_everywhere_and_never_a_trailing_slash(url: str) -> None:
    site = site_of(url)
    assert (site.issuer, site.path, site.origin) == ("https://h.example/team", "/team", "https://h.example")
    assert authorization_server_metadata(site)["token_endpoint"] == "https://h.example/team/token"
    assert protected_resource_metadata(site)["resource"] == "https://h.example/team/mcp"
    assert site.secure
    assert not site_of("http://localhost:3000").secure
