"""A server on fastmcp that trusts an authorization server elsewhere, run as a script; prints ``listening URL``.

Usage: fastmcp_remote.py ISSUER [PORT], in an environment that has fastmcp. The issuer's tokens are JWTs for this
server's URL (RFC 8707), signed with the keys at ISSUER/jwks.
"""

# A script for an environment of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import socket
import sys

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token


def serve(issuer, port):
    listener = socket.create_server(("127.0.0.1", port))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    verifier = JWTVerifier(
        jwks_uri=f"{issuer}/jwks",
        issuer=issuer,
        audience=f"{base_url}/mcp",
        algorithm="RS256",
        required_scopes=["mcp:read"],
    )
    auth = RemoteAuthProvider(
        token_verifier=verifier,
        authorization_servers=[issuer],
        base_url=base_url,
        scopes_supported=["mcp:read", "mcp:write", "offline_access"],
    )
    server = FastMCP("remote", auth=auth)

    @server.tool
    def whoami() -> str:
        """On whose behalf this call comes."""
        return get_access_token().claims["sub"]

    print(f"listening {base_url}/mcp", flush=True)
    config = uvicorn.Config(server.http_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(sys.argv[1], int((*sys.argv[2:], "0")[0]))
