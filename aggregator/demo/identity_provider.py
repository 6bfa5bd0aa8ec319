"""A real OpenID provider with two people and no passwords, for the demo alone.

The flow is the real one (discovery, code with PKCE S256, nonce, signed ID
token), so that the demo goes the way production goes. Whoever can reach it can
be anybody: it serves loopback clients under a loopback issuer and refuses all
others. It must not know the aggregator beyond one client id and redirect URI.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from ..errors import Refusal
from ..web.body import read_body
from ..web.http import Request, Response, Route, json_response, no_store, see_other
from ..web.hypercorn.guard import Receive, Scope, Send
from ..web.reply import send_whole
from ..web.static_files import StaticFile

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PEOPLE = {"alice": "Alice", "bob": "Bob"}
CODE_LIFETIME = 60.0  # seconds
ID_TOKEN_LIFETIME = 300  # seconds
MAX_CODES = 1000  # outstanding; a page that presses the buttons in a loop must not fill the memory
MAX_BODY = 16 * 1024

# What /authorize was asked, carried through the page as hidden fields and checked again when a button is pressed.
_ASKED = ("response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
          "code_challenge_method")  # fmt: skip

_PAGE_HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    # No form-action: browsers apply it to the redirect behind the form too, which is another origin's by design.
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
)


@dataclass(frozen=True, slots=True)
class _Code:
    person: str
    challenge: str
    nonce: str | None
    expires_at: float


class DemoIdentityProvider:
    """An ASGI application: the provider at `issuer`, for one public client with one redirect URI.

    Raises:
        ValueError: if `issuer` is not a loopback URL.
    """

    def __init__(
        self, issuer: str, *, client_id: str, redirect_uri: str, clock: Callable[[], float] = time.time
    ) -> None:
        parts = urlsplit(issuer)
        if parts.hostname not in LOOPBACK:
            raise ValueError(f"the demo's identity provider asks for no password; '{issuer}' is not a loopback URL")
        self.issuer = issuer
        self._host = parts.netloc
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._key = ECKey.generate_key("P-256")
        self._kid = self._key.thumbprint()
        self._codes: dict[str, _Code] = {}
        self._style = StaticFile("", "style.css")
        routes = (
            self._style.route,
            Route("/.well-known/openid-configuration", {"GET": self._discovery}),
            Route("/jwks", {"GET": self._jwks}),
            Route("/authorize", {"GET": self._ask}),
            Route("/sign-in", {"POST": self._sign_in}),
            Route("/token", {"POST": self._token}),
        )
        self._routes = {route.path: route for route in routes}

    def start_draining(self) -> None:
        """It has no readiness."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_peer(scope)
            route = self._routes.get(scope["path"])
            endpoint = route.methods.get(scope["method"]) if route else None
            if endpoint is None:
                raise Refusal(404, "not_found", "The demo's identity provider has no such page.")
            query = scope["query_string"].decode("latin-1")
            body = await read_body(receive, MAX_BODY)
            request = Request(scope["method"], scope["path"], query, tuple(scope["headers"]), body, "")
            response = await endpoint(request)
        except Refusal as refusal:
            told = {"error": refusal.error, "error_description": refusal.description}
            response = no_store(json_response(told, status=refusal.status))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
        await send_whole(send, response.status, headers, response.body)

    def _check_peer(self, scope: Scope) -> None:
        """Only this computer, and no page of a foreign name that resolves to it (DNS rebinding)."""
        client = scope.get("client")
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if client is None or client[0] not in LOOPBACK or hosts != [self._host]:
            raise Refusal(403, "access_denied", f"The demo's identity provider is {self.issuer}, for this computer.")

    async def _discovery(self, request: Request) -> Response:
        return json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "scopes_supported": ["openid", "profile", "email"],
                "claims_supported": ["sub", "name", "email", "email_verified"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        public = self._key.as_dict(private=False)
        return json_response({"keys": [{**public, "kid": self._kid, "use": "sig", "alg": "ES256"}]})

    async def _ask(self, request: Request) -> Response:
        """The page with the two buttons. Changes nothing."""
        asked = self._checked(request.query_parameters())
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in asked.items()
        )
        buttons = "".join(
            f'<button name="person" value="{person}">Sign in as {name}</button>' for person, name in PEOPLE.items()
        )
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Demo sign-in</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f'<link rel="stylesheet" href="{self._style.path}"></head><body><main>'
            '<p class="next bad"><strong>DEMO: no passwords.</strong> Anyone on this computer can be anyone here.</p>'
            "<h1>Who are you?</h1><p>In real life this is the sign-in page of your organisation.</p>"
            f'<form method="post" action="/sign-in">{hidden}<div class="choice">{buttons}</div></form>'
            "</main></body></html>"
        )
        return no_store(Response(200, page.encode(), _PAGE_HEADERS))

    async def _sign_in(self, request: Request) -> Response:
        form = request.form()
        asked = self._checked(form)
        person = form.get("person", "")
        if person not in PEOPLE:
            raise Refusal(400, "invalid_request", "There are only Alice and Bob.")
        now = self._clock()
        self._codes = {code: each for code, each in self._codes.items() if each.expires_at > now}
        if len(self._codes) >= MAX_CODES:
            raise Refusal(503, "temporarily_unavailable", "Too many sign-ins at once; try again in a minute.")
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Code(person, asked["code_challenge"], asked.get("nonce"), now + CODE_LIFETIME)
        answer = {"code": code, "iss": self.issuer} | ({"state": asked["state"]} if "state" in asked else {})
        return see_other(f"{self._redirect_uri}?{urlencode(answer)}")

    def _checked(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The authorization request. A wrong one is never redirected: this provider has one client, which is right.

        Raises:
            Refusal: 400 naming what is wrong.
        """
        asked = {name: parameters[name] for name in _ASKED if name in parameters}
        expected = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_uri,
            "code_challenge_method": "S256",
        }
        for name, value in expected.items():
            if asked.get(name) != value:
                raise Refusal(400, "invalid_request", f"{name} must be '{value}'.")
        if "openid" not in asked.get("scope", "").split():
            raise Refusal(400, "invalid_scope", "scope must contain 'openid'.")
        if len(asked.get("code_challenge", "")) != 43:  # base64url of SHA-256, without padding (RFC 7636 4.2)
            raise Refusal(400, "invalid_request", "code_challenge must be 43 characters.")
        return asked

    async def _token(self, request: Request) -> Response:
        form = request.form()
        if form.get("grant_type") != "authorization_code":
            raise Refusal(400, "unsupported_grant_type", "grant_type must be 'authorization_code'.")
        if form.get("client_id") != self._client_id:
            raise Refusal(400, "invalid_client", f"client_id must be '{self._client_id}'.")
        code = self._codes.pop(form.get("code", ""), None)  # spent, whatever follows
        verifier = form.get("code_verifier", "")
        digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        now = self._clock()
        if (
            code is None
            or code.expires_at < now
            or form.get("redirect_uri") != self._redirect_uri
            or not secrets.compare_digest(challenge, code.challenge)
        ):
            raise Refusal(400, "invalid_grant", "The code is unknown, spent, expired or another login's.")
        claims = {
            "iss": self.issuer,
            "sub": code.person,
            "aud": self._client_id,
            "iat": int(now),
            "exp": int(now) + ID_TOKEN_LIFETIME,
            "name": PEOPLE[code.person],
            "email": f"{code.person}@demo.invalid",
            "email_verified": True,
        }
        if code.nonce is not None:
            claims["nonce"] = code.nonce
        id_token = jwt.encode({"alg": "ES256", "kid": self._kid, "typ": "JWT"}, claims, self._key, algorithms=["ES256"])
        answer = {
            "access_token": secrets.token_urlsafe(32),
            "token_type": "Bearer",
            "expires_in": ID_TOKEN_LIFETIME,
            "id_token": id_token,
        }
        return no_store(json_response(answer))
