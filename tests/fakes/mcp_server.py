"""An MCP server as an `Exchange`, in memory: it speaks 2026-07-28 or 2025-11-25 and does what a test scripts.

It is a server of its own mind: it checks envelope, headers and session itself,
runs each request in a task of its own, and treats a closed exchange as its
revision says: cancellation in 2026-07-28, nothing before. It uses none of the
code under test but the `Answer` it has to give.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from aggregator.errors import UpstreamLost
from aggregator.upstream.http.exchange import Answer

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = "io.modelcontextprotocol/"
Json = dict[str, Any]


class ToolFailure(Exception):
    """Raised by a tool: the answer is this JSON-RPC error."""

    def __init__(self, error: Json, status: int = 200) -> None:
        super().__init__(str(error))
        self.error = error
        self.status = status


@dataclass
class Raw:
    """A canned answer instead of an honest one. An `endless` body never ends; it `breaks` with its connection."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    chunks: Sequence[bytes] = ()
    endless: bool = False
    breaks: bool = False


@dataclass
class Incoming:
    """One HTTP request as it arrived."""

    http_method: str
    headers: dict[str, str]
    body: bytes
    closed: trio.Event = field(default_factory=trio.Event)
    finished: bool = False
    opened_at: float = field(default_factory=trio.current_time)

    @property
    def message(self) -> Json:
        value: Json = json.loads(self.body)
        return value

    @property
    def method(self) -> str:
        return str(self.message.get("method")) if self.body else self.http_method

    @property
    def params(self) -> Json:
        params: Json = self.message.get("params", {})
        return params

    @property
    def meta(self) -> Json:
        meta: Json = self.params.get("_meta", {})
        return meta


@dataclass
class ClientAnswer:
    """A client's answer to what a server asked."""

    came: trio.Event = field(default_factory=trio.Event)
    message: Json | None = None


class Speaking:
    """What a tool may do while it runs."""

    def __init__(self, incoming: Incoming, out: _Out, server: FakeServer) -> None:
        self._server = server
        self.incoming = incoming
        self.arguments: Json = incoming.params.get("arguments") or {}
        self._out = out

    async def send(self, message: Json) -> None:
        await self._out.event(message)

    async def progress(self, progress: float, **more: Any) -> None:
        if (token := self.incoming.meta.get("progressToken")) is not None:
            await self.notify("notifications/progress", progressToken=token, progress=progress, **more)

    async def log(self, level: str, data: Any) -> None:
        await self.notify("notifications/message", level=level, data=data)

    async def ask(self, method: str, *, beside: bool = False, **params: Any) -> Json:
        """Ask the client, as servers with handshakes do; its whole answer. Ids are counted in each session anew. The
        question goes out on the stream of this call, or `beside`, on that of the session."""
        server, session = self._server, self.incoming.headers.get("mcp-session-id")
        id = f"ask-{server.asked.get(session, 0)}"
        server.asked[session] = server.asked.get(session, 0) + 1
        server.answers[session, id] = answered = ClientAnswer()
        out = server.streams[session] if beside else self._out
        await out.event({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        await answered.came.wait()
        assert answered.message is not None
        return answered.message

    async def notify(self, method: str, **params: Any) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})


Tool = Callable[[Speaking], Awaitable[Json]]
Result = Callable[[Incoming], Json]  # raises ToolFailure
Script = Callable[[Incoming], Awaitable[Raw]]


