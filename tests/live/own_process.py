"""The aggregator as a process of its own, with a real configuration file, in each way to start it."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import trio

from tests.parts.processes import PATIENCE, Running, open_process
from tests.parts.servers import PUBLIC

from .deployment import SECRET
from .oracle import assert_healthy, assert_tells_no_secret

Way = Literal["serve", "command"]
WAYS: tuple[Way, ...] = ("serve", "command")


def configuration(issuer: str, port: int, upstreams: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """What an operator writes, for loopback; `more` are keys of the file."""
    fields: dict[str, Any] = {
        "auth": {"issuer": issuer, "clientId": PUBLIC},
        "upstreams": [{"name": name, "url": url} for name, url in upstreams.items()],
        "issuerUrl": f"http://127.0.0.1:{port}",
        "host": "127.0.0.1",
        "port": port,
        "secret": SECRET,
        "discoveryTimeout": int(PATIENCE * 1000),  # a slow machine's upstreams are in every list, too
    }
    return {**fields, **more}


@asynccontextmanager
async def open_own_process(way: Way, config: Mapping[str, Any], *flags: str) -> AsyncIterator[Running]:
    """The process, once it accepts connections on the file's port; `flags` are more of its command line.

    At the end of a block that did not fail: see `oracle`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mcp-aggregator.config.json")
        await trio.Path(file).write_text(json.dumps(config, indent=2))
        environment = {"PYTHONUNBUFFERED": "1"}
        match way:
            case "serve":
                command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
            case "command":
                command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-w", "0"]
                command += ["-b", f"127.0.0.1:{config['port']}", "aggregator.asgi:app"]
                environment["MCP_AGGREGATOR_CONFIG"] = str(file)
        async with open_process(way, [*command, *flags], env=environment) as process:
            await process.wait_listening(config["port"])
            yield process
            if process.process.poll() is None and "tls" not in config:
                await assert_healthy(f"http://127.0.0.1:{config['port']}")
            assert_tells_no_secret(process.output(), (SECRET,))


async def stop(process: Running) -> int:
    """SIGTERM; the exit code."""
    os.kill(process.process.pid, signal.SIGTERM)
    with trio.fail_after(PATIENCE):
        return await process.process.wait()
