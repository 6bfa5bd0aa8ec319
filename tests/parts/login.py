"""A login at an MCP endpoint by the book, for programs that have no OAuth of their own.

It follows what the answers say (RFC 9728, 8414, 7591, 7636) and knows no product.
By hand: ``python -m tests.parts.login URL [USER]`` prints a token.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import trio

from .browser import walk_login
from .processes import PATIENCE

REDIRECT_URI = "http://127.0.0.1:9/callback"  # never requested: the walk ends before it


class LoginFailed(AssertionError):
    """The endpoint or its authorization server did not do what the standards say."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A client that has been let in: its id, the server's metadata, and its tokens."""

    client_id: str
    resource: str
    server: dict[str, Any]
    tokens: dict[str, Any]


async def obtain_token(endpoint: str, user: str = "alice") -> str:
    """An access token for the MCP endpoint, after a login as `user` in a browser of its own.

    Raises:
        LoginFailed: naming the step.
        LoginStuck: see `walk_login`.
    """
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        return str((await log_in(http, endpoint, user)).tokens["access_token"])


async def log_in(
    http: httpx2.AsyncClient, endpoint: str, user: str = "alice", *, browser: httpx2.AsyncClient | None = None
) -> LoggedIn:
    """Register, have `user` log in and consent, redeem the code. Raises as `obtain_token` does."""
    resource, server = await find_server(http, endpoint)
    client = await register(http, server, REDIRECT_URI)
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": REDIRECT_URI,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": "S256",
        "resource": resource,
    }
    where = f"{server['authorization_endpoint']}?{urlencode(asked)}"
    landed = await walk_login(where, REDIRECT_URI, user, browser=browser)
    answer = {name: values[0] for name, values in parse_qs(urlsplit(landed).query).items()}
    if answer.get("state") != state or "code" not in answer:
        raise LoginFailed(f"the authorization came back with {sorted(answer)}: {answer.get('error_description')}")
    spent = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": REDIRECT_URI,
        "client_id": client,
        "code_verifier": verifier,
        "resource": resource,
    }
    tokens = _json(await http.post(server["token_endpoint"], data=spent), 200, "token")
    return LoggedIn(client, resource, server, tokens)


async def find_server(http: httpx2.AsyncClient, endpoint: str) -> tuple[str, dict[str, Any]]:
    """The resource's name and the metadata of its authorization server, from the refusal of the endpoint."""
    refusal = await http.post(endpoint, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    found = re.search(r'resource_metadata="([^"]+)"', refusal.headers.get("www-authenticate", ""))
    if refusal.status_code != 401 or found is None:
        raise LoginFailed(f"expected 401 with resource_metadata, got {refusal.status_code}: {refusal.text[:300]}")
    resource = _json(await http.get(found[1]), 200, "resource metadata")
    issuer = urlsplit(resource["authorization_servers"][0])
    # RFC 8414 3.1: the well-known string stands between host and path
    path = f"/.well-known/oauth-authorization-server{issuer.path.rstrip('/')}"
    metadata = _json(await http.get(f"{issuer.scheme}://{issuer.netloc}{path}"), 200, "server metadata")
    return str(resource["resource"]), metadata


async def register(http: httpx2.AsyncClient, server: dict[str, Any], redirect_uri: str) -> str:
    """The client id of a new public client."""
    asked = {
        "client_name": "scripted login",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    return str(_json(await http.post(server["registration_endpoint"], json=asked), 201, "registration")["client_id"])


def _json(answer: httpx2.Response, expected: int, step: str) -> dict[str, Any]:
    if answer.status_code != expected:
        raise LoginFailed(f"{step}: expected {expected}, got {answer.status_code}: {answer.text[:300]}")
    value: dict[str, Any] = answer.json()
    return value


if __name__ == "__main__":
    print(trio.run(partial(obtain_token, *sys.argv[1:3])))
