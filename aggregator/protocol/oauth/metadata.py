"""Our two metadata documents: authorization server (RFC 8414) and protected resource (RFC 9728).

They are made from the configured issuer URL alone. Where they are served is
part of what they mean, so the paths are here as well.
"""

from __future__ import annotations

from typing import Any

from .registration import AUTH_METHODS, GRANT_TYPES, RESPONSE_TYPES
from .site import SCOPE, Site


def authorization_server_metadata(site: Site, *, takes_documents: bool = True) -> dict[str, Any]:
    """RFC 8414 2. `takes_documents` is whether clients may be described by metadata documents."""
    return {
        "issuer": site.issuer,
        "authorization_endpoint": site.url("/authorize"),
        "token_endpoint": site.url("/token"),
        "registration_endpoint": site.url("/register"),
        "revocation_endpoint": site.url("/revoke"),
        "scopes_supported": [SCOPE],
        "response_types_supported": list(RESPONSE_TYPES),
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,  # RFC 9207 3
        **({"client_id_metadata_document_supported": True} if takes_documents else {}),  # draft CIMD 6
    }


def protected_resource_metadata(site: Site) -> dict[str, Any]:
    """RFC 9728 2."""
    return {
        "resource": site.resource,
        "authorization_servers": [site.issuer],
        "scopes_supported": [SCOPE],
        "bearer_methods_supported": ["header"],
        "resource_name": "MCP aggregator",
    }


def authorization_server_paths(site: Site) -> tuple[str, ...]:
    """Where RFC 8414 3.1 puts the document, the root, and below our own path for a proxy that passes only that on."""
    name = "/.well-known/oauth-authorization-server"
    return _distinct(name + site.path, name, site.path + name)


def protected_resource_paths(site: Site) -> tuple[str, ...]:
    """Where RFC 9728 3.1 puts the document, the root form that MCP clients try next, and both below our own path."""
    name = "/.well-known/oauth-protected-resource"
    return _distinct(name + site.path + "/mcp", name, name + site.path, site.path + name, site.path + name + "/mcp")


def _distinct(*paths: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
