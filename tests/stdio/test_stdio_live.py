"""MCP over stdio in processes of their own: `serve` with ``listen.transport: stdio``, and the bridge to a server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port, open_process, wait_until
from tests.parts.servers.fixtures import open_fixture_server

from ..live.asking import IDENTITY, LEGACY, MODERN, message, text_of
from ..upstream.commands.test_child import wait_gone

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
Json = dict[str, Any]


def configuration(folder: Path, **more: Any) -> str:
    upstreams = [{"name": "good", "command": [sys.executable, "-I", "-S", SCRIPT, "modern"]}]
    file = folder / "mcp-aggregator.config.json"
    patient = {"discoveryTimeout": round(PATIENCE * 1000)}
    file.write_text(json.dumps({"upstreams": upstreams, "storage": "memory", **patient, **more}))
    return str(file)


def accepts(path: Path) -> bool:
    """Somebody listens at the path."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class Talking:
    """A client over the pipes of a process: one request at a time."""

    def __init__(self, process: trio.Process, revision: str) -> None:
        self.process = process
        self._revision = revision
        self._buffer = b""
        self.heard: list[Json] = []

    async def say(self, content: Json) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(content).encode() + b"\n")

    async def hear(self) -> Json:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            chunk = await self.process.stdout.receive_some()
            assert chunk, "stdout has ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        heard: Json = json.loads(line)
        self.heard.append(heard)
        return heard

    async def ask(self, method: str, **params: Any) -> Json:
        request = message(method, params, self._revision)
        await self.say(request)
        while (answer := await self.hear()).get("id") != request["id"]:
            pass
        assert "result" in answer, answer
        result: Json = answer["result"]
        return result

    async def begin(self, capabilities: Json) -> None:
        if self._revision == LEGACY:
            await self.ask("initialize", protocolVersion=LEGACY, capabilities=capabilities, clientInfo=IDENTITY)
            await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.ask("tools/list"))["tools"]]

    async def call(self, tool: str, **arguments: Any) -> Json:
        return await self.ask("tools/call", name=tool, arguments=arguments)


@asynccontextmanager
async def talking(
    command: Sequence[str], revision: str = MODERN, capabilities: Json | None = None
) -> AsyncIterator[Talking]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "aggregator", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        with trio.fail_after(5 * PATIENCE):
            client = Talking(process, revision)
            await client.begin(capabilities or {})
            yield client
    finally:
        if process.poll() is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_one_client_over_stdio_in_each_revision(tmp_path: Path, revision: str) -> None:
    file = configuration(tmp_path, listen={"transport": "stdio"})
    async with talking(["serve", "-c", file], revision) as client:
        assert "good__echo" in await client.tools()
        assert text_of(await client.call("good__echo", text="hello\nworld")) == "hello\nworld"
        pid = int(text_of(await client.call("good__pid")))
        assert client.process.stdin is not None
        await client.process.stdin.aclose()
        assert await client.process.wait() == 0
        await wait_gone(pid)


async def test_a_signal_ends_it_as_the_end_of_its_input_does(tmp_path: Path) -> None:
    file = configuration(tmp_path, listen={"transport": "stdio"})
    async with talking(["serve", "-c", file]) as client:
        await client.ask("tools/list")
        client.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await client.process.wait() == 0


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
@pytest.mark.parametrize("way", ["port", "socket", "token"])
async def test_the_bridge_reaches_a_running_server_by_its_configuration(
    tmp_path: Path, revision: str, way: str
) -> None:
    port = free_port()
    more: Json = {"socket": str(tmp_path / "x.sock")} if way == "socket" else {"port": port}
    if way == "token":
        more["listen"] = {"token": "3f1c9a0d5e7b42861f0e9d8c7b6a5948"}
    file = configuration(tmp_path, **more)
    serve = [sys.executable, "-m", "aggregator", "serve", "-c", file]
    async with open_process("serve", serve, env={"PYTHONUNBUFFERED": "1"}) as server:
        if way == "socket":
            await wait_until(lambda: accepts(tmp_path / "x.sock"))
        else:
            await server.wait_listening(port)
        async with talking(["stdio", "-c", file], revision) as client:
            while "good__echo" not in await client.tools():  # noqa: ASYNC110  a slow machine starts it later
                await trio.sleep(LOOK_AGAIN)
            assert text_of(await client.call("good__echo", text="hello")) == "hello"
            assert client.process.stdin is not None
            await client.process.stdin.aclose()
            assert await client.process.wait() == 0


