"""A scripted MCP server of 2026-07-28 with the Tasks extension (SEP-2663), which no SDK has: the fixtures that the
official suite's tasks scenarios want. It knows nothing of the code under test.

By hand: ``python tests/parts/servers/tasks.py [PORT]``.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config

Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]

REVISION, PREFIX = "2026-07-28", "io.modelcontextprotocol/"
TASKS = f"{PREFIX}tasks"
DECLARATION: Json = {"extensions": {TASKS: {}}}
NAMED_BY = {"tools/call": "name", **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")}
REQUIRED = {"failing_job", "protocol_error_job", "confirm_delete", "multi_input", "test_tool_with_task"}
TOOLS = ("greet", "slow_compute", *sorted(REQUIRED))


class Refused(Exception):
    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.error: Json = {"code": code, "message": message, **({"data": data} if data else {})}


@dataclass(eq=False)
class Task:
    """One task and who listens to it."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: str = "working"
    more: Json = field(default_factory=dict)  # result, error or inputRequests
    created: str = field(default_factory=lambda: now())
    updated: str = field(default_factory=lambda: now())
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    answers: Json = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    def shown(self) -> Json:
        times = {"createdAt": self.created, "lastUpdatedAt": self.updated, "ttlMs": 600_000, "pollIntervalMs": 100}
        return {"taskId": self.id, "status": self.status, **times, **self.more}

    def become(self, status: str, **more: Any) -> None:
        self.status, self.more, self.updated = status, more, now()
        self.changed.set()
        self.changed = trio.Event()

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


def now() -> str:
    return datetime.now(UTC).isoformat()


def said(text: str, *, failed: bool = False) -> Json:
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def form(name: str) -> Json:
    schema = {"type": "object", "properties": {name: {"type": "string"}}}
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": f"{name}?", "requestedSchema": schema},
    }


