"""`status`, `retry`, `login`, `logout`: the words, and the whole way to a daemon that runs."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aggregator.cli.daemon import Daemon, NotRunning, daemon_of
from aggregator.cli.standing import exit_code_of, login, status, status_lines
from aggregator.cli.terminal import Terminal
from aggregator.config.model import BrowserLogin, Listen, LocalConfig, Secret, Upstream
from tests.parts.processes import PATIENCE, free_port

from .test_catalog_list import ABSENT, GOOD, configured
from .test_cli import run


def row(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "tools": 3, "error": None, "stale": False, **more}


def plain(text: str, code: str) -> str:
    return text


def test_each_problem_has_its_command_below() -> None:
    rows = [
        row("wiki", "connected"),
        row("notes", "connected", stale=True),
        row("jira", "unreachable", error="its command ended", stderr=["no key"], fix="mcp-aggregator retry jira"),
        row("github", "needs_login", error="it asks for a login", fix="mcp-aggregator login github"),
    ]
    assert status_lines(rows, plain) == [
        "UPSTREAM  STATE        TOOLS",
        "wiki      connected    3",
        "notes     connected    3",
        "    its prompts or resources cannot be listed now, and are those of before: gateway__status says why",
        "jira      unreachable  3",
        "    its command ended",
        "        no key",
        "    to try now: mcp-aggregator retry jira",
        "github    needs login  3",
        "    it asks for a login",
        "    run: mcp-aggregator login github",
    ]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((), 0),
        (("connected", "connecting"), 0),
        (("connected", "needs_login"), 77),
        (("needs_login", "unreachable"), 69),
        (("retrying",), 69),
    ],
)
def test_the_exit_code_tells_the_worst(states: tuple[str, ...], code: int) -> None:
    assert exit_code_of([row(state, state) for state in states]) == code


def local(**more: Any) -> LocalConfig:
    return LocalConfig(
        None, more.pop("upstreams", ()), **{"issuer_url": "http://localhost:3000", "host": "127.0.0.1", **more}
    )


def test_the_daemon_is_where_the_configuration_says() -> None:
    assert daemon_of(local()) == Daemon("", "127.0.0.1", 3000, "localhost:3000")
    assert daemon_of(local(host="0.0.0.0")).host == "127.0.0.1"
    assert daemon_of(local(host="::")).host == "::1"
    on_unix = local(issuer_url="http://localhost", listen=Listen(socket="/run/x.sock", token=Secret("t")))
    assert daemon_of(on_unix) == Daemon("", "localhost", 0, "localhost", socket="/run/x.sock", token="t")
    assert str(daemon_of(on_unix)) == "/run/x.sock"


@pytest.mark.parametrize("config", [local(port=0), local(listen=Listen(transport="stdio"))])
def test_a_daemon_that_cannot_be_found_is_told_so(config: LocalConfig) -> None:
    with pytest.raises(NotRunning):
        daemon_of(config)


@contextmanager
def answering(raw: bytes) -> Iterator[int]:
    """Something that answers one connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            listener.close()
            with connection:
                connection.recv(65536)
                connection.sendall(raw)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port
        thread.join(PATIENCE)


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<h1>"])
def test_something_else_at_the_address_is_not_taken_for_the_daemon(raw: bytes) -> None:
    with answering(raw) as port, pytest.raises(NotRunning):
        Daemon("", "127.0.0.1", port, "localhost").ask("GET", "/control/status")


@contextmanager
def telling(*answers: list[dict[str, Any]]) -> Iterator[int]:
    """A daemon whose upstreams are as `answers` say, one after another; the last stays."""
    left = list(answers)

    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"upstreams": left[0] if len(left) == 1 else left.pop(0)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Control) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE)


WAITS = row("jira", "needs_login", fix="mcp-aggregator login jira", loginUrl="http://localhost/connect/jira")
LOST = row("jira", "unreachable", error="cannot connect", fix="mcp-aggregator retry jira")


@pytest.mark.parametrize(
    ("answers", "names", "code", "said"),
    [
        ([[row("jira", "connecting")], [WAITS], [row("jira", "connected")]], (), 0, "jira: logged in"),
        ([[row("jira", "connecting")], [WAITS], [row("jira", "connected")]], ("jira",), 0, "jira: logged in"),
        ([[row("jira", "connecting")], [row("jira", "connected")]], (), 0, "no upstream waits for a login"),
        ([[row("jira", "connected")]], ("jira",), 0, "jira: nothing to log in to (connected)"),
        ([[LOST]], ("jira",), 69, "jira: cannot connect\n    to try now: mcp-aggregator retry jira -c c.json"),
        ([[LOST]], (), 0, "not known of jira; see: mcp-aggregator status -c c.json"),
    ],
)
def test_login_waits_until_it_is_known_who_wants_one(
    answers: list[list[dict[str, Any]]], names: tuple[str, ...], code: int, said: str
) -> None:
    out, err = io.StringIO(), io.StringIO()
    jira = Upstream("jira", "https://jira.example.com/mcp", "jira", auth_type="oauth", browser_login=BrowserLogin())
    with telling(*answers) as port:
        config = local(port=port, upstreams=(jira,))
        assert login(config, Terminal(out, err, {}), names, lambda url: True, option=" -c c.json") == code
    assert said in err.getvalue()


