"""The demo as a whole, over real sockets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import httpx2
import pytest
import trio

from aggregator.demo import welcome
from aggregator.demo.stage import listen_for_demo, open_demo
from aggregator.demo.upstreams import demo_server, notes_server, open_server
from aggregator.demo.walk import StepFailed, open_walk, walk_all
from aggregator.serving import CannotListen
from tests.parts.processes import PATIENCE, free_port

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


async def test_the_whole_way_can_be_gone_and_gone_again() -> None:
    told: list[str] = []
    with trio.fail_after(PATIENCE):
        async with open_demo(listen_for_demo(0)) as url, open_walk(url) as walk:
            await walk_all(url, told.append)
            assert len(told) == len(walk.steps)
            with pytest.raises(StepFailed, match=r"notes__add_note.*expected '1 notes', got"):
                await walk_all(url, told.append)  # the pad has a note already: servers and store lived on


async def test_the_step_that_fails_is_named_with_what_came_instead() -> None:
    port = free_port()
    with pytest.raises(StepFailed, match=r"^step 1, a request without a token is refused: "):
        await walk_all(f"http://127.0.0.1:{port}", print)


async def test_notes_is_an_older_server_and_demo_a_newer_one() -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": META}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "server/discover", "accept": "application/json"}
    headers["accept"] += ", text/event-stream"
    for server, older, status in ((demo_server(), False, 200), (notes_server(), True, 400)):
        async with open_server(server, port=7000, older_only=older) as app:
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7000") as client:
                assert (await client.post("/mcp", json=asked, headers=headers)).status_code == status


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def test_its_own_port_may_be_taken_but_one_asked_for_may_not() -> None:
    first = listen_for_demo(None)
    second = listen_for_demo(None)
    with first, second:
        port = second.getsockname()[1]
        assert port != first.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port} "):
            listen_for_demo(port)


def test_the_lines_for_clients_can_be_copied() -> None:
    lines = welcome("http://127.0.0.1:8765", 0.1).splitlines()
    assert "  Claude Code   claude mcp add --transport http demo http://127.0.0.1:8765/mcp" in lines
    assert "  Codex         codex mcp add demo --url http://127.0.0.1:8765/mcp" in lines
    (vs_code,) = (line.partition("--add-mcp ")[2] for line in lines if "VS Code" in line)
    assert json.loads(vs_code.strip("'"))["url"] == "http://127.0.0.1:8765/mcp"


def launch(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aggregator", "demo", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_checks_itself_and_exits_0() -> None:
    with launch("--check") as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "notes__list_notes, 2025-11-25" in stdout
    assert "all of it in" in stdout
    assert stderr == ""


def test_the_command_serves_until_it_is_interrupted() -> None:
    with launch("--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Ready in ")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in stderr


def test_the_command_exits_75_when_the_port_asked_for_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, launch("--port", str(taken.getsockname()[1])) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75
    assert "is in use by another program" in stderr
