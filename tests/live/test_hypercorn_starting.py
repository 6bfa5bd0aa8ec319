"""Starts that fail say why, and a process that cannot serve does not stay."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.parts.processes import PATIENCE

from .starting import COMMAND, Running, launch

pytestmark = pytest.mark.live


def outcome(*args: str, **environment: str) -> tuple[int, str]:
    process = launch(*args, **environment)
    try:
        _, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, stderr


def test_serve_names_the_port_that_is_taken_and_exits_75() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stderr = outcome("-m", "tests.live.probe", "serve", PROBE_PORT=str(port))
    assert code == 75
    assert f"error: port {port} of 127.0.0.1 is in use" in stderr
    assert "Traceback" not in stderr


def test_under_hypercorn_a_failed_start_ends_the_process_with_its_cause() -> None:
    code, stderr = outcome(*COMMAND, "tests.live.probe:make_command()", PROBE_BROKEN="1")
    assert code == 1
    assert "the store is gone" in stderr


def test_the_asyncio_worker_is_refused_with_the_flag_that_is_missing() -> None:
    code, stderr = outcome("-m", "hypercorn", "-w", "0", "-b", "127.0.0.1:0", "tests.live.probe:make_command()")
    assert code == 1
    assert "add -k trio" in stderr


def test_a_worker_process_says_once_that_it_cannot_drain() -> None:
    code, stderr = outcome(
        "-m",
        "hypercorn",
        "-k",
        "trio",
        "-w",
        "1",
        "-b",
        "127.0.0.1:0",
        "tests.live.probe:make_command()",
        PROBE_STOP="1",
    )
    assert code == 0
    assert stderr.count("use -w 0 to drain") == 1


def test_under_hypercorn_a_wrong_configuration_is_told_as_the_command_line_does() -> None:
    wrong = '{"auth": {"issuer": "htp://x"}, "upstreams": [{"name": "a", "url": "nowhere"}]}'
    code, stderr = outcome(*COMMAND, "aggregator.asgi:app", MCP_AGGREGATOR_CONFIG=wrong)
    assert code == 1
    for path in ("auth.issuer", "upstreams[0].url"):
        assert path in stderr
    said = stderr.partition("Traceback")[0]
    process = launch("-m", "aggregator", "check", MCP_AGGREGATOR_CONFIG=wrong)
    assert process.communicate()[1] in said


def test_under_hypercorn_the_configured_aggregator_is_served() -> None:
    good = '{"auth": {"issuer": "http://127.0.0.1:9"}, "upstreams": [{"name": "a", "url": "http://127.0.0.1:9/mcp"}]}'
    process = launch(*COMMAND, "aggregator.asgi:app", MCP_AGGREGATOR_CONFIG=good)
    try:
        running = Running(process)
        assert (
            running.ask(b"GET /healthz HTTP/1.1\r\nhost: localhost:3000\r\nconnection: close\r\n\r\n")[9:12] == b"200"
        )
        running.signal(signal.SIGTERM)
        assert running.wait_exit() == 0
    finally:
        process.kill()
        process.communicate()


def test_under_hypercorn_one_persons_server_needs_a_token_since_nobody_knows_who_reaches_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("upstreams: [{name: a, command: [cat]}]\nstorage: memory\n")
    command = (*COMMAND, "-b", "127.0.0.1:0", "aggregator.asgi:app")
    code, stderr = outcome(*command, MCP_AGGREGATOR_CONFIG=str(file))
    assert code == 1
    assert "listen.token: is needed where Hypercorn listens, and not we" in stderr