def test_a_daemon_that_ends_while_somebody_logs_in_is_told(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    jira = Upstream("jira", "https://jira.example.com/mcp", "jira", auth_type="oauth", browser_login=BrowserLogin())
    body = json.dumps({"upstreams": [WAITS]}).encode()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as port:  # once
        config = local(port=port, upstreams=(jira,))

        def open_page(url: str) -> bool:
            return True

        assert login(config, Terminal(out, err, {}), (), open_page) == 69
    assert "the daemon has ended meanwhile: nobody answers" in err.getvalue()


def test_a_daemon_that_refuses_us_is_said_to_run() -> None:
    out, err = io.StringIO(), io.StringIO()
    body = b'{"error_description": "no token"}'
    with answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as port:
        assert status(local(port=port), Terminal(out, err, {}), as_json=True, start="") == 77
    assert json.loads(out.getvalue()) == {"running": True, "error": "no token", "fix": None}


@contextmanager
def serving(folder: Path, **config: Any) -> Iterator[None]:
    (folder / "c.json").write_text(json.dumps({"storage": "memory", **config}))
    with subprocess.Popen(
        [sys.executable, "-m", "aggregator", "serve", "-c", "c.json"],
        cwd=folder,
        env={"HOME": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "MCP endpoint" in line:
                break
        else:
            raise AssertionError("".join(lines))
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            reader.join(PATIENCE)


@pytest.mark.live
@pytest.mark.parametrize("way", ["port", "socket", "token"])
def test_the_daemon_is_asked_wherever_it_listens(way: str, tmp_path: Path) -> None:
    where: dict[str, Any] = {"port": free_port()}
    if way == "socket":
        where = {"socket": str(tmp_path / "d.sock")}
    elif way == "token":
        where["listen"] = {"token": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}
    with serving(tmp_path, upstreams=[GOOD, ABSENT], **where):
        done = run(tmp_path, "retry", "absent", "-c", "c.json")
        assert done.returncode == 0, done.stderr
        rows = [["", "connecting"]]
        while any("connecting" in cells for cells in rows):
            done = run(tmp_path, "status", "-c", "c.json")
            rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert done.returncode == 69, done.stderr
        assert rows[0][:2] == ["good", "connected"]
        assert (rows[1][:2], rows[1][4]) == (["absent", "unreachable"], "mcp-aggregator retry absent -c c.json")
        told = json.loads(run(tmp_path, "status", "--json", "-c", "c.json").stdout)
        assert told["running"] is True
        assert told["upstreams"][1]["fix"] == "mcp-aggregator retry absent -c c.json"
        assert run(tmp_path, "logout", "good", "-c", "c.json").returncode == 1
        assert run(tmp_path, "login", "--no-browser", "-c", "c.json").returncode == 0
        assert run(tmp_path, "logout", "godo", "-c", "c.json").returncode == 2


def test_a_daemon_that_does_not_run_is_told_with_the_command_that_starts_it(tmp_path: Path) -> None:
    configured(tmp_path, GOOD)
    settings = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**settings, "port": free_port()}))
    done = run(tmp_path, "status", "-c", "c.json")
    assert (done.returncode, done.stdout) == (69, "")
    assert "start it with: mcp-aggregator serve -c c.json" in done.stderr
    assert json.loads(run(tmp_path, "status", "--json", "-c", "c.json").stdout)["running"] is False
    for command in (("retry",), ("login",), ("logout", "good")):
        done = run(tmp_path, *command, "-c", "c.json")
        assert done.returncode == 69
        assert done.stderr.endswith("start it with: mcp-aggregator serve -c c.json\n")


def test_a_shell_completes_commands_and_names_of_upstreams(tmp_path: Path) -> None:
    configured(tmp_path, GOOD, ABSENT)

    def completed(words: str, at: int) -> list[str]:
        done = run(
            tmp_path,
            options=("-c", "from aggregator.cli import main; main(prog_name='mcp-aggregator')"),
            _MCP_AGGREGATOR_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(at),
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert completed("mcp-aggregator st", 1) == ["status", "stdio"]
    assert completed("mcp-aggregator list -c c.json ", 4) == ["good", "absent"]
    assert completed("mcp-aggregator logout -c c.json a", 4) == ["absent"]
    assert completed("mcp-aggregator retry -c no-such-file ", 4) == []


def test_a_team_is_told_where_to_look(tmp_path: Path) -> None:
    team = {"auth": {"issuer": "https://idp.example.com"}, "upstreams": [{"name": "a", "url": "https://a.example.com"}]}
    (tmp_path / "c.json").write_text(json.dumps(team))
    done = run(tmp_path, "status", "-c", "c.json")
    assert done.returncode == 0
    assert done.stdout == "a\tconfigured\thttps://a.example.com (user)\n"
    assert "/connections" in done.stderr
    assert run(tmp_path, "login", "-c", "c.json").returncode == 78
