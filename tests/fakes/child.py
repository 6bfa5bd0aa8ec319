"""A child process as its owner sees it, in memory: pipes, an exit code, an end. What it says is a test's to script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from aggregator.errors import UpstreamLost
from aggregator.upstream.commands.child import Command

Json = dict[str, Any]
Script = Callable[["FakeChild"], Awaitable[None]]


class FakeChild:
    """One run. Its script reads `lines` and writes with `send`; when the script returns, it has exited with 0."""

    def __init__(self) -> None:
        (self.stdin, self._stdin), (self._stdout, self.stdout) = (
            trio.testing.memory_stream_one_way_pair(),
            trio.testing.memory_stream_one_way_pair(),
        )
        self._stderr, self.stderr = trio.testing.memory_stream_one_way_pair()
        self.pid = 1
        self.code: int | None = None
        self.exited = trio.Event()
        self.started_at = trio.current_time()
        self.heard: list[Json] = []
        self.ended: str | None = None  # how its owner wanted it to end

    async def watch(self) -> None:
        await self.exited.wait()

    async def end(self, *, gently: bool = True) -> None:
        self.ended = "gently" if gently else "at once"
        with trio.CancelScope(shield=True):
            await self.stdin.aclose()
            if not self.exited.is_set():
                self.exit(-15 if gently else -9)

    def exit(self, code: int) -> None:
        if not self.exited.is_set():
            self.code = code
            self._stdout.close()
            self._stderr.close()
            self._stdin.close()
            self.exited.set()

    async def hear(self) -> Json:
        """The next message.

        Raises:
            EOFError: when stdin has ended.
        """
        held = b""
        while not held.endswith(b"\n"):
            try:
                byte = await self._stdin.receive_some(1)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                byte = bytearray()
            if not byte:
                raise EOFError
            held += bytes(byte)
        message: Json = json.loads(held)
        self.heard.append(message)
        return message

    async def write(self, data: bytes) -> None:
        try:
            await self._stdout.send_all(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise EOFError from None

    async def complain(self, data: bytes) -> None:
        await self._stderr.send_all(data)

    async def send(self, **message: Any) -> None:
        await self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


class FakeStarts:
    """Called as `open_child`: the n-th run follows the n-th script, the last one from then on."""

    def __init__(self, *scripts: Script | UpstreamLost) -> None:
        self.runs: list[FakeChild] = []
        self.at: list[float] = []
        self._scripts = scripts

    @asynccontextmanager
    async def __call__(self, command: Command) -> AsyncIterator[FakeChild]:
        script = self._scripts[min(len(self.at), len(self._scripts) - 1)]
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if isinstance(script, UpstreamLost):
            raise script
        child = FakeChild()
        self.runs.append(child)

        async def run() -> None:
            try:
                await script(child)
            except EOFError:
                pass
            child.exit(0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield child
            finally:
                child.exit(-9)
                nursery.cancel_scope.cancel()


async def modern(child: FakeChild) -> None:
    """A server of 2026-07-28 whose tools say their own name."""
    while True:
        message = await child.hear()
        match message.get("method"):
            case "server/discover":
                await answer(child, message, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
            case "tools/list":
                await answer(child, message, {"tools": [{"name": "t"}]})
            case "tools/call":
                await answer(child, message, {"content": [], "name": message["params"]["name"]})
            case "initialize":
                await child.send(id=message["id"], error={"code": -32022, "message": "not accepted"})
            case _:
                pass


async def older(child: FakeChild) -> None:
    """A server of 2025-11-25."""
    while True:
        message = await child.hear()
        match message.get("method"):
            case "initialize":
                capabilities: Json = {"tools": {}, "logging": {}}
                await answer(child, message, {"protocolVersion": "2025-11-25", "capabilities": capabilities})
            case "tools/call":
                await answer(child, message, {"content": []})
            case _ if "id" in message:
                await child.send(id=message["id"], error={"code": -32601, "message": "no"})
            case _:
                pass


async def answer(child: FakeChild, message: Json, result: Json) -> None:
    await child.send(id=message["id"], result=result)