class _Out:
    """The response of one exchange: a head, then chunks."""

    def __init__(self) -> None:
        self.head: tuple[int, dict[str, str]] | None = None
        self.begun = trio.Event()
        self._writer, self.reader = trio.open_memory_channel[bytes | None](10_000)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.head = (status, dict(headers))
        self.begun.set()

    async def event(self, message: Json) -> None:
        await trio.lowlevel.checkpoint()
        if self.head is None:
            self.begin(200, {"content-type": "text/event-stream"})
        self.write(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")

    def write(self, chunk: bytes | None) -> None:
        try:
            self._writer.send_nowait(chunk)
        except trio.BrokenResourceError:
            pass  # the client has gone

    def end(self) -> None:
        self._writer.close()
        self.begun.set()


class _Chunks:
    def __init__(self, reader: trio.MemoryReceiveChannel[bytes | None]) -> None:
        self._reader = reader

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._reader.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if chunk is None:
            raise UpstreamLost("connection lost (fake)")
        return chunk


class FakeServer:
    """Set the attributes to change its behaviour at any time; `restart` forgets its sessions."""

    def __init__(self, nursery: trio.Nursery, revision: str = MODERN, *, name: str = "fake", sessions: bool = True):
        self.revision = revision
        self.name = name
        self.tools: list[Json] = []
        self.resources: list[Json] = []
        self.run: dict[str, Tool] = {}
        self.page_size = 1000
        self.tells = False  # whether it has streams for what changes
        self.ttl: int | None = None
        self.capabilities: Json = {"tools": {}, "logging": {}}
        self.instructions: str | None = None
        self.scripts: dict[str, Script] = {}  # by JSON-RPC method, or "DELETE"
        self.doing: dict[str, Tool] = {}  # by JSON-RPC method, as `run` has it for tools
        self.results: dict[str, Result] = {}  # by JSON-RPC method: what neither lists nor calls tools
        self.accounts: dict[str, list[str] | None] | None = None  # by token: the tools it shows; None, all of them
        self.public: set[str] = set()  # methods that need no account even so
        self.dead: str | None = None
        self.absent = False  # while it is dead, nobody listens where it was
        self.hung = False
        self.before: Callable[[Incoming], Awaitable[None]] | None = None
        self.requests: list[Incoming] = []
        self.open: list[Incoming] = []
        self.sessions: dict[str, Json] = {}
        self.running: dict[tuple[str | None, Any], trio.CancelScope] = {}
        self.cancelled: list[Any] = []
        self.asked: dict[str | None, int] = {}  # how many questions in each session
        self.answers: dict[tuple[str | None, str], ClientAnswer] = {}  # to what tools asked, by session and id
        self.listeners: list[tuple[_Out, Json]] = []  # streams for what changes, with the tag of each
        self.streams: dict[str | None, _Out] = {}  # those of sessions
        self.subscribed: list[str] = []  # resources, of the last stream or by requests
        self.silent_about: set[str] = set()  # resources that cannot be subscribed to
        self.known_tasks: set[str] = set()
        self.client: Json = {}  # what the last `initialize` said
        self._keeps_sessions = sessions
        self._count = 0
        self._nursery = nursery

    def tool(self, name: str, run: Tool | None = None, **more: Any) -> None:
        self.tools.append({"name": name, "inputSchema": {"type": "object"}, **more})
        self.run[name] = run or _echo

    def tells_of_changes(self, *resources: str) -> None:
        """From now on it has streams, and says so."""
        self.tells = True
        self.capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": True}}
        self.resources = [{"uri": uri, "name": uri} for uri in resources]

    def calls(self, method: str = "tools/call") -> list[Incoming]:
        return [incoming for incoming in self.requests if incoming.method == method]

    def restart(self, revision: str | None = None) -> None:
        self.sessions.clear()
        self.revision = revision or self.revision

    async def announce(self, method: str, **params: Any) -> None:
        """Tell everybody who listens."""
        for out, tag in self.listeners:
            told = {**params, "_meta": tag} if tag else params
            if not out.reader.statistics().open_receive_channels:
                continue  # its client has gone, and it will see
            await out.event({"jsonrpc": "2.0", "method": method, "params": told})

    @asynccontextmanager
    async def send(self, method: str, headers: list[tuple[bytes, bytes]], body: bytes) -> AsyncIterator[Answer]:
        await trio.lowlevel.checkpoint()
        if self.dead is not None:
            raise UpstreamLost(self.dead, executed=False, absent=self.absent)
        fields: dict[str, str] = {}
        for key, value in headers:
            assert key.decode() not in fields, f"{key!r} sent twice"
            fields[key.decode()] = value.decode("latin-1")
        incoming, out = Incoming(method, fields, body), _Out()
        self.requests.append(incoming)
        self.open.append(incoming)
        scope = trio.CancelScope()
        closing_cancels = self.revision == MODERN or method == "GET"
        self._nursery.start_soon(self._serve, incoming, out, scope)
        try:
            await out.begun.wait()
            if out.head is None:
                raise UpstreamLost("broke off without an answer (fake)")
            yield Answer(*out.head, _Chunks(out.reader))
        finally:
            self.open.remove(incoming)
            incoming.closed.set()
            out.reader.close()
            if closing_cancels:
                scope.cancel()

    async def _serve(self, incoming: Incoming, out: _Out, scope: trio.CancelScope) -> None:
        with scope:
            if self.before is not None:
                await self.before(incoming)
            if self.hung:
                await trio.sleep_forever()
            await self._answer(incoming, out)
            incoming.finished = True
        if scope.cancelled_caught and incoming.body:
            self.cancelled.append(incoming.message.get("id"))
        out.end()

    async def _answer(self, incoming: Incoming, out: _Out) -> None:
        script = self.scripts.get(incoming.method)
        if script is not None:
            raw = await script(incoming)
            out.begin(raw.status, raw.headers)
            for chunk in raw.chunks:
                await trio.lowlevel.checkpoint()
                out.write(chunk)
            if raw.breaks:
                out.write(None)
            if raw.endless:
                await trio.sleep_forever()
        elif not self._lets_in(incoming):
            out.begin(401, {"www-authenticate": 'Bearer resource_metadata="https://up.example.com/prm", scope="read"'})
        elif incoming.http_method == "DELETE":
            gone = self.sessions.pop(incoming.headers.get("mcp-session-id", ""), None)
            out.begin(200 if gone is not None else 404, {})
        elif self.revision == MODERN:
            await self._modern(incoming, out)
        else:
            await self._legacy(incoming, out)

    def _lets_in(self, incoming: Incoming) -> bool:
        if self.accounts is None or incoming.method in self.public:
            return True
        return incoming.headers.get("authorization", "").removeprefix("Bearer ") in self.accounts

    async def _modern(self, incoming: Incoming, out: _Out) -> None:
        if incoming.http_method != "POST":
            out.begin(405, {"allow": "POST"})
            return
        if (fault := envelope_fault(incoming, self.tools)) is not None:
            _reply(out, incoming, {"error": fault}, status=400)
            return
        match incoming.method:
            case "server/discover":
                result: Json = {"supportedVersions": [MODERN], "capabilities": self.capabilities, **self._said()}
            case "tools/list":
                result = self._page(incoming)
            case method if method in self.results:
                try:
                    result = self.results[method](incoming)
                except ToolFailure as exc:
                    _reply(out, incoming, {"error": exc.error}, status=exc.status)
                    return
            case "resources/list" | "resources/templates/list" if "resources" in self.capabilities:
                key = "resourceTemplates" if "templates" in incoming.method else "resources"
                result = {key: self.resources if key == "resources" else []}
            case "tools/call":
                await self._call(incoming, out)
                return
            case method if method in self.doing:
                await self._do(incoming, out, self.doing[method])
                return
            case "subscriptions/listen" if self.tells:
                wanted = incoming.params["notifications"]
                tag = {f"{META}subscriptionId": incoming.message["id"]}
                known = [one["uri"] for one in self.resources if one["uri"] not in self.silent_about]
                self.subscribed = [uri for uri in wanted.get("resourceSubscriptions", []) if uri in known]
                wanted = {**wanted, "resourceSubscriptions": self.subscribed}
                if "taskIds" in wanted:
                    wanted["taskIds"] = [id for id in wanted["taskIds"] if id in self.known_tasks]
                self.listeners.append((out, tag))
                await self.announce("notifications/subscriptions/acknowledged", notifications=wanted)
                await self._stream(out, tag)
                return
            case _:
                _reply(out, incoming, {"error": {"code": -32601, "message": "Method not found"}}, status=404)
                return
        result = {"resultType": "complete", "ttlMs": 60_000 if self.ttl is None else self.ttl, **result}
        result["_meta"] = {f"{META}serverInfo": {"name": self.name, "version": "9"}}
        _reply(out, incoming, {"result": {**result, "cacheScope": "public"}})

    async def _legacy(self, incoming: Incoming, out: _Out) -> None:
        session_id = incoming.headers.get("mcp-session-id")
        if incoming.method == "initialize":
            self._count += 1
            self.client = incoming.params
            given = {"mcp-session-id": f"s{self._count}"} if self._keeps_sessions else {}
            self.sessions[f"s{self._count}"] = {"level": None}
            server = {"name": self.name, "version": "9"}
            result = {"protocolVersion": LEGACY, "capabilities": self.capabilities, "serverInfo": server}
            result |= self._said()
            _reply(out, incoming, {"result": result}, headers=given)
            return
        if self._keeps_sessions and session_id is None:
            error = {"code": -32000, "message": "Bad Request: No valid session ID provided"}
            _reply(out, incoming, {"error": error}, status=400, id=None)
            return
        if self._keeps_sessions and session_id not in self.sessions:
            _reply(out, incoming, {"error": {"code": -32001, "message": "Session not found"}}, status=404, id=None)
            return
        if incoming.http_method == "GET":
            if not self.tells:
                out.begin(405, {})
                return
            out.begin(200, {"content-type": "text/event-stream"})
            self.listeners.append((out, {}))
            self.streams[session_id] = out
            await self._stream(out, {})
            return
        if incoming.headers.get("mcp-protocol-version") != LEGACY or any(key.startswith(META) for key in incoming.meta):
            _reply(out, incoming, {"error": {"code": -32600, "message": "not 2025-11-25"}}, status=400)
            return
        match incoming.method:
            case "resources/subscribe" if incoming.params["uri"] in self.silent_about:
                _reply(out, incoming, {"error": {"code": -32602, "message": "no subscriptions to this"}})
            case "resources/subscribe":
                self.subscribed.append(incoming.params["uri"])
                _reply(out, incoming, {"result": {}})
            case "resources/unsubscribe":
                self.subscribed.remove(incoming.params["uri"])
                _reply(out, incoming, {"result": {}})
            case "notifications/cancelled":
                id = incoming.params["requestId"]
                self.cancelled.append(id)
                if (scope := self.running.get((session_id, id))) is not None:
                    scope.cancel()
                out.begin(202, {})
            case "tools/list":
                _reply(out, incoming, {"result": self._page(incoming)})
            case method if method in self.results:
                try:
                    _reply(out, incoming, {"result": self.results[method](incoming)})
                except ToolFailure as exc:
                    _reply(out, incoming, {"error": exc.error}, status=exc.status)
            case "resources/list" | "resources/templates/list" if "resources" in self.capabilities:
                key = "resourceTemplates" if "templates" in incoming.method else "resources"
                _reply(out, incoming, {"result": {key: self.resources if key == "resources" else []}})
            case "tools/call":
                await self._call(incoming, out)
            case method if method in self.doing:
                await self._do(incoming, out, self.doing[method])
            case "logging/setLevel":
                self.sessions[session_id or "s1"]["level"] = incoming.params["level"]
                _reply(out, incoming, {"result": {}})
            case _ if "method" not in incoming.message:
                if (answered := self.answers.get((session_id, incoming.message["id"]))) is not None:
                    answered.message = incoming.message
                    answered.came.set()
                out.begin(202, {})
            case _ if "id" not in incoming.message:
                out.begin(202, {})
            case _:
                _reply(out, incoming, {"error": {"code": -32601, "message": "Method not found"}})

    async def _stream(self, out: _Out, tag: Json) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.listeners.remove((out, tag))

    def _page(self, incoming: Incoming) -> Json:
        start = int(incoming.params.get("cursor", "c0")[1:])
        tools = self.tools
        if self.accounts is not None and incoming.method not in self.public:
            shown = self.accounts[incoming.headers["authorization"].removeprefix("Bearer ")]
            tools = [tool for tool in tools if shown is None or tool["name"] in shown]
        page: Json = {"tools": tools[start : start + self.page_size]}
        if start + self.page_size < len(tools):
            page["nextCursor"] = f"c{start + self.page_size}"
        return page

    async def _call(self, incoming: Incoming, out: _Out) -> None:
        run = self.run.get(incoming.params["name"])
        if run is None:
            _reply(out, incoming, {"error": {"code": -32602, "message": f"Unknown tool: {incoming.params['name']}"}})
            return
        await self._do(incoming, out, run)

    async def _do(self, incoming: Incoming, out: _Out, run: Tool) -> None:
        key = (incoming.headers.get("mcp-session-id"), incoming.message["id"])
        try:
            with trio.CancelScope() as scope:
                self.running[key] = scope
                result = await run(Speaking(incoming, out, self))
            if not scope.cancelled_caught:
                _reply(out, incoming, {"result": {**self._fields(), **result}})
        except ToolFailure as exc:
            _reply(out, incoming, {"error": exc.error}, status=exc.status)
        finally:
            del self.running[key]

    def _said(self) -> Json:
        return {} if self.instructions is None else {"instructions": self.instructions}

    def _fields(self) -> Json:
        if self.revision == LEGACY:
            return {}
        return {"resultType": "complete", "_meta": {f"{META}serverInfo": {"name": self.name, "version": "9"}}}


def _reply(
    out: _Out,
    incoming: Incoming,
    body: Json,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    id: Any = ...,
) -> None:
    message = {"jsonrpc": "2.0", "id": incoming.message.get("id") if id is ... else id, **body}
    data = json.dumps(message).encode()
    if out.head is None:
        out.begin(status, {"content-type": "application/json", **(headers or {})})
        out.write(data)
    else:
        out.write(b"data: " + data + b"\n\n")


def envelope_fault(incoming: Incoming, tools: Sequence[Json]) -> Json | None:
    """What is wrong with a 2026-07-28 request, by the revision's own words."""
    headers, meta = incoming.headers, incoming.meta
    for key in ("protocolVersion", "clientCapabilities"):
        if META + key not in meta:
            return {"code": -32602, "message": f"_meta lacks {key}"}
    if headers.get("mcp-protocol-version") != MODERN or meta[META + "protocolVersion"] != MODERN:
        return {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [MODERN]}}
    if headers.get("mcp-method") != incoming.method:
        return {"code": -32020, "message": "Mcp-Method"}
    named_by = {"prompts/get": "name", "resources/read": "uri"}.get(incoming.method)
    if named_by is not None and unwrapped(headers.get("mcp-name", "")) != incoming.params[named_by]:
        return {"code": -32020, "message": "Mcp-Name"}
    if incoming.method == "tools/call":
        if unwrapped(headers.get("mcp-name", "")) != incoming.params["name"]:
            return {"code": -32020, "message": "Mcp-Name"}
        tool = next((tool for tool in tools if tool["name"] == incoming.params["name"]), None)
        wanted = {
            f"mcp-param-{schema['x-mcp-header'].lower()}": incoming.params["arguments"][key]
            for key, schema in (tool or {}).get("inputSchema", {}).get("properties", {}).items()
            if "x-mcp-header" in schema and incoming.params.get("arguments", {}).get(key) is not None
        }
        given = {key: unwrapped(value) for key, value in headers.items() if key.startswith("mcp-param-")}
        if given != {key: value if isinstance(value, str) else json.dumps(value) for key, value in wanted.items()}:
            return {"code": -32020, "message": f"Mcp-Param: {given} is not {wanted}"}
    return None


def unwrapped(value: str) -> str:
    if value.startswith("=?base64?") and value.endswith("?="):
        return base64.b64decode(value[9:-2]).decode()
    return value


async def _echo(speaking: Speaking) -> Json:
    await trio.lowlevel.checkpoint()
    return {"content": [{"type": "text", "text": json.dumps(speaking.arguments)}], "isError": False}
