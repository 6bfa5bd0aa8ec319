"""Values that several tests of this room begin from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aggregator.protocol.brokering import Beginning
from aggregator.protocol.brokering.server import ServerMetadata

SERVER = ServerMetadata(
    issuer="https://as.example",
    authorization_endpoint="https://as.example/authorize",
    token_endpoint="https://as.example/token",
    registration_endpoint="https://as.example/register",
    auth_methods=("none",),
)
BEGINNING = Beginning(
    url="https://as.example/authorize?x",
    upstream="mail",
    issuer="https://as.example",
    token_endpoint="https://as.example/token",
    iss_promised=False,
    client_id="c1",
    resource="https://mcp.example/mcp",
    scope="read",
    redirect_uri="https://agg.example/upstream-auth/callback/mail",
    verifier="v" * 64,
)


def server(**changes: Any) -> ServerMetadata:
    return replace(SERVER, **changes)
