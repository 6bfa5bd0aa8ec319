"""What an attacker needs: an upstream that writes any bytes, a socket that does, and real processes to aim at.

It follows no rule on purpose. It must not know the aggregator's insides.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import trio

from aggregator.protocol.oauth.pkce import challenge_of
from tests.parts.browser import walk_login
from tests.parts.processes import PATIENCE, Running, free_port, open_process
from tests.parts.servers import PUBLIC, open_oidc_provider

from .deployment import SECRET
from .oracle import assert_healthy, assert_tells_no_secret

LOOPBACK = "http://127.0.0.1:33418/cb"  # nobody listens there: browsers stop before
META = "io.modelcontextprotocol/"
Json = dict[str, Any]


@dataclass
class Asked:
    """One request as it came over the wire."""

    head: bytes
    body: bytes

    @property
    def message(self) -> Json:
        message: Json = json.loads(self.body or b"{}")
        return message

    @property
    def id(self) -> str:
        return str(self.message["id"])


Writer = Callable[[trio.SocketStream], Awaitable[None]]
Script = Callable[[Asked], bytes | Writer]


@dataclass
class RawUpstream:
    """An MCP server of 2026-07-28 without an HTTP library: a scripted tool's answer is whatever bytes the script gives.

    `seen` is everything that ever arrived.
    """

    url: str = ""
    tools: list[Json] = field(default_factory=lambda: [{"name": "echo", "inputSchema": {"type": "object"}}])
    scripts: dict[str, Script] = field(default_factory=dict)  # by tool name, or by method
    seen: list[Asked] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        left = b""
        try:
            while True:
                asked, left = await read_request(stream, left)
                self.seen.append(asked)
                reply = self._answer(asked)
                if isinstance(reply, bytes):
                    await stream.send_all(reply)
                else:
                    await reply(stream)
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(stream)

    def _answer(self, asked: Asked) -> bytes | Writer:
        message = asked.message
        params, method = message.get("params", {}), message.get("method", "")
        script = self.scripts.get(params.get("name") if method == "tools/call" else method)
        if script is not None:
            return script(asked)
        match method:
            case "server/discover":
                return result(asked, supportedVersions=["2026-07-28"], capabilities={"tools": {}})
            case "tools/list":
                names = [{"name": name, "inputSchema": {"type": "object"}} for name in self.scripts if "/" not in name]
                return result(asked, tools=[*self.tools, *names], ttlMs=3_600_000, cacheScope="private")
            case "tools/call":
                return result(asked, content=[{"type": "text", "text": json.dumps(params.get("arguments"))}])
        return answer(b"", status=202)


async def read_request(stream: trio.SocketStream, left: bytes) -> tuple[Asked, bytes]:
    async def more() -> bytes:
        data = bytes(await stream.receive_some(65536))
        if not data:
            raise EOFError
        return data

    while b"\r\n\r\n" not in left:
        left += await more()
    head, _, left = left.partition(b"\r\n\r\n")
    length = int(found[1]) if (found := re.search(rb"content-length: (\d+)", head, re.IGNORECASE)) else 0
    while len(left) < length:
        left += await more()
    return Asked(head, left[:length]), left[length:]


def answer(body: bytes, *headers: tuple[str, str], status: int = 200, kind: str = "application/json") -> bytes:
    """One whole HTTP response."""
    lines = [("content-type", kind), ("content-length", str(len(body))), *headers]
    return f"HTTP/1.1 {status} X\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in lines) + b"\r\n" + body


def result(asked: Asked, *headers: tuple[str, str], **fields: Any) -> bytes:
    body: Json = {"jsonrpc": "2.0", "id": asked.id, "result": {"resultType": "complete", **fields}}
    return answer(json.dumps(body).encode(), *headers)


def endless(piece: bytes, kind: str = "text/event-stream") -> Script:
    """`piece` again and again, as a body without end."""

    async def write(stream: trio.SocketStream) -> None:
        data = piece * (65536 // len(piece) + 1)
        await stream.send_all(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        while True:
            await stream.send_all(b"%x\r\n" % len(data) + data + b"\r\n")

    return lambda asked: write


@asynccontextmanager
async def open_upstream() -> AsyncIterator[RawUpstream]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        upstream = RawUpstream(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp")
        nursery.start_soon(trio.serve_listeners, upstream.serve, listeners)
        yield upstream
        nursery.cancel_scope.cancel()


def ask(url: str, raw: bytes) -> bytes:
    """What comes back for these bytes until the server closes. Blocks."""
    parts, found = urlsplit(url), b""
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(raw)
            while data := connection.recv(65536):
                found += data
        except OSError:
            pass
    return found


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


class Target:
    """One deployment of one or more processes, and what a client or a browser does to it."""

    def __init__(self, urls: Sequence[str], issuer: str, http: httpx2.AsyncClient) -> None:
        self.urls = tuple(urls)
        self.url = self.urls[0]
        self.issuer = issuer
        self.http = http
        self.secrets: dict[str, str] = {}  # everything that must never be written down, by name

    def keep(self, name: str, text: str) -> str:
        self.secrets[f"{name} {len(self.secrets)}"] = text
        return text

    async def register(self, redirect: str = LOOPBACK, **metadata: Any) -> Json:
        asked = {"redirect_uris": [redirect], "token_endpoint_auth_method": "none", **metadata}
        answered = await self.http.post(f"{self.url}/register", json=asked)
        assert answered.status_code == 201, answered.text
        client: Json = answered.json()
        if "client_secret" in client:
            self.keep("client secret", client["client_secret"])
        return client

    def authorize_url(self, client: Json, verifier: str, **changes: str) -> str:
        asked = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": client["redirect_uris"][0],
            "state": "the state",
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return f"{self.url}/authorize?{urlencode(asked | changes)}"

    async def obtain_code(self, client: Json, verifier: str, user: str, **more: Any) -> str:
        url = await walk_login(self.authorize_url(client, verifier), client["redirect_uris"][0], user, **more)
        return self.keep("code", dict(parse_qsl(urlsplit(url).query))["code"])

    async def redeem(self, client: Json, code: str, verifier: str, *, at: int = 0) -> httpx2.Response:
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return await self.http.post(f"{self.urls[at]}/token", data=form | {"client_id": client["client_id"]})

    async def refresh(self, client: Json, token: str, *, at: int = 0) -> httpx2.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client["client_id"]}
        return await self.http.post(f"{self.urls[at]}/token", data=form)

    async def log_in(self, client: Json, user: str = "alice") -> Json:
        """Tokens, the whole real way."""
        verifier = self.keep("verifier", secrets.token_urlsafe(48))
        answered = await self.redeem(client, await self.obtain_code(client, verifier, user), verifier)
        assert answered.status_code == 200, answered.text
        tokens: Json = answered.json()
        self.keep("access token", tokens["access_token"])
        self.keep("refresh token", tokens["refresh_token"])
        return tokens

    async def ask(self, token: str, method: str, params: Json | None = None, *, at: int = 0, id: Any = 1) -> Any:
        """One request of 2026-07-28; the response."""
        params = params or {}
        meta = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}, **params.get("_meta", {})}
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            **({"mcp-name": params["name"]} if "name" in params else {}),
        }
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}
        return await self.http.post(f"{self.urls[at]}/mcp", json=body, headers=headers)

    async def begin_session(self, token: str) -> str:
        """A session of 2025-11-25."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        return (await self.post(token, None, "initialize", params)).headers["mcp-session-id"]

    async def post(
        self, token: str, session: str | None, method: str, params: Json | None = None, *, id: Any = 1
    ) -> httpx2.Response:
        """One message of 2025-11-25; a notification where `id` is None."""
        headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
        headers |= {"mcp-protocol-version": "2025-11-25"} | ({"mcp-session-id": session} if session else {})
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if id is None else {"id": id})
        return await self.http.post(f"{self.url}/mcp", json=message, headers=headers)

    async def call(self, token: str, tool: str, **arguments: Any) -> str:
        """The words of a tool's answer, whatever it is."""
        answered = await self.ask(token, "tools/call", {"name": tool, "arguments": arguments})
        assert answered.status_code == 200, answered.text
        return str(answered.json()["result"]["content"][0]["text"])


