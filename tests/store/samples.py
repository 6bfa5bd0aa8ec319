"""Grants, connections and registrations for the store's tests. No test knowledge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Connection, Grant, UpstreamRegistration

NOW = 1_800_000_000.0
DAY = 86400.0
ISSUER = "https://idp.example"
ADA = Principal(ISSUER, "ada")
BOB = Principal(ISSUER, "bob")
KEY = b"k" * 32


def keys() -> KeyRing:
    return KeyRing([KEY])


def grant(grant_id: str = "g1", **changes: Any) -> Grant:
    """A grant whose code may be redeemed for a minute."""
    return replace(
        Grant(
            id=grant_id,
            principal=ADA,
            label="ada@example.com",
            client="client-1",
            client_name="A client",
            redirect_uri="http://127.0.0.1/callback",
            scope="mcp",
            resource="https://mcp.example/mcp",
            created_at=NOW,
            expires_at=NOW + 60,
        ),
        **changes,
    )


def connection(**changes: Any) -> Connection:
    return replace(
        Connection(
            principal=ADA,
            upstream="gmail",
            id="c1",
            access_token="access-of-ada",
            refresh_token="refresh-of-ada",
            scope="mail.read",
            expires_at=NOW + 3600,
            issuer="https://as.example",
            client_id="our-id",
            resource="https://gmail.example/mcp",
            account="ada@gmail.example",
            connected_at=NOW,
            issued_at=NOW,
        ),
        **changes,
    )


def registration(**changes: Any) -> UpstreamRegistration:
    return replace(
        UpstreamRegistration(
            upstream="gmail",
            issuer="https://as.example",
            client_id="our-id",
            client_secret="our-secret",
            auth_method="client_secret_basic",
            redirect_uri="https://mcp.example/upstream-auth/callback/gmail",
            scope="mail.read",
            expires_at=NOW + DAY,
        ),
        **changes,
    )
