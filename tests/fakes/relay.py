"""The whole relay over fake upstreams: from an HTTP request of a client to what its upstream receives."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import trio

from aggregator.assembly.relay import forget
from aggregator.config.model import Auth, Config, Upstream
from aggregator.errors import ConnectNeeded, Refusal
from aggregator.protocol.headers import NAMED_BY, encode_value
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Store
from aggregator.store.memory import MemoryStore
from aggregator.upstream.authorized import AuthorizedUpstream
from aggregator.upstream.credentials import (
    SHARED,
    ConfiguredCredentials,
    Credential,
    Credentials,
    Standing,
    configured_headers,
)
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.listings import Listings
from aggregator.upstream.streams import Streams
from aggregator.web.app import Application
from aggregator.web.gate import Gate
from aggregator.web.http import Response, Route
from aggregator.web.mcp.asking import Asking
from aggregator.web.mcp.client_sessions import ClientSessions
from aggregator.web.mcp.conversing import Conversing
from aggregator.web.mcp.endpoint import McpEndpoint
from aggregator.web.mcp.gateway_tools import GatewayTools, gateway_tools
from aggregator.web.mcp.kept_streams import KeptStreams
from aggregator.web.mcp.listening import Listening
from aggregator.web.mcp.mailbox import Mailbox
from aggregator.web.mcp.methods import McpMethods
from aggregator.web.mcp.parking import Parking
from aggregator.web.mcp.questions import Questions
from aggregator.web.mcp.resumable_reply import ResumableReplies
from aggregator.web.mcp.running_calls import RunningCalls
from aggregator.web.mcp.session_endpoint import SessionEndpoint
from aggregator.web.mcp.session_states import SessionStates
from aggregator.web.mcp.streams import McpStreams
from aggregator.web.mcp.taking_up import TakingUp
from aggregator.web.mcp.tasks import TaskIds
from aggregator.web.oauth.bearer import Authenticated
from aggregator.web.pulse import Pulse

from .asgi import Browser, Ongoing, Received
from .mcp_server import LEGACY, META, MODERN, FakeServer

NOW = 1_800_000_000.0
IDENTITY = {"name": "mcp-aggregator", "version": "1"}
KEYS = KeyRing([bytes(range(32))])
ISSUER = "https://mcp.example.com"

Json = dict[str, Any]


class FakeBearer:
    """Lets in whoever names themselves: ``Bearer alice``."""

    def __init__(self) -> None:
        self._withdrawn: defaultdict[str, trio.Event] = defaultdict(trio.Event)

    def withdraw(self, person: str) -> None:
        self._withdrawn[f"grant of {person}"].set()

    async def wait_withdrawn(self, grant_id: str) -> None:
        await self._withdrawn[grant_id].wait()

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Authenticated:
        text = dict(headers).get(b"authorization", b"").decode("latin-1")
        if not text.startswith("Bearer ") or "hostile" in text:
            raise Refusal(401, "invalid_token", "Log in.", headers=(("www-authenticate", "Bearer"),))
        person = text[7:]
        principal = Principal("https://idp.example.com", person)
        return Authenticated(principal, f"grant of {person}", "client", "mcp", NOW + 900)


class FakeConnections:
    """Which person has which token at which upstream; the contract of people's own accounts, without OAuth."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[str, str], str] = {}
        self.fault: Exception | None = None
        self.is_behind = False
        self.retrying: dict[tuple[str, str], tuple[str, float]] = {}  # why, and when next, a renewal is tried again
        self._changed = trio.Event()

    def connect(self, person: str, upstream: str, token: str) -> None:
        self.tokens[person, upstream] = token
        self._changed.set()
        self._changed = trio.Event()

    def credentials(self, upstream: Upstream) -> Credentials:
        return FakeCredentials(self, upstream) if upstream.auth_type == "user" else ConfiguredCredentials(upstream)

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        return self.tokens.pop((principal.subject, upstream), None) is not None

    async def wait_connected(self, principal: Principal, upstream: str) -> None:
        while (principal.subject, upstream) not in self.tokens:
            await self._changed.wait()


class FakeCredentials:
    """One upstream's part of `FakeConnections`. A refused token is gone."""

    def __init__(self, connections: FakeConnections, upstream: Upstream) -> None:
        self._connections = connections
        self._upstream = upstream

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        who = (principal.subject, self._upstream.name)
        token, retry = self._connections.tokens.get(who), self._connections.retrying.get(who)
        if token is None:
            return SHARED
        owner = f"{principal.subject}/{token}"
        return Standing(owner, "connected") if retry is None else Standing(owner, "retrying", *retry)

    async def standing(self, principal: Principal) -> Standing:
        return self.standing_at_hand(principal) or SHARED

    async def current(self, principal: Principal | None) -> Credential:
        configured = configured_headers(self._upstream)
        standing = SHARED if principal is None else await self.standing(principal)
        if principal is None or standing is SHARED:
            return Credential(headers=configured)
        token = self._connections.tokens[principal.subject, self._upstream.name]
        return Credential(standing.owner, (*configured, (b"authorization", f"Bearer {token}".encode())))

    async def renewed(
        self, principal: Principal | None, refused: Credential, status: int, challenge: str
    ) -> Credential | None:
        if status != 401:
            return None
        if principal is not None:
            self._connections.tokens.pop((principal.subject, self._upstream.name), None)
        raise ConnectNeeded(self._upstream.name, "it asks for a login")


