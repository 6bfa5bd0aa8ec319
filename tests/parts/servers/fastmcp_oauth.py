"""A server on fastmcp behind its own OAuth server, run as a script; prints ``listening URL``.

Usage: fastmcp_oauth.py [PORT [ACCESS_SECONDS]], in an environment that has fastmcp. Clients register themselves;
refresh tokens rotate. fastmcp's in-memory provider knows no people and lets everybody in: here its login page asks for
a name, so that `whoami` can tell on whose behalf a call came. ``GET /people`` counts what was issued, for tests.
"""

# A script for an environment of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import secrets
import socket
import sys
from html import escape
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.providers import in_memory
from fastmcp.server.dependencies import get_access_token
from mcp.server.auth.settings import ClientRegistrationOptions, RevocationOptions
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse


class People(in_memory.InMemoryOAuthProvider):
    """fastmcp's provider, with a login page."""

    def __init__(self, base_url):
        super().__init__(
            base_url=base_url,
            client_registration_options=ClientRegistrationOptions(
                enabled=True, valid_scopes=["read", "write"], default_scopes=["read"]
            ),
            revocation_options=RevocationOptions(enabled=True),
            required_scopes=["read"],
        )
        self.asked = {}
        self.person_of = {}  # by code, access token and refresh token
        self.exchanges = {"code": 0, "refresh": 0, "revoked": 0}

    async def authorize(self, client, params):
        name = secrets.token_urlsafe(16)
        self.asked[name] = (client, params)
        return f"{str(self.base_url).rstrip('/')}/login?asked={name}"

    async def log_in(self, name, person):
        where = await super().authorize(*self.asked.pop(name))
        self.person_of[dict(parse_qsl(urlsplit(where).query))["code"]] = person
        return where

    async def exchange_authorization_code(self, client, authorization_code):
        self.exchanges["code"] += 1
        person = self.person_of.pop(authorization_code.code)
        return self.issued(await super().exchange_authorization_code(client, authorization_code), person)

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        self.exchanges["refresh"] += 1
        person = self.person_of.pop(refresh_token.token)
        return self.issued(await super().exchange_refresh_token(client, refresh_token, scopes), person)

    async def revoke_token(self, token):
        self.exchanges["revoked"] += 1
        await super().revoke_token(token)

    def issued(self, tokens, person):
        self.person_of[tokens.access_token] = self.person_of[tokens.refresh_token] = person
        return tokens


def serve(port, access_seconds):
    in_memory.DEFAULT_ACCESS_TOKEN_EXPIRY_SECONDS = access_seconds
    listener = socket.create_server(("127.0.0.1", port))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    people = People(base_url)
    server = FastMCP("fastmcp", auth=people)

    @server.tool
    async def whoami() -> str:
        """On whose behalf this call comes."""
        return people.person_of[get_access_token().token]

    @server.tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.custom_route("/login", methods=["GET", "POST"])
    async def login(request):
        name = request.query_params["asked"]
        if request.method == "POST":
            form = await request.form()
            return RedirectResponse(await people.log_in(name, form["login"]), 303)
        action = f"/login?asked={escape(name)}"
        return HTMLResponse(
            "<!doctype html><html lang=en><title>Log in</title><h1>Log in at the upstream</h1>"
            f"<form method=post action='{action}'><label>Name <input name=login></label><button>Log in</button></form>"
        )

    @server.custom_route("/people", methods=["GET"])
    async def tell(request):
        return JSONResponse({**people.exchanges, "tokens": len(people.access_tokens)})

    print(f"listening {base_url}/mcp", flush=True)
    config = uvicorn.Config(server.http_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    serve(*given, *(0, 3600)[len(given) :])
