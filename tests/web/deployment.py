"""A deployment without sockets, browsers with cookie jars, and an identity provider that keeps the real contract.

Routes are called directly; what `web.app` adds (405, CORS, request ids) is not here.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field, replace
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import trio

from aggregator.config.model import Auth, Config
from aggregator.errors import IdentityProviderUnavailable, LoginRefused, Refusal, StoreUnavailable, Unfetchable
from aggregator.protocol.learned_url import LearnedUrl
from aggregator.protocol.oauth.client_document import process_client_document
from aggregator.protocol.oauth.pkce import challenge_of
from aggregator.protocol.oauth.registration import Client
from aggregator.protocol.oidc import Refreshed, Withdrawn
from aggregator.protocol.principal import Login, Person, Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Grant, Store
from aggregator.store.memory import MemoryStore
from aggregator.web.http import Request, Response, Route
from aggregator.web.oauth.authority import LoginChecking
from aggregator.web.oauth.bearer import BearerAuthentication
from aggregator.web.oauth.revocations import Revocations
from aggregator.web.pages import Pages
from aggregator.web.people.accounts import Accounts
from aggregator.web.people.tools_page import CatalogOf
from aggregator.web.refusals import render_refusal, store_is_away
from aggregator.web.routes import oauth_routes

ISSUER = "https://mcp.example.com"
PROVIDER = "https://idp.example.com"
VERIFIER = "correct-horse-battery-staple-correct-horse-battery"
CALLBACK = "https://client.example/cb"
LOOPBACK = "http://127.0.0.1:50123/cb"
ANNA = Person(Principal(PROVIDER, "anna"), "anna@example.com")
BEN = Person(Principal(PROVIDER, "ben"), "ben@example.com")
START = 1_790_000_000.0


class Clock:
    """Wall time that tests move by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class FakeProvider:
    """Logs people in. A code is good once, with the nonce and the verifier of its login."""

    def __init__(self) -> None:
        self.url = PROVIDER
        self.down = False
        self.refuses: str | None = None
        self.exchanges = 0
        self._logins: dict[str, tuple[str, str]] = {}
        self.gives_refresh_tokens = False
        self.disabled: set[str] = set()  # subjects of people who have left
        self._codes: dict[str, tuple[str, str, Person]] = {}
        self._refresh_tokens: dict[str, Person] = {}

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise IdentityProviderUnavailable("https://idp.example.com: connection refused")
        self._logins[state] = (nonce, challenge_of(code_verifier))
        return f"{self.url}/authorize?{urlencode({'state': state, 'nonce': nonce})}"

    async def finish(self, *, code: str, nonce: str, code_verifier: str, issuer: str | None) -> Login:
        await trio.lowlevel.checkpoint()
        self.exchanges += 1
        if self.down:
            raise IdentityProviderUnavailable("https://idp.example.com: connection refused")
        if self.refuses is not None:
            raise LoginRefused(self.refuses)
        expected = self._codes.pop(code, None)
        if expected is None or expected[:2] != (nonce, challenge_of(code_verifier)):
            raise LoginRefused("the identity provider refuses the login: invalid_grant")
        return Login(expected[2], self._refresh_token_for(expected[2]) if self.gives_refresh_tokens else None)

    async def refresh(self, refresh_token: str, principal: Principal) -> Refreshed | Withdrawn:
        await trio.lowlevel.checkpoint()
        self.exchanges += 1
        if self.down:
            raise IdentityProviderUnavailable("https://idp.example.com: connection refused")
        person = self._refresh_tokens.pop(refresh_token, None)
        if person is None or person.principal != principal or principal.subject in self.disabled:
            return Withdrawn("Session not active")
        return Refreshed(refresh_token=self._refresh_token_for(person))

    async def readmit(self, refreshed: Refreshed, principal: Principal) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise LoginRefused(self.refuses)

    def _refresh_token_for(self, person: Person) -> str:
        token = secrets.token_urlsafe(8)
        self._refresh_tokens[token] = person
        return token

    def log_in(self, url: str, person: Person) -> str:
        """What the provider answers to a browser in which `person` logs in: the path of our callback."""
        query = dict(parse_qsl(urlsplit(url).query))
        nonce, challenge = self._logins[query["state"]]
        code = secrets.token_urlsafe(8)
        self._codes[code] = (nonce, challenge, person)
        return "/callback?" + urlencode({"code": code, "state": query["state"], "iss": PROVIDER})