class PlainPages:
    def refusal(self, refusal: Refusal, request_id: str) -> Response:
        return Response(refusal.status, refusal.description.encode(), (("content-type", "text/html"),))


@dataclass
class Relay:
    app: Application
    endpoint: McpEndpoint
    methods: McpMethods
    listings: Listings
    upstreams: dict[str, HttpUpstream]
    connections: FakeConnections
    sessions: ClientSessions
    questions: Questions
    running: RunningCalls
    parking: Parking
    streams: McpStreams
    nursery: trio.Nursery
    mailbox: Mailbox
    kept: KeptStreams
    taking_up: TakingUp
    bearer: FakeBearer

    def modern(self, person: str = "alice", **more: Any) -> ModernClient:
        return ModernClient(self, person, **more)

    async def legacy(self, person: str = "alice", **more: Any) -> LegacyClient:
        client = LegacyClient(self, person, **more)
        await client.initialize()
        return client

    def is_idle(self) -> bool:
        """Whether no registry of the endpoint remembers a request."""
        return not (len(self.running) or self.methods._calls or len(self.questions) or len(self.parking))


@asynccontextmanager
async def open_relay(
    servers: Mapping[str, FakeServer],
    *,
    upstreams: Mapping[str, Mapping[str, Any]] | None = None,
    routes: Iterable[Route] = (),
    probes: Iterable[Route] = (),
    store: Store | None = None,
    patience: float = math.inf,
    **config: Any,
) -> AsyncIterator[Relay]:
    """A relay over `servers`, by name; `upstreams` changes fields of an upstream's configuration; `patience` is that of
    lists.

    Two relays over one `store` are two instances of one deployment.
    """
    configured = tuple(
        replace(
            Upstream(name, f"http://{name}.example.com/mcp", name, auth_type="none"), **(upstreams or {}).get(name, {})
        )
        for name in servers
    )
    settings = Config(Auth("https://idp.example.com"), configured, **{"issuer_url": ISSUER, **config})
    async with trio.open_nursery() as nursery:
        connected = {name: HttpUpstream(name, server, IDENTITY, nursery) for name, server in servers.items()}
        store = store or MemoryStore(clock=_wall_time)
        mailbox = Mailbox(store, clock=_wall_time)
        nursery.start_soon(mailbox.run)
        sessions = ClientSessions(KEYS, SessionStates(store, mailbox))
        sessions.states.when_over(partial(forget, connected))
        connections, site = FakeConnections(), site_of(ISSUER)
        listings = Listings(
            [
                AuthorizedUpstream(upstream, connected[upstream.name], connections.credentials(upstream))
                for upstream in configured
            ],
            nursery,
            name_length=settings.limits.name_length,
            ours=gateway_tools,
            patience=patience,
            retry=settings.connect_retry,
        )
        asking = Asking(site, KEYS, connections, lambda: NOW)
        gateway = GatewayTools(site, listings, connections)
        questions = Questions(mailbox, sessions.states, patience=settings.input_timeout)
        running = RunningCalls(mailbox)
        parking = Parking(
            nursery, KEYS, mailbox, patience=settings.input_timeout, clock=lambda: NOW + trio.current_time()
        )
        conversing = Conversing(questions, parking)
        tasks = TaskIds(KEYS, _wall_time)
        methods = McpMethods(settings, listings, gateway, asking, conversing, sessions, tasks, IDENTITY)
        bearer = FakeBearer()
        pulse = Pulse()
        nursery.start_soon(pulse.run)
        told = Streams(listings.upstreams(), nursery, listings.relist)
        streams = McpStreams(
            Listening(listings, told),
            sessions,
            pulse,
            mailbox,
            tasks,
        )
        kept = KeptStreams(mailbox.instance)
        nursery.start_soon(kept.run)
        taking_up = TakingUp(kept, sessions.states, pulse, mailbox, nursery)
        endpoint = McpEndpoint(
            bearer,
            sessions,
            methods,
            questions,
            running,
            pulse,
            streams,
            ResumableReplies(kept, nursery),
            SessionEndpoint(streams, taking_up),
            body_limit=settings.limits.body,
            clock=lambda: NOW,
        )
        app = Application(Gate(settings), "/mcp", endpoint, routes, probes, PlainPages())
        with listings.watched(told.end_gone):
            yield Relay(
                app,
                endpoint,
                methods,
                listings,
                connected,
                connections,
                sessions,
                questions,
                running,
                parking,
                streams,
                nursery,
                mailbox,
                kept,
                taking_up,
                bearer,
            )
        nursery.cancel_scope.cancel()


def _wall_time() -> float:
    return NOW + trio.current_time()