class Server:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.tasks: dict[str, Task] = {}

    async def __call__(self, scope: Json, receive: Callable[[], Awaitable[Json]], send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        if scope["method"] != "POST":
            await respond(send, 405, b"")
            return
        message = json.loads(body)
        headers = {key.decode().lower(): value.decode() for key, value in scope["headers"]}
        try:
            check(message, headers)
            if message["method"] == "subscriptions/listen":
                await self.listen(message, receive, send)
                return
            result = await self.answer(message["method"], message["params"])
        except Refused as exc:
            status = 404 if exc.error["code"] == -32601 else 400
            answer = {"jsonrpc": "2.0", "id": message.get("id"), "error": exc.error}
            await respond(send, status, json.dumps(answer).encode())
            return
        result = {"resultType": "complete", **result}
        result["_meta"] = {f"{PREFIX}serverInfo": {"name": "tasks", "version": "1"}}
        await respond(send, 200, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())

    async def answer(self, method: str, params: Json) -> Json:
        match method:
            case "server/discover":
                capabilities = {"tools": {}, **DECLARATION}
                return {"supportedVersions": [REVISION], "capabilities": capabilities, **cached()}
            case "tools/list":
                return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS], **cached()}
            case "tools/call":
                return await self.call(params["name"], params.get("arguments") or {}, params)
            case "tasks/get" | "tasks/update" | "tasks/cancel":
                if not is_declared(params):
                    raise undeclared()
                task = self.tasks.get(params["taskId"])
                if task is None:
                    raise Refused(-32602, "Unknown task")
                if method == "tasks/get":
                    return task.shown()
                if method == "tasks/update":
                    task.answers |= params.get("inputResponses") or {}
                    task.changed.set()
                    task.changed = trio.Event()
                    # What is asked no longer contains what was answered, at once.
                    await trio.sleep(0.01)
                else:
                    task.scope.cancel()
                return {}
            case _:
                raise Refused(-32601, "Method not found")

    async def call(self, name: str, arguments: Json, params: Json) -> Json:
        declared = is_declared(params)
        if name == "greet":
            return said(f"Hello, {arguments.get('name')}!")
        if name in REQUIRED and not declared:
            raise undeclared()
        if name == "test_tool_with_task" and "inputResponses" not in params:
            return {"resultType": "input_required", "inputRequests": {"name": form("user_name")}, "requestState": "r1"}
        if name == "slow_compute" and (not declared or not arguments.get("seconds")):
            await trio.sleep(min(arguments.get("seconds") or 0, 2))
            return said("computed")
        if name not in TOOLS:
            raise Refused(-32602, "Unknown tool")
        task = Task()
        self.tasks[task.id] = task
        self.nursery.start_soon(self.run, task, name, arguments, params)
        return {"resultType": "task", **task.shown()}

    async def run(self, task: Task, name: str, arguments: Json, params: Json) -> None:
        with task.scope:
            match name:
                case "slow_compute":
                    await trio.sleep(arguments["seconds"])
                    task.become("completed", result=said("computed"))
                case "failing_job":
                    await trio.sleep(1)
                    task.become("completed", result=said("it failed", failed=True))
                case "protocol_error_job":
                    await trio.sleep(0.2)
                    task.become("failed", error={"code": -32603, "message": "panic"})
                case "test_tool_with_task":
                    given = params["inputResponses"]["name"]["content"]
                    task.become("completed", result=said(f"Hello {json.dumps(given)}"))
                case _:
                    asked = ("confirm",) if name == "confirm_delete" else ("first", "second")
                    while left := [key for key in asked if key not in task.answers]:
                        changed = task.changed
                        task.status = "input_required"
                        task.more = {"inputRequests": {key: form(key) for key in left}}
                        task.updated = now()
                        await changed.wait()
                    task.become("completed", result=said(json.dumps(task.answers)))
        if task.scope.cancelled_caught and not task.is_over:
            task.become("cancelled")

    async def listen(self, message: Json, receive: Callable[[], Awaitable[Json]], send: Send) -> None:
        wanted = message["params"].get("notifications", {})
        if wanted.get("taskIds") and not is_declared(message["params"]):
            raise undeclared()
        tasks = [self.tasks[id] for id in wanted.get("taskIds", []) if id in self.tasks]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        lock = trio.Lock()

        async def tell(method: str, params: Json) -> None:
            params = {**params, "_meta": {f"{PREFIX}subscriptionId": message["id"]}}
            text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
            async with lock:
                await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})

        async def follow(task: Task) -> None:
            while not task.is_over:
                await task.changed.wait()
                await tell("notifications/tasks", task.shown())

        honoured = {"notifications": {"taskIds": [task.id for task in tasks]} if tasks else {}}
        await tell("notifications/subscriptions/acknowledged", honoured)
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(follow, task)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()


def check(message: Json, headers: Json) -> None:
    params = message.setdefault("params", {})
    meta = params.get("_meta", {})
    if f"{PREFIX}protocolVersion" not in meta or f"{PREFIX}clientCapabilities" not in meta:
        raise Refused(-32602, "_meta is not whole")
    if headers.get("mcp-protocol-version") != REVISION or meta[f"{PREFIX}protocolVersion"] != REVISION:
        raise Refused(-32022, "Unsupported protocol version", {"supported": [REVISION], "requested": "?"})
    if headers.get("mcp-method") != message["method"]:
        raise Refused(-32020, "Mcp-Method")
    named_by = NAMED_BY.get(message["method"])
    if named_by is not None and headers.get("mcp-name") != params.get(named_by):
        raise Refused(-32020, "Mcp-Name")


def is_declared(params: Json) -> bool:
    return TASKS in params["_meta"][f"{PREFIX}clientCapabilities"].get("extensions", {})


def undeclared() -> Refused:
    return Refused(-32021, "Missing required client capability", {"requiredCapabilities": DECLARATION})


def cached() -> Json:
    return {"ttlMs": 60_000, "cacheScope": "public"}


async def respond(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    settings = Config.from_mapping(bind=[f"fd://{listener.detach()}"], errorlog=None)
    async with trio.open_nursery() as nursery:
        app: Any = Server(nursery)
        await nursery.start(partial(hypercorn.trio.serve, app, settings, mode="asgi"))
        print(f"listening {url}", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 0)
