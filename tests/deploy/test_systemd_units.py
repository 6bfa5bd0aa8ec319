"""The units of deploy/systemd: systemd has nothing to say against them, and they say what we do."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from aggregator.cli.loading import EX_CONFIG
from aggregator.config.model import AnyConfig
from aggregator.serving import HARD_DEADLINE_AFTER_DRAIN
from tests.parts.install import debian_program
from tests.parts.processes import PATIENCE

UNITS = Path(__file__).parent.parent.parent / "deploy" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read_string((UNITS / name).read_text())
    return parser


@pytest.mark.live
def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    analyze = debian_program("systemd-analyze", "systemd")
    program = tmp_path / ".local" / "bin" / "mcp-aggregator"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    for name in ("mcp-aggregator.service", "mcp-aggregator.socket"):
        shutil.copy(UNITS / name, tmp_path)
    done = subprocess.run(
        [
            analyze,
            "--user",
            "--man=no",
            "verify",
            tmp_path / "mcp-aggregator.service",
            tmp_path / "mcp-aggregator.socket",
        ],
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_stopped_as_the_program_stops_and_not_restarted_for_a_bad_configuration() -> None:
    service = unit("mcp-aggregator.service")["Service"]
    assert service["Type"] == "notify"
    assert service["RestartPreventExitStatus"] == str(EX_CONFIG)
    drain = AnyConfig(None, (), "").drain
    assert float(service["TimeoutStopSec"]) > drain + HARD_DEADLINE_AFTER_DRAIN
    assert service["ExecStart"].endswith("mcp-aggregator serve")


def test_the_socket_is_where_the_configuration_listens_without_a_word() -> None:
    socket = unit("mcp-aggregator.socket")["Socket"]
    assert socket["ListenStream"] == f"127.0.0.1:{AnyConfig(None, (), '').port}"