@dataclass
class Processes:
    """A target of real processes on one SQLite file."""

    target: Target
    folder: Path
    running: list[Running]

    def written(self) -> str:
        """All that is on disk or was logged."""
        files = b"".join(file.read_bytes() for file in self.folder.glob("store.sqlite*"))
        return "".join(process.output() for process in self.running) + files.decode("latin-1")


@asynccontextmanager
async def open_processes(folder: Path, upstream: RawUpstream, count: int = 2) -> AsyncIterator[Processes]:
    """`count` times ``mcp-aggregator serve`` at its most talkative, and a real identity provider.

    At the end of a block that did not fail: see `oracle`.
    """
    ports = [free_port() for _ in range(count)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(open_oidc_provider(f"{urls[0]}/callback"))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=PATIENCE))
        processes = Processes(Target(urls, issuer, http), folder, [])
        for port in ports:
            await start(stack, processes, port, upstream)
        yield processes
        living = [process for process in processes.running if process.process.poll() is None]
        for process, url in zip(processes.running, urls, strict=False):
            if process in living:
                await assert_healthy(url)
        left = Processes(processes.target, folder, living)
        assert_tells_no_secret(left.written(), (SECRET, *processes.target.secrets.values()))


async def start(stack: AsyncExitStack, processes: Processes, port: int, upstream: RawUpstream) -> None:
    """One more process of the deployment."""
    target = processes.target
    settings = {
        "auth": {"issuer": target.issuer, "clientId": PUBLIC},
        "upstreams": [{"name": "up", "url": upstream.url, "auth": {"type": "none"}}],
        "issuerUrl": target.url,
        "host": "127.0.0.1",
        "port": port,
        "allowedHosts": [urlsplit(url).netloc for url in target.urls],
        "secret": SECRET,
        "storage": str(processes.folder / "store.sqlite"),
    }
    file = processes.folder / f"{len(processes.running)}.json"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file), "--log-level", "debug"]
    process = await stack.enter_async_context(open_process(f"aggregator {port}", command))
    await process.wait_listening(port)
    processes.running.append(process)