class FakeDocuments:
    """Metadata documents by URL, read as the real one reads them; a URL without one cannot be fetched."""

    def __init__(self, schemes: tuple[str, ...] = ()) -> None:
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []
        self._schemes = schemes

    def publish(self, url: str, **metadata: Any) -> dict[str, Any]:
        """Put a document there; what comes back stands for a registration in the other functions here."""
        document = {"client_id": url, "redirect_uris": [CALLBACK], "client_name": "Tester", **metadata}
        self.documents[url] = document
        return document

    def knows(self, url: LearnedUrl) -> bool:
        return url.text in self.asked and url.text in self.documents

    async def find(self, url: LearnedUrl) -> Client:
        await trio.lowlevel.checkpoint()
        self.asked.append(url.text)
        if url.text not in self.documents:
            raise Unfetchable(f"{url.text} is 10.0.0.1, which is not on the public internet")
        body = json.dumps(self.documents[url.text]).encode()
        return process_client_document(url, body, schemes=self._schemes)


class NoChecks:
    """As with a provider that gives no refresh tokens."""

    async def may_go_on(self, grant: Grant) -> bool:
        await trio.lowlevel.checkpoint()
        return True


class Flaky:
    """A store that can be away; everything else is the store it stands before."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise StoreUnavailable("the disk is gone")
        return getattr(self._store, name)


def config(**changes: Any) -> Config:
    return replace(Config(auth=Auth(issuer=PROVIDER), upstreams=(), issuer_url=ISSUER), **changes)


class Deployment:
    """One process. Give two of them the same `store` and keys, and they are one deployment of two."""

    def __init__(
        self,
        *,
        store: Any = None,
        clock: Clock | None = None,
        provider: FakeProvider | None = None,
        keys: KeyRing | None = None,
        login_checks: LoginChecking | None = None,
        accounts: Accounts | None = None,
        catalog_of: CatalogOf | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.store: Store = store or MemoryStore(clock=self.clock)
        self.provider = provider or FakeProvider()
        self.keys = keys or KeyRing([bytes(range(32))])
        self.config = config(**settings)
        self.revocations = Revocations(self.config.tokens.access, clock=self.clock, monotonic=self.clock)
        self.bearer = BearerAuthentication(self.config, self.keys, self.revocations, self.clock)
        self.pages = Pages(self.config)
        self.documents = FakeDocuments(self.config.client_schemes)
        self.routes: dict[str, Route] = {
            route.path: route
            for route in oauth_routes(
                self.config,
                self.keys,
                self.store,
                self.provider,
                login_checks or NoChecks(),
                self.revocations,
                self.pages,
                self.documents,
                self.clock,
                accounts,
                catalog_of,
            )
        }

    async def send(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> Response:
        path, _, query = target.partition("?")
        raw = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
        route = self.routes[path]
        try:
            return await route.methods[method](Request(method, path, query, raw, body, "request-1"))
        except Refusal as refusal:
            return render_refusal(refusal, route, self.pages, "request-1")
        except StoreUnavailable:
            return render_refusal(store_is_away(), route, self.pages, "request-1")

    async def post(
        self, path: str, form: dict[str, str] | list[tuple[str, str]], *headers: tuple[str, str]
    ) -> Response:
        kind = ("content-type", "application/x-www-form-urlencoded")
        return await self.send("POST", path, (kind, *headers), urlencode(form).encode())

    async def register(self, *redirect_uris: str, **metadata: Any) -> dict[str, Any]:
        content = {
            "redirect_uris": redirect_uris or (CALLBACK,),
            "client_name": "Tester",
            "token_endpoint_auth_method": "none",
            **metadata,
        }
        response = await self.send(
            "POST", "/register", (("content-type", "application/json"),), json.dumps(content).encode()
        )
        assert response.status == 201, response.body
        registered: dict[str, Any] = json.loads(response.body)
        return registered

    async def redeem(self, client: dict[str, Any], code: str, **changes: str) -> Response:
        form = {
            "grant_type": "authorization_code",
            "client_id": client["client_id"],
            "code": code,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.post("/token", form)

    async def refresh(self, client: dict[str, Any], refresh_token: str, **changes: str) -> Response:
        form = {"grant_type": "refresh_token", "client_id": client["client_id"], "refresh_token": refresh_token}
        return await self.post("/token", form | changes)

    async def tokens(self, client: dict[str, Any], person: Person = ANNA) -> dict[str, Any]:
        """Everything from the first redirect to a pair of tokens."""
        code = (await Browser(self).obtain_answer(client, person))["code"]
        response = await self.redeem(client, code)
        assert response.status == 200, response.body
        return read(response)

    def authenticate(self, token: str) -> Any:
        return self.bearer.authenticate(((b"authorization", b"Bearer " + token.encode()),))


@dataclass
class Browser:
    """A cookie jar. Cookies are kept as a browser keeps those of one host over https."""

    deployment: Deployment
    jar: dict[str, str] = field(default_factory=dict)

    @property
    def flows(self) -> dict[str, str]:
        """The cookies of what has begun and not ended: everything but who is signed in."""
        return {name: value for name, value in self.jar.items() if "session" not in name}

    async def get(self, target: str, *headers: tuple[str, str]) -> Response:
        return self._kept(await self.deployment.send("GET", target, (*self._cookies(), *headers)))

    async def post(self, path: str, form: dict[str, str], *headers: tuple[str, str]) -> Response:
        return self._kept(await self.deployment.post(path, form, *self._cookies(), *headers))

    async def sign_in(self, person: Person = ANNA, to: str = "/connections") -> Response:
        """Sign in for one of our own pages; the answer that leads there."""
        begun = await self.get(f"/sign-in?to={to}")
        return await self.get(self.deployment.provider.log_in(location(begun), person))

    async def begin(self, client: dict[str, Any], **changes: str | None) -> Response:
        return await self.get(authorize_target(client, **changes))

    async def to_consent(self, client: dict[str, Any], person: Person = ANNA, **changes: str | None) -> Response:
        """Begin, log in, and arrive at the consent page."""
        login = await self.begin(client, **changes)
        assert login.status == 303, login.body
        answered = await self.get(self.deployment.provider.log_in(location(login), person))
        assert answered.status == 303, answered.body
        return await self.get(target_of(location(answered)))

    async def decide(self, page: Response, decision: str = "allow") -> Response:
        """Press a button of the consent page."""
        return await self.post("/consent", hidden_fields(page) | {"decision": decision}, *FROM_OWN_PAGE)

    async def obtain_answer(
        self, client: dict[str, Any], person: Person = ANNA, decision: str = "allow", **changes: str | None
    ) -> dict[str, str]:
        answered = await self.decide(await self.to_consent(client, person, **changes), decision)
        assert answered.status == 303, answered.body
        return query_of(location(answered))

    def _cookies(self) -> tuple[tuple[str, str], ...]:
        return (("cookie", "; ".join(f"{name}={value}" for name, value in self.jar.items())),) if self.jar else ()

    def _kept(self, response: Response) -> Response:
        for name, value in response.headers:
            if name == "set-cookie":
                pair, *attributes = value.split("; ")
                cookie, _, content = pair.partition("=")
                if "Max-Age=0" in attributes:
                    self.jar.pop(cookie, None)
                else:
                    self.jar[cookie] = content
        return response


FROM_OWN_PAGE = (("origin", "null"), ("sec-fetch-site", "same-origin"))  # what browsers send under no-referrer


def authorize_target(client: dict[str, Any], **changes: str | None) -> str:
    parameters: dict[str, str | None] = {
        "client_id": client["client_id"],
        "redirect_uri": client["redirect_uris"][0],
        "response_type": "code",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        "state": "client state",
        **changes,
    }
    return "/authorize?" + urlencode({name: value for name, value in parameters.items() if value is not None})


def header(response: Response, name: str) -> str | None:
    values = [value for key, value in response.headers if key == name]
    assert len(values) < 2, f"{name} stands {len(values)} times"
    return values[0] if values else None


def location(response: Response) -> str:
    found = header(response, "location")
    assert found is not None, response.body
    return found


def target_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def query_of(url: str) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def read(response: Response) -> dict[str, Any]:
    assert header(response, "content-type") == "application/json"
    content: dict[str, Any] = json.loads(response.body)
    return content


def text_of(response: Response) -> str:
    assert header(response, "content-type") == "text/html; charset=utf-8"
    return response.body.decode()


def hidden_fields(page: Response) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">', text_of(page))
    return {name: unescape(value) for name, value in found}


def has_form(page: Response) -> bool:
    return "<form" in text_of(page)
