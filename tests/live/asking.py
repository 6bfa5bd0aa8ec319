"""A client that shows everything: JSON-RPC over httpx2, one request at a time, as each revision has it on the wire.

Its bearer is sealed with the deployment's own secret; who wants a real login uses `tests.parts.scripted_clients`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from aggregator.protocol.oauth.sealed import AccessToken, seal_access
from aggregator.protocol.oauth.site import SCOPE
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from tests.parts.processes import PATIENCE

from .deployment import SECRET

Json = dict[str, Any]

MODERN, LEGACY = "2026-07-28", "2025-11-25"
IDENTITY = {"name": "asking", "version": "1"}
_NUMBERS = itertools.count(1)


def bearer_for(issuer_url: str, *, subject: str = "alice", secret: str = SECRET) -> str:
    """An access token of a grant that nobody has revoked."""
    person, now = Principal("http://127.0.0.1:9", subject), time.time()
    token = AccessToken("grant", "client", person, SCOPE, f"{issuer_url}/mcp", issuer_url, now + 86_400)
    return seal_access(KeyRing([bytes.fromhex(secret)]), token, now=now)


@dataclass
class Asking:
    """One client. `revision` decides the form of its requests; `session` is what `initialize` gave it."""

    url: str
    token: str
    http: httpx2.AsyncClient
    revision: str = MODERN
    session: str | None = None
    seen: list[Json] = field(default_factory=list)

    async def initialize(self) -> Json:
        """Begin a session of 2025-11-25."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": IDENTITY}
        answer = await self.post(message("initialize", params))
        self.session = answer.headers["mcp-session-id"]
        await self.notify("notifications/initialized", {})
        result: Json = read_events(answer)[-1]["result"]
        return result

    async def ask(self, method: str, params: Json | None = None) -> Json:
        """The result; an error is an `AssertionError`. What came before it is in `seen`."""
        *self.seen, last = read_events(await self.post(message(method, params or {}, self.revision)))
        assert "result" in last, last
        result: Json = last["result"]
        return result

    async def call(self, tool: str, **arguments: Any) -> Json:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments})

    async def tools(self) -> list[str]:
        """The names of every page."""
        found: list[str] = []
        params: Json = {}
        while True:
            page = await self.ask("tools/list", params)
            found += [tool["name"] for tool in page["tools"]]
            if "nextCursor" not in page:
                return found
            params = {"cursor": page["nextCursor"]}

    async def status(self) -> dict[str, Json]:
        """What `gateway__status` tells, by upstream."""
        rows = json.loads(text_of(await self.call("gateway__status")))["servers"]
        return {row["name"]: row for row in rows}

    async def notify(self, method: str, params: Json) -> None:
        answer = await self.post({"jsonrpc": "2.0", "method": method, "params": params})
        assert answer.status_code == 202, answer.text

    async def post(self, body: Json) -> httpx2.Response:
        return await self.http.post(self.url, content=json.dumps(body), headers=self.headers(body))

    def headers(self, body: Json) -> dict[str, str]:
        made = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if self.revision == MODERN:
            made |= {"mcp-protocol-version": MODERN, "mcp-method": body["method"]}
            if "name" in body["params"]:
                made["mcp-name"] = body["params"]["name"]
        elif self.session is not None:
            made |= {"mcp-protocol-version": LEGACY, "mcp-session-id": self.session}
        return made


def message(method: str, params: Json, revision: str = LEGACY) -> Json:
    """A request; in the form of 2026-07-28 it says who asks, each time."""
    if revision == MODERN:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": IDENTITY,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {**params, "_meta": {**meta, **params.get("_meta", {})}}
    return {"jsonrpc": "2.0", "id": next(_NUMBERS), "method": method, "params": params}


@asynccontextmanager
async def open_asking(issuer_url: str, revision: str = MODERN, *, subject: str = "alice") -> AsyncIterator[Asking]:
    """A client of the deployment at `issuer_url`, its session begun if its revision has one."""
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        asking = Asking(f"{issuer_url}/mcp", bearer_for(issuer_url, subject=subject), http, revision)
        if revision == LEGACY:
            await asking.initialize()
        yield asking


def read_events(answer: httpx2.Response) -> list[Json]:
    """The messages of an answer, the response last."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        lines = (line[5:] for line in answer.text.splitlines() if line.startswith("data:"))
        return [json.loads(data) for data in lines if data.strip()]  # 2025-11-25: one may be empty
    assert answer.headers.get("content-type") == "application/json", (answer.status_code, answer.text)
    return [answer.json()]


def text_of(result: Json) -> str:
    texts: Iterable[str] = (part["text"] for part in result["content"] if part["type"] == "text")
    return "\n".join(texts)
