"""`list`, by subprocess, over programs that are there, hang, or are not: nothing of it is served."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.parts.processes import PATIENCE

from .test_cli import run

pytestmark = pytest.mark.live

SERVER = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
PROGRAM = [sys.executable, "-I", "-S", SERVER]


def configured(folder: Path, *upstreams: dict[str, Any]) -> str:
    (folder / "c.json").write_text(json.dumps({"upstreams": list(upstreams)}))
    return "c.json"


GOOD = {"name": "good", "command": [*PROGRAM, "modern"]}
OLDER = {"name": "older", "command": [*PROGRAM, "older"]}
HANGS = {"name": "hangs", "command": [sys.executable, "-c", "import time; time.sleep(600)"]}
ABSENT = {"name": "absent", "url": "http://127.0.0.1:9/mcp", "auth": {"type": "none"}}


def test_everything_is_listed_in_columns_for_programs(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "-c", configured(tmp_path, GOOD, OLDER))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["good__echo", "tool", "good", "good__echo()"] in rows
    assert ["older__echo", "tool", "older", "older__echo()"] in rows


def test_one_upstream_alone_can_be_asked(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "good", "-c", configured(tmp_path, GOOD, HANGS))
    assert done.returncode == 0
    assert {line.split("\t")[2] for line in done.stdout.splitlines()} == {"good"}
    done = run(tmp_path, "list", "godo", "-c", "c.json")
    assert done.returncode == 2
    assert "Did you mean 'good'?" in done.stderr


def test_what_answered_is_printed_and_what_did_not_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "--timeout", "6", "-c", configured(tmp_path, HANGS, GOOD, ABSENT))
    assert done.returncode == 69
    assert "good__echo" in done.stdout
    again = "to wait longer: mcp-aggregator list hangs -c c.json --timeout 30"
    assert f"hangs: no answer within 6 s; {again}\n" in done.stderr
    assert "absent: cannot connect" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_program_that_ends_is_shown_with_its_last_words(tmp_path: Path) -> None:
    crashes = {"name": "crashes", "command": ["/bin/sh", "-c", r"echo 'no \033[31mAPI key' >&2; exit 3"]}
    done = run(tmp_path, "list", "-c", configured(tmp_path, crashes))
    assert done.returncode == 69
    assert done.stderr.splitlines()[0] == "crashes: its command ended with exit code 3 before it answered"
    assert "    no  [31mAPI key" in done.stderr.splitlines()
    assert "started again" not in done.stderr


def test_a_program_that_is_not_there_is_shown_as_nothing_to_wait_for(tmp_path: Path) -> None:
    missing = {"name": "missing", "command": ["no-such-program"]}
    done = run(tmp_path, "list", "-c", configured(tmp_path, missing))
    assert done.returncode == 69
    assert "there is no such program on the PATH; install it, or name its whole path\n" in done.stderr
    assert "started again" not in done.stderr


def test_machines_get_the_items_as_they_came_with_their_upstream(tmp_path: Path) -> None:
    ends = {"name": "ends", "command": ["/bin/sh", "-c", "echo 'no key' >&2; exit 3"]}
    done = run(tmp_path, "list", "--json", "--timeout", "60", "-c", configured(tmp_path, GOOD, ABSENT, ends))
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (69, "")
    good, absent, ended = told["upstreams"]
    assert (good["name"], good["state"]) == ("good", "answered")
    assert (absent["name"], absent["state"]) == ("absent", "unreachable")
    assert absent["fix"] == "mcp-aggregator list absent -c c.json"
    assert (ended["error"], ended["stderr"]) == (
        "its command ended with exit code 3 before it answered",
        ["no key"],
    )
    echo = next(tool for tool in told["tools"] if tool["name"] == "good__echo")
    assert echo["upstream"] == "good"
    assert "inputSchema" in echo


def test_a_terminal_shows_who_is_waited_for_and_takes_it_away_again(tmp_path: Path) -> None:
    config = configured(tmp_path, GOOD, HANGS)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aggregator", "list", "-c", config, "--timeout", "6"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # EIO: the other side has gone
    os.close(master)
    assert process.wait(timeout=PATIENCE) == 69
    text = shown.decode()
    assert "connecting 0/2, waiting for good, hangs" in text
    assert "connecting 1/2, waiting for hangs\r\x1b[2K" in text
    assert "\x1b[1mgood\x1b[0m" in text
    assert text.endswith(" --timeout 30\x1b[0m\r\nending the programs that were started\r\x1b[2K")


def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path) -> None:
    config = configured(tmp_path, GOOD, OLDER)
    with subprocess.Popen(
        [sys.executable, "-m", "aggregator", "list", "-c", config],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=PATIENCE) == 1


def test_an_interrupt_is_no_fault(tmp_path: Path) -> None:
    config = configured(tmp_path, GOOD, HANGS)
    with subprocess.Popen(
        [sys.executable, "-m", "aggregator", "list", "--timeout", "3600", "-c", config],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("good__")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told.strip()) == (1, "Aborted!")


def test_a_url_that_is_no_endpoint_is_told_so(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # 501 for whatever is asked
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done = run(tmp_path, "list", "--endpoint", f"http://127.0.0.1:{server.server_address[1]}/")
        server.shutdown()
        thread.join(5)
    assert done.returncode == 69
    assert "HTTP 501" in done.stderr
    assert "is this the URL of an MCP endpoint? They mostly end in /mcp" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--endpoint", "http://127.0.0.1:9/mcp", "good"), ("--endpoint", "htp://x"), ("--timeout", "0")]
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run(tmp_path, "list", *arguments).returncode == 2
