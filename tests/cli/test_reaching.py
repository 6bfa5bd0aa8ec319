"""`list` goes to upstreams with the logins that the daemon's store holds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from aggregator.assembly.ground import open_ground
from aggregator.assembly.local import as_team
from aggregator.config.load import load_config
from aggregator.config.model import LocalConfig
from aggregator.protocol.brokering import IssuedTokens
from aggregator.protocol.principal import LOCAL

from ..upstream.token_server import beginning
from .test_cli import run

pytestmark = pytest.mark.live

TOKEN = "access-of-the-daemon"


class Guarded(BaseHTTPRequestHandler):
    """An MCP server of 2026-07-28 with one tool, for whoever has the token."""

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(401, {}, ("www-authenticate", "Bearer"))
            return
        results: dict[str, dict[str, object]] = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
        }
        result = results[call["method"]]
        self._answer(200, {"jsonrpc": "2.0", "id": call["id"], "result": {"resultType": "complete", **result}})

    def _answer(self, status: int, value: object, *headers: tuple[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (("content-type", "application/json"), ("content-length", str(len(body))), *headers):
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def guarded_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        server.shutdown()
        thread.join(60)


async def log_in(config: LocalConfig, url: str) -> None:
    """As the daemon does at the end of a login."""
    begun = beginning(upstream="wiki", resource=url)
    team = await trio.to_thread.run_sync(as_team, config)
    async with open_ground(team, importing_for=None, clock=time.time) as ground:
        await ground.connections.save(LOCAL, "wiki", begun, IssuedTokens(TOKEN, None, "Bearer", None, None))


def test_a_login_of_the_daemon_is_good_for_list(tmp_path: Path) -> None:
    with guarded_server() as url:
        config = {"upstreams": [{"name": "wiki", "url": url}]}
        (tmp_path / "c.json").write_text(json.dumps(config))
        done = run(tmp_path, "list", "-c", "c.json")
        assert (done.returncode, done.stdout) == (77, "")
        assert "mcp-aggregator login wiki" in done.stderr
        assert not (tmp_path / ".local").exists(), "asking makes no store"
        loaded = load_config("c.json", environ={"HOME": str(tmp_path)}, cwd=tmp_path).config
        assert isinstance(loaded, LocalConfig)
        trio.run(log_in, loaded, url)
        done = run(tmp_path, "list", "-c", "c.json")
        assert (done.returncode, done.stdout) == (0, "wiki__t\ttool\twiki\twiki__t()\n"), done.stderr
