"""Hosts that answer what the test says, reached in memory, and an authorization server among them.

`World` keeps the contract of `LearnedHttp`: it checkpoints, an address that the public way may not go to is
unfetchable, and whoever is not there is unfetchable too.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trio

from aggregator.config.model import Account, Auth, Config, Upstream
from aggregator.errors import Unfetchable
from aggregator.protocol.learned_url import LearnedUrl
from aggregator.store import Store
from aggregator.upstream.network.learned_http import Answer, LearnedHttp
from aggregator.upstream.oauth.client import OAuthClient
from aggregator.upstream.oauth.client_programs import ClientPrograms
from aggregator.upstream.oauth.http import OAuthHttp

MCP = "https://mcp.example/mcp"
ISSUER = "https://as.example"
PRM = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
CALLBACK = "https://agg.example/upstream-auth/callback/mail"
JSON = {"content-type": "application/json"}


@dataclass
class Asked:
    """One request as it arrived. `form` and `content` are what its body says, as a form or as JSON."""

    method: str
    url: str
    is_inside: bool
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)
    content: Any = None


Behaviour = Callable[[Asked], Awaitable[Answer]]


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, JSON | {name.replace("_", "-"): value for name, value in headers.items()}, raw)


class World:
    """What stands at which URL: an `Answer`, or a behaviour. Everything else of a known host answers 404."""

    def __init__(self) -> None:
        self.places: dict[str, Answer | Behaviour] = {}
        self.asked: list[Asked] = []
        self.unreachable: set[str] = set()

    def way(self, *, is_inside: bool) -> LearnedHttp:
        return _Way(self, is_inside)

    def urls(self, method: str | None = None) -> list[str]:
        return [each.url for each in self.asked if method in (None, each.method)]

    def publish_resource(self, url: str = PRM, **changes: Any) -> None:
        self.places[url] = answer({"resource": MCP, "authorization_servers": [ISSUER]} | changes)

    def publish_server(self, issuer: str = ISSUER, place: str | None = None, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "revocation_endpoint": f"{issuer}/revoke",
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
        }
        parts = urlsplit(issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        known = place or f"{origin}/.well-known/oauth-authorization-server{path}"
        self.places[known] = answer({name: value for name, value in (fields | changes).items() if value is not ...})

    def register_clients(self, issuer: str = ISSUER, **changes: Any) -> None:
        """Each registration is a client of its own: c1, c2, ..."""
        made = iter(range(1, 1000))

        async def register(asked: Asked) -> Answer:
            return answer(asked.content | {"client_id": f"c{next(made)}"} | changes, 201)

        self.places[f"{issuer}/register"] = register

    def issue(self, issuer: str = ISSUER, **fields: Any) -> None:
        self.places[f"{issuer}/token"] = answer(
            {"access_token": "at", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt"} | fields
        )

    def last_form(self) -> dict[str, str]:
        return [each.form for each in self.asked if each.form][-1]


def usual_world() -> World:
    """An upstream and its authorization server, as the specification wants them."""
    world = World()
    world.publish_resource()
    world.publish_server()
    world.register_clients()
    world.issue()
    return world


class _Way(LearnedHttp):
    def __init__(self, world: World, is_inside: bool) -> None:
        self._world = world
        self._is_inside = is_inside

    async def exchange(
        self,
        method: str,
        url: LearnedUrl,
        *,
        limit: int,
        headers: Collection[tuple[bytes, bytes]] = (),
        content: bytes = b"",
    ) -> Answer:
        await trio.lowlevel.checkpoint()
        fields = {name.decode(): value.decode() for name, value in headers}
        asked = Asked(method, url.text, self._is_inside, fields)
        if fields.get("content-type") == "application/json":
            asked.content = json.loads(content)
        elif content:
            asked.form = dict(parse_qsl(content.decode(), strict_parsing=True))
        self._world.asked.append(asked)
        if url.host in self._world.unreachable:
            raise Unfetchable(f"{url.host} is 10.0.0.1, which is not on the public internet (private)")
        place = self._world.places.get(url.text, answer(b"Not Found", 404, content_type="text/plain"))
        found = place if isinstance(place, Answer) else await place(asked)
        if len(found.body) > limit:
            raise Unfetchable(f"{url.text} sent more than {limit} bytes")
        return found


def mail(url: str = MCP, **account: Any) -> Upstream:
    return Upstream("mail", url, "mail", account=Account(**account))


def client_of(
    world: World,
    store: Store,
    *upstreams: Upstream,
    issuer_url: str = "http://localhost:3000",
    now: float = 1000.0,
    programs: ClientPrograms | None = None,
) -> OAuthClient:
    config = Config(Auth("https://idp.example"), upstreams or (mail(),), issuer_url)
    return OAuthClient(
        config, OAuthHttp(world.way(is_inside=False), world.way(is_inside=True)), store, lambda: now, programs
    )
