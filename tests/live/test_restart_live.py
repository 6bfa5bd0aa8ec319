"""The service is restarted through a socket that its manager keeps open, while a client keeps calling."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE

from .asking import LEGACY, MODERN, Asking, text_of

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
# As systemd does it: the socket is descriptor 3, and the variables name the process itself.
START = 'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3<&0 0</dev/null'
RESTARTS = 3


@asynccontextmanager
async def started(listener: socket.socket, file: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A service that is given `listener`; ended by SIGTERM, and its exit code looked at."""
    command = ["sh", "-c", START, "sh", sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
    process = subprocess.Popen(command, stdin=listener.fileno(), stderr=subprocess.DEVNULL)  # noqa: ASYNC220  a moment
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(process.wait, PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_restart_refuses_no_connection_and_sessions_go_on(tmp_path: Path) -> None:
    file = tmp_path / "mcp-aggregator.config.json"
    upstreams = [{"name": "good", "command": [sys.executable, "-I", "-S", SCRIPT, "modern"]}]
    await trio.Path(file).write_text(json.dumps({"upstreams": upstreams, "storage": str(tmp_path / "s" / "x.sqlite")}))
    answered = 0
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]

        async def keep_calling(revision: str) -> None:
            """A connection for each call, so that every one of them could be refused."""
            nonlocal answered
            session = None
            while True:
                async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
                    client = Asking(f"http://127.0.0.1:{port}/mcp", "none", http, revision, session)
                    if revision == LEGACY and session is None:
                        await client.initialize()
                        session = client.session
                    assert text_of(await client.call("good__echo", text="hello")) == "hello"
                    answered += 1
                await trio.sleep(0.02)

        with trio.fail_after(5 * PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_calling, MODERN)
                nursery.start_soon(keep_calling, LEGACY)
                for _ in range(RESTARTS):
                    before = answered
                    async with started(listener, file):
                        while answered < before + 20:  # noqa: ASYNC110  others count
                            await trio.sleep(0.05)
                before = answered
                async with started(listener, file):
                    while answered < before + 20:  # noqa: ASYNC110  others count
                        await trio.sleep(0.05)
                    nursery.cancel_scope.cancel()
    assert answered >= 20 * (RESTARTS + 1)
    assert sorted(os.listdir(tmp_path / "s"))[0] == "x.key"
