"""Real processes on one SQLite file refresh one token, and are killed at every point of it (F11, F13)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from aggregator.store.sqlite import open_sqlite_store
from aggregator.upstream.accounts.refreshing import LEASE

from ...store.samples import ADA, keys
from ..token_server import row
from .refresher import FAIL_POINTS

pytestmark = pytest.mark.live

CANARIES = ("canary-access", "canary-refresh")


class AuthorizationServer(ThreadingHTTPServer):
    """Rotates at each refresh. `script` is what it does with the first requests; `grace` accepts the last token too."""

    daemon_threads = True

    def __init__(self, *, script: list[str] | None = None, grace: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.port = self.server_address[1]
        self.script = script or []
        self.grace = grace
        self.number = 0
        self.asked: list[str] = []
        self.kills: int | None = None
        self.turn = threading.Lock()

    @property
    def good(self) -> list[str]:
        numbers = [self.number, self.number - 1] if self.grace else [self.number]
        return [f"canary-refresh-{number}" for number in numbers]

    def answer(self, form: dict[str, list[str]]) -> tuple[int, str, bytes, dict[str, str]]:
        """Status, content type, body and further headers for one request at the token endpoint."""
        with self.turn:
            token = form["refresh_token"][0]
            self.asked.append(token)
            fault = self.script.pop(0) if self.script else None
            if self.kills is not None:
                os.kill(self.kills, signal.SIGKILL)
                self.kills = None
            match fault:
                case "429":
                    return 429, "application/json", b'{"error": "slow_down"}', {"retry-after": "1"}
                case "503":
                    return 503, "text/plain", b"busy", {}
                case "HTML":
                    return 200, "text/html", b"<html>captive portal</html>", {}
                case "400 HTML":
                    return 400, "text/html", b"<html>invalid_grant</html>", {}
                case "hanging":
                    time.sleep(0.8)  # and then nothing
                    return 0, "", b"", {}
            if token not in self.good:
                return 400, "application/json", b'{"error": "invalid_grant"}', {}
            self.number += 1
            tokens = {
                "access_token": f"canary-access-{self.number}",
                "refresh_token": f"canary-refresh-{self.number}",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
            return 200, "application/json", json.dumps(tokens).encode(), {}


class Exchange(BaseHTTPRequestHandler):
    server: AuthorizationServer

    def do_GET(self) -> None:
        issuer = f"http://127.0.0.1:{self.server.port}"
        if self.path != "/.well-known/oauth-authorization-server":
            self.respond(404, "text/plain", b"", {})
            return
        metadata = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.respond(200, "application/json", json.dumps(metadata).encode(), {})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        status, kind, body, more = self.server.answer(form)
        if status:
            try:
                self.respond(status, kind, body, more)
            except OSError:
                pass  # whoever asked is dead
        self.close_connection = True

    def respond(self, status: int, kind: str, body: bytes, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(server: AuthorizationServer) -> Iterator[AuthorizationServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


@contextmanager
def refreshers(path: Path, server: AuthorizationServer, count: int, **more: Any) -> Iterator[list[Any]]:
    """`count` processes that have opened the store and wait for the word."""
    arguments = json.dumps({"path": str(path), "port": server.port, **more})
    with ExitStack() as ending:
        running = []
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.upstream.accounts.refresher", arguments],
                cwd=Path(__file__).parents[3],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ending.enter_context(process)
            ending.callback(process.kill)
            running.append(process)
        for process in running:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        yield running


def go(processes: list[Any]) -> None:
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def outcome(process: Any) -> dict[str, Any]:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "canary" not in errors  # what it logged
    answer: dict[str, Any] = json.loads(output)
    return answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


async def connect(path: Path, server: AuthorizationServer) -> None:
    """A store with a token that has just expired."""
    async with open_sqlite_store(str(path), keys()) as store:
        await store.save_connection(
            row(
                access_token="canary-access-0",
                refresh_token="canary-refresh-0",
                issuer=f"http://127.0.0.1:{server.port}",
                resource=None,
                connected_at=time.time() - 3600,
                issued_at=time.time() - 3600,
                expires_at=time.time() - 1,
            )
        )


def raw_bytes(path: Path) -> bytes:
    return b"".join(entry.read_bytes() for entry in path.parent.iterdir())


@pytest.mark.requirement("AF13")
@pytest.mark.parametrize("script", [[], ["429"], ["503"], ["hanging"], ["HTML"], ["400 HTML"]], ids=str)
async def test_fifty_calls_of_two_processes_make_one_request_and_none_is_logged_out(
    path: Path, script: list[str]
) -> None:
    with serving(AuthorizationServer(script=list(script))) as server:
        await connect(path, server)
        with refreshers(path, server, 2, calls=25) as processes, closing(sqlite3.connect(path)) as reader:
            assert reader.execute("SELECT count(*) FROM connections").fetchone() == (1,)
            go(processes)
            outcomes = [outcome(process) for process in processes]
            with_log = raw_bytes(path)  # as long as one has the file open, the write-ahead log stays
            assert path.with_name("store.sqlite-wal").stat().st_size > 0
    assert [token for each in outcomes for token in each["got"]] == ["canary-access-1"] * 50
    assert server.asked == ["canary-refresh-0"] * (len(script) + 1)
    if not script:
        assert [each["told"] for each in outcomes] == [0, 0]
    for raw in (with_log, raw_bytes(path)):
        assert b"gmail" in raw
        assert not [canary for canary in CANARIES if canary.encode() in raw]


async def kill_one(path: Path, server: AuthorizationServer, fail_at: str) -> None:
    """A process that dies at `fail_at`, while it refreshes."""
    with refreshers(path, server, 1, calls=1, fail_at=fail_at) as processes:
        if fail_at == "after send":
            server.kills = processes[0].pid
        go(processes)
        processes[0].communicate(timeout=600)
        assert processes[0].returncode == -signal.SIGKILL


ROTATED_AND_LOST = {"after send", "after answer", "before commit"}


@pytest.mark.requirement("AF11")
@pytest.mark.parametrize("grace", [False, True], ids=["strict server", "server with grace"])
@pytest.mark.parametrize("fail_at", [*FAIL_POINTS, "after send"])
async def test_after_a_kill_anywhere_the_connection_works_or_asks_once(path: Path, fail_at: str, grace: bool) -> None:
    with serving(AuthorizationServer(grace=grace)) as server:
        await connect(path, server)
        await kill_one(path, server, fail_at)
        before = len(server.asked)
        with refreshers(path, server, 1, calls=1, ahead=LEASE) as processes:
            go(processes)
            answer = outcome(processes[0])
    asked = server.asked[before:]
    assert len(asked) == (0 if fail_at == "after commit" else 1)
    if fail_at in ROTATED_AND_LOST and not grace:
        (words,) = set(answer["got"])
        assert words.startswith("asked to log in: ")
    else:
        assert set(answer["got"]) == {f"canary-access-{server.number}"}
    assert answer["told"] == 0
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT lease_owner, lease_until FROM connections").fetchall() == [(None, None)]
    async with open_sqlite_store(str(path), keys()) as store:
        found = await store.find_connection(ADA, "gmail")
        assert found is not None
        assert found.state == ("needs_login" if fail_at in ROTATED_AND_LOST and not grace else "connected")
    assert not [canary for canary in CANARIES if canary.encode() in raw_bytes(path)]


@pytest.mark.requirement("AF11")
async def test_a_lease_of_the_dead_is_waited_for_and_then_taken(path: Path) -> None:
    with serving(AuthorizationServer()) as server:
        await connect(path, server)
        await kill_one(path, server, "before send")
        with refreshers(path, server, 2, calls=5, ahead=LEASE - 3) as processes:
            go(processes)
            outcomes = [outcome(process) for process in processes]
    assert [token for each in outcomes for token in each["got"]] == ["canary-access-1"] * 10
    assert len(server.asked) == 1
