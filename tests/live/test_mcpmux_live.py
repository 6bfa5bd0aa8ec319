"""An unmodified file of mcpmux with the reference servers of npm and PyPI, over HTTP and stdio, for real clients."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.parts.install import NODE_MODULES, node_path, sdk1_python, stdio_server_program
from tests.parts.processes import PATIENCE, free_port, open_process
from tests.parts.scripted_clients import CLIENTS, KINDS, MODERN_KINDS, Kind, Mode, run_client

pytestmark = pytest.mark.live

EXAMPLE = Path(__file__).parent.parent / "config" / "mcpmux" / "reference-servers.yaml"
ONE_OF_EACH = {"everything__echo", "fs__read_text_file", "memory__read_graph", "time__get_current_time", "git__git_log"}
RUNS: list[tuple[Kind, Mode]] = [*((kind, "legacy") for kind in KINDS), *((kind, "2026") for kind in MODERN_KINDS)]
STDIO_RUNS = [(kind, mode) for kind, mode in RUNS if kind != "mcp-remote"]


def environment(folder: Path, transport: str, port: int = 0) -> dict[str, str]:
    """What the file's variables are."""
    return {
        "PYTHONUNBUFFERED": "1",
        "TRANSPORT": transport,
        "PORT": str(port or 8080),
        "NODE": str(node_path()),
        "NODE_SERVERS": str(NODE_MODULES / "@modelcontextprotocol"),
        "PYPI_SERVERS": str(stdio_server_program("mcp-server-git").parent),
        "FILES": str(folder),
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aggregator", *arguments, "-c", str(EXAMPLE)]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[int]:
    """The port of a server over HTTP, all of whose upstreams answer."""
    port = free_port()
    async with open_process("serve", command("serve"), env=environment(folder, "http", port)) as process:
        await process.wait_listening(port)
        for name in ("everything", "fs", "memory", "time", "git"):
            await process.wait_output(f"upstream {name} is running")
        yield port


async def run_stdio_client(
    kind: str, mode: str, env: dict[str, str], server: list[str], **asked: Any
) -> dict[str, Any]:
    """What a real client sees that starts `server` itself, and calls one tool."""
    tool = [asked["tool"], json.dumps(asked["arguments"])]
    match kind:
        case "python1":
            started = [str(sdk1_python()), str(CLIENTS / "stdio_python.py"), mode, *tool, *server]
        case "python2":
            started = [sys.executable, str(CLIENTS / "stdio_python.py"), mode, *tool, *server]
        case _:
            started = [str(node_path()), str(CLIENTS / "stdio_typescript.mjs"), kind[-1], mode, *tool, *server]
    with trio.fail_after(2 * PATIENCE):
        done = await trio.run_process(
            started, capture_stdout=True, env={**os.environ, **env, "NEEDED": " ".join(ONE_OF_EACH)}
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def test_it_is_served_over_http_to_every_client(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello from a file")
    async with serving(tmp_path) as port:
        for kind, mode in RUNS:
            run = await run_client(
                kind,
                f"http://127.0.0.1:{port}/mcp",
                tool="fs__read_text_file",
                arguments={"path": f"{tmp_path}/note.txt"},
                mode=mode,
            )
            assert set(run.tools) >= ONE_OF_EACH, (kind, mode)
            assert len(run.tools) > 40
            assert not run.authorized, "nobody logs in on their own machine"
            assert "hello from a file" in json.dumps(run.result), (kind, mode)
            if kind != "mcp-remote":  # which speaks to its client in a revision of its own choice
                assert run.protocol == ("2026-07-28" if mode == "2026" else "2025-11-25"), (kind, mode)


@pytest.mark.parametrize(("kind", "mode"), STDIO_RUNS)
async def test_it_is_served_over_stdio_to_every_client(tmp_path: Path, kind: str, mode: str) -> None:
    found = await run_stdio_client(
        kind,
        mode,
        environment(tmp_path, "stdio"),
        command("serve"),
        tool="memory__create_entities",
        arguments={"entities": [{"name": "trio", "entityType": "library", "observations": ["structured"]}]},
    )
    assert set(found["tools"]) >= ONE_OF_EACH
    assert "structured" in json.dumps(found["result"])
    assert "structured" in await trio.Path(tmp_path / "memory.jsonl").read_text()
    assert found["protocol"] == ("2026-07-28" if mode == "2026" else "2025-11-25")


async def test_the_bridge_connects_every_client_to_one_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        for kind, mode in STDIO_RUNS:
            found = await run_stdio_client(
                kind,
                mode,
                environment(tmp_path, "http", port),
                command("stdio"),
                tool="everything__echo",
                arguments={"message": "hello"},
            )
            assert set(found["tools"]) >= ONE_OF_EACH, (kind, mode)
            assert "Echo: hello" in json.dumps(found["result"]), (kind, mode)
            assert found["protocol"] == ("2026-07-28" if mode == "2026" else "2025-11-25")