class Client:
    """A client of the relay. `meta` goes out with every request."""

    revision = ""

    def __init__(self, relay: Relay, person: str, *, meta: Json | None = None) -> None:
        self.person = person
        self.meta: Json = meta or {}
        self._browser = Browser(relay.app)
        self._ids = 0

    def headers(self, method: str, params: Json) -> list[tuple[str, str]]:
        return [
            ("authorization", f"Bearer {self.person}"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ]

    def params(self, params: Json) -> Json:
        return params

    def encode(self, method: str, params: Json, id: Any) -> bytes:
        message: Json = {"jsonrpc": "2.0", "method": method, "params": self.params(params)}
        return json.dumps(message if id is None else {**message, "id": id}).encode()

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    async def post(self, body: bytes, headers: list[tuple[str, str]], *, method: str = "POST") -> Received:
        return await self._browser.request(method, "/mcp", headers, body)

    def open_stream(self) -> AbstractAsyncContextManager[Ongoing]:
        """The stream of a session, opened by GET."""
        headers = [header for header in self.headers("", {}) if header[0] not in ("accept", "content-type")]
        return self._browser.open("GET", "/mcp", [*headers, ("accept", "text/event-stream")])

    async def request(self, method: str, params: Json | None = None, *, id: Any = None) -> Received:
        params = params or {}
        id = self.next_id() if id is None else id
        return await self.post(self.encode(method, params, id), self.headers(method, params))

    async def notify(self, method: str, params: Json) -> Received:
        return await self.post(self.encode(method, params, None), self.headers(method, params))

    def open(self, method: str, params: Json | None = None, *, id: Any = None) -> AbstractAsyncContextManager[Ongoing]:
        params = params or {}
        id = self.next_id() if id is None else id
        return self._browser.open("POST", "/mcp", self.headers(method, params), [self.encode(method, params, id)])

    async def call(self, name: str, arguments: Json | None = None, **more: Any) -> Json:
        """The JSON-RPC answer to a ``tools/call``, whatever came before it."""
        received = await self.request("tools/call", {"name": name, "arguments": arguments or {}, **more})
        answer: Json = received.messages()[-1]
        return answer

    async def tools(self) -> list[Json]:
        """Every tool of every page."""
        found: list[Json] = []
        cursor: Json = {}
        while True:
            result = (await self.request("tools/list", cursor)).json()["result"]
            found += result["tools"]
            if "nextCursor" not in result:
                return found
            cursor = {"cursor": result["nextCursor"]}

    async def names(self) -> list[str]:
        return [tool["name"] for tool in await self.tools()]


class ModernClient(Client):
    """2026-07-28."""

    revision = MODERN

    def __init__(self, relay: Relay, person: str, *, meta: Json | None = None, level: str | None = None) -> None:
        super().__init__(relay, person, meta=meta)
        self.level = level

    def headers(self, method: str, params: Json) -> list[tuple[str, str]]:
        made = [*super().headers(method, params), ("mcp-protocol-version", MODERN), ("mcp-method", method)]
        if (named_by := NAMED_BY.get(method)) is not None:
            made.append(("mcp-name", encode_value(str(params[named_by]))))
        return made

    def params(self, params: Json) -> Json:
        meta = {
            f"{META}protocolVersion": MODERN,
            f"{META}clientCapabilities": {"elicitation": {}},
            f"{META}clientInfo": {"name": "test", "version": "0"},
            **({f"{META}logLevel": self.level} if self.level else {}),
            **self.meta,
        }
        return {**params, "_meta": {**meta, **params.get("_meta", {})}}


class LegacyClient(Client):
    """2025-11-25."""

    revision = LEGACY
    session: str | None = None

    async def initialize(self) -> Json:
        received = await self.request(
            "initialize",
            {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
        )
        self.session = received.headers["mcp-session-id"]
        result: Json = received.json()["result"]
        return result

    def headers(self, method: str, params: Json) -> list[tuple[str, str]]:
        made = super().headers(method, params)
        if self.session is not None:
            made += [("mcp-protocol-version", LEGACY), ("mcp-session-id", self.session)]
        return made

    def params(self, params: Json) -> Json:
        return {**params, "_meta": {**self.meta, **params.get("_meta", {})}} if self.meta else params


CELLS = [(client, upstream) for client in (MODERN, LEGACY) for upstream in (MODERN, LEGACY)]
in_every_cell = pytest.mark.parametrize(("client_revision", "upstream_revision"), CELLS)


@asynccontextmanager
async def one(revision: str, **config: Any) -> AsyncIterator[tuple[FakeServer, Relay]]:
    """A relay over one upstream, ``up``."""
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, revision, name="up")
        async with open_relay({"up": server}, **config) as relay:
            yield server, relay
        nursery.cancel_scope.cancel()


async def client_of(relay: Relay, revision: str, person: str = "alice", **more: Any) -> Client:
    return relay.modern(person, **more) if revision == MODERN else await relay.legacy(person, **more)


def text_of(answer: Json) -> str:
    """The words of a tool error."""
    result = answer["result"]
    assert result["isError"] is True
    (block,) = result["content"]
    text: str = block["text"]
    return text
