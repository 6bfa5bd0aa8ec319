"""An OpenID provider in memory, as an httpx2 transport: honest by default, and every answer can be replaced.

It checks what a real one checks: the code is good once, for its redirect URI,
its client and its verifier.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

import httpx2
import trio

from ...protocol.signing import CLIENT_ID, ISSUER, NOW, Signer, jwks

REDIRECT_URI = "https://mcp.example.com/callback"
SECRET = "s3cret/with:odd chars"
ACCESS_TOKEN = "access-token-of-the-provider"

Reply = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class FakeIdentityProvider(httpx2.AsyncBaseTransport):
    """Set `replies[path]` to answer a path otherwise; `requests` counts by path."""

    def __init__(self, *, public: bool = False) -> None:
        self.signer = Signer()
        self.published = [self.signer]
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}  # what /userinfo says besides `sub`; set metadata["userinfo_endpoint"] too
        self.token_type = "Bearer"
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": ISSUER + "/authorize",
            "token_endpoint": ISSUER + "/token",
            "jwks_uri": ISSUER + "/keys",
            "authorization_response_iss_parameter_supported": True,
        }
        self.headers: dict[str, str] = {}
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, str]] = []
        self.forms: list[dict[str, str]] = []
        self.cookies_seen: list[str] = []
        self._public = public
        self.gives_unasked = False  # a refresh token although nobody asked for the scope
        self.disabled: set[str] = set()  # people who have left
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh_tokens: dict[str, str] = {}  # the one that is good, and whose it is

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        await request.aread()
        path = request.url.path
        self.requests.append((request.method, path))
        self.cookies_seen += request.headers.get_list("cookie")
        if path in self.replies:
            return await self.replies[path](request)
        match path:
            case "/.well-known/openid-configuration":
                return self._json(200, self.metadata)
            case "/keys":
                return respond(200, jwks(*(key.jwk() for key in self.published)), self.headers)
            case "/token":
                return self._token(request)
            case "/userinfo":
                return self._userinfo(request)
            case _:
                return respond(404)

    def count(self, path: str) -> int:
        return sum(requested == path for _, requested in self.requests)

    def log_in(self, authorization_url: str, subject: str = "alice") -> str:
        """What the person's browser does; returns the code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["redirect_uri"] == REDIRECT_URI
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self._codes)}"
        self._codes[code] = {**asked, "sub": subject}
        return code

    def _token(self, request: httpx2.Request) -> httpx2.Response:
        form = dict(parse_qsl(request.content.decode(), strict_parsing=True))
        self.forms.append(form)
        if not self._authenticates(request, form):
            return self._json(401, {"error": "invalid_client"})
        if form["grant_type"] == "refresh_token":
            return self._refreshed(form["refresh_token"])
        flow = self._codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if flow is None or digest != flow["code_challenge"] or form["redirect_uri"] != flow["redirect_uri"]:
            return self._json(400, {"error": "invalid_grant", "error_description": "grant request is invalid"})
        id_token = self.signer.id_token(
            **{"sub": flow["sub"], "nonce": flow["nonce"], "iss": self.metadata["issuer"], **self.claims}
        )
        refresh_token = self._refresh_token_for(flow["sub"])
        is_offline = self.gives_unasked or "offline_access" in flow["scope"].split()
        offline = {"refresh_token": refresh_token} if is_offline else {}
        return self._json(200, {"id_token": id_token, **self._access_token(flow["sub"]), **offline})

    def _refreshed(self, refresh_token: str) -> httpx2.Response:
        """Core 12, with rotation: a token is good once."""
        subject = self._refresh_tokens.pop(refresh_token, None)
        if subject is None or subject in self.disabled:
            return self._json(400, {"error": "invalid_grant", "error_description": "Session not active"})
        id_token = self.signer.id_token(**{"sub": subject, "iss": self.metadata["issuer"], **self.claims})
        renewed = self._refresh_token_for(subject)
        return self._json(200, {"id_token": id_token, **self._access_token(subject), "refresh_token": renewed})

    def _refresh_token_for(self, subject: str) -> str:
        token = f"refresh-{subject}-{len(self.forms)}"
        self._refresh_tokens[token] = subject
        return token

    def _access_token(self, subject: str) -> dict[str, str]:
        return {"access_token": f"{ACCESS_TOKEN}.{subject}", "token_type": self.token_type}

    def _userinfo(self, request: httpx2.Request) -> httpx2.Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        secret, _, subject = token.rpartition(".")
        if (request.method, scheme, secret) != ("GET", "Bearer", ACCESS_TOKEN):
            return respond(401, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        return self._json(200, {"sub": subject, **self.userinfo})

    def _authenticates(self, request: httpx2.Request, form: dict[str, str]) -> bool:
        if self._public:
            return form.get("client_id") == CLIENT_ID and "client_secret" not in form
        if form.get("client_secret") == SECRET:
            return form["client_id"] == CLIENT_ID and "authorization" not in request.headers
        pair = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
        return [unquote_plus(half) for half in pair.split(":")] == [CLIENT_ID, SECRET]

    def _json(self, status: int, value: Any) -> httpx2.Response:
        # A provider's own login cookie: nobody must ever send it back.
        headers = {"content-type": "application/json", "set-cookie": "sso=1; Path=/", **self.headers}
        return respond(status, json.dumps(value).encode(), headers)


class Pieces(httpx2.AsyncByteStream):
    """A body that comes in pieces, as from a socket."""

    def __init__(self, *pieces: bytes, every: float = 0) -> None:
        self._pieces, self._every = pieces, every

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await trio.sleep(self._every)
            yield piece


def respond(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> httpx2.Response:
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    return httpx2.Response(status, headers=headers, stream=Pieces(*pieces))


def answer(status: int, body: bytes = b"", **headers: str) -> Reply:
    async def reply(request: httpx2.Request) -> httpx2.Response:
        return respond(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return reply


async def refuse(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


async def hang(request: httpx2.Request) -> httpx2.Response:
    await trio.sleep_forever()
    raise AssertionError


def drip(chunk: bytes, *, every: float, times: int) -> Reply:
    """A body that comes slowly."""

    async def reply(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Pieces(*[chunk] * times, every=every))

    return reply


def clock() -> float:
    """A wall clock that stands still where the tokens are good."""
    return NOW