async def test_the_bridge_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    port = free_port()
    file = configuration(tmp_path, port=port)
    serve = [sys.executable, "-m", "aggregator", "serve", "-c", file]
    async with open_process("first", serve, env={"PYTHONUNBUFFERED": "1"}) as first:
        await first.wait_listening(port)
        async with talking(["stdio", "-c", file, "--log-level", "error"], LEGACY) as client:
            assert text_of(await client.call("good__echo", text="one")) == "one"
            first.process.terminate()
            await first.process.wait()
            async with open_process("second", serve, env={"PYTHONUNBUFFERED": "1"}):
                # Nobody listens yet, and the session's key is another, since `memory` keeps none.
                assert text_of(await client.call("good__echo", text="two")) == "two"


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_progress_comes_while_a_call_runs_and_a_cancellation_reaches_the_upstream(
    tmp_path: Path, revision: str
) -> None:
    file = configuration(tmp_path, listen={"transport": "stdio"})
    async with talking(["serve", "-c", file], revision) as client:
        counted = await client.ask("tools/call", name="good__count", arguments={"to": 5}, _meta={"progressToken": "p"})
        assert text_of(counted) == "counted"
        steps = [heard["params"] for heard in client.heard if heard.get("method") == "notifications/progress"]
        assert [step["progress"] for step in steps] == [0, 1, 2, 3, 4]
        assert {step["progressToken"] for step in steps} == {"p"}
        held = message("tools/call", {"name": "good__hold", "arguments": {"label": "x"}}, revision)
        await client.say(held)
        while '"hold"' not in text_of(await client.call("good__heard")):  # noqa: ASYNC110  it hears
            await trio.sleep(LOOK_AGAIN)
        await client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": held["id"]}})
        while "notifications/cancelled" not in text_of(await client.call("good__heard")):  # noqa: ASYNC110  it hears
            await trio.sleep(LOOK_AGAIN)
        assert held["id"] not in [heard.get("id") for heard in client.heard], "what was cancelled is not answered"


@pytest.mark.parametrize("way", ["serve", "bridge"])
@pytest.mark.parametrize(
    "tool", ["old__test_input_required_result_elicitation", "new__test_input_required_result_elicitation"]
)
async def test_a_client_over_stdio_is_asked_and_answers(tmp_path: Path, way: str, tool: str) -> None:
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(open_fixture_server("older"))
        new = await stack.enter_async_context(open_fixture_server("all"))
        upstreams = [{"name": "old", "url": old}, {"name": "new", "url": new}]
        if way == "serve":
            command = ["serve", "-c", configuration(tmp_path, upstreams=upstreams, listen={"transport": "stdio"})]
        else:
            port = free_port()
            file = configuration(tmp_path, upstreams=upstreams, port=port)
            serve = [sys.executable, "-m", "aggregator", "serve", "-c", file]
            server = await stack.enter_async_context(open_process("serve", serve, env={"PYTHONUNBUFFERED": "1"}))
            await server.wait_listening(port)
            command = ["stdio", "-c", file]
        client = await stack.enter_async_context(talking(command, LEGACY, {"elicitation": {}}))
        asked = message("tools/call", {"name": tool, "arguments": {}}, LEGACY)
        await client.say(asked)
        while (heard := await client.hear()).get("method") != "elicitation/create":
            assert heard.get("id") != asked["id"], heard
        answer = {"action": "accept", "content": {"name": "Zoe"}}
        await client.say({"jsonrpc": "2.0", "id": heard["id"], "result": answer})
        while (heard := await client.hear()).get("id") != asked["id"]:
            pass
        assert text_of(heard["result"]) == "Hello, Zoe!"


async def test_accounts_are_connected_on_a_page_where_nobody_calls_tools(tmp_path: Path) -> None:
    upstreams = [{"name": "linear", "url": "http://127.0.0.1:9/mcp", "auth": {"type": "oauth", "openBrowser": False}}]
    file = configuration(tmp_path, upstreams=upstreams, listen={"transport": "stdio"})
    async with (
        talking(["serve", "-c", file]) as client,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as browser,
    ):
        status = json.loads(text_of(await client.call("gateway__status")))
        page = await browser.get(status["dashboardUrl"], follow_redirects=True)
        assert page.status_code == 200
        assert "linear" in page.text
        endpoint = status["dashboardUrl"].replace("/connections", "/mcp")
        assert (await browser.post(endpoint, json=message("tools/list", {}, MODERN))).status_code == 404
