"""The Dockerfile and its build context: linted, and in step with what they name."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from .dockerfile import DEPLOY, DOCKERFILE, ROOT, copied, entrypoint, healthcheck, instructions, parse_dockerfile


def test_hadolint_has_no_complaint() -> None:
    """And it does complain: about the same file with a user who is root."""
    hadolint = [str(Path(sys.executable).parent / "hadolint"), "--no-color"]
    done = subprocess.run([*hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout

    worse = DOCKERFILE.read_text().replace("USER 1000:1000", "USER root")
    done = subprocess.run([*hadolint, "-"], input=worse, capture_output=True, text=True, check=False)
    assert "DL3002" in done.stdout


def test_lines_that_go_on_are_one_instruction() -> None:
    text = "ARG X=1\nFROM ${X} AS a\n# c\nRUN one \\\n    # c\n    && two\nFROM b\nUSER 1"
    found = [(each.stage, each.keyword, each.value) for each in parse_dockerfile(text)]
    assert found == [
        (-1, "ARG", "X=1"),
        (0, "FROM", "${X} AS a"),
        (0, "RUN", "one      && two"),
        (1, "FROM", "b"),
        (1, "USER", "1"),
    ]


def test_the_context_lets_through_what_is_copied_and_nothing_else() -> None:
    """Docker reads Dockerfile.dockerignore beside the Dockerfile; a file deploy/.dockerignore would mean nothing."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == set(copied(stage=0))
    assert all((ROOT / name).exists() for name in copied(stage=0))
    assert copied(stage=1) == []


def test_the_image_runs_as_the_predecessors_did() -> None:
    """The same user, port, working directory and variable: its `docker run` lines go on working."""
    assert instructions("USER", stage=1) == ["1000:1000"]
    assert instructions("EXPOSE", stage=1) == ["3000"]
    assert instructions("WORKDIR", stage=1) == ["/app"]
    assert entrypoint() == ["mcp-aggregator"]
    assert instructions("CMD") == []
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_both_stages_stand_on_the_python_that_the_lock_was_made_for() -> None:
    (base,) = instructions("ARG", stage=-1)
    assert base == "PYTHON_IMAGE=python:3.11-slim"
    assert "with Python 3.11" in (DEPLOY / "requirements.txt").read_text()
    assert [value.split()[0] for value in instructions("FROM")] == ["${PYTHON_IMAGE}"] * 2


def test_the_labels_say_what_the_package_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"VERSION={project['version']}" in instructions("ARG", stage=1)
    (labels,) = instructions("LABEL")
    assert f'licenses="{project["license"]}"' in labels


def test_the_health_check_needs_neither_a_shell_nor_a_package() -> None:
    """-I and -S: nothing of the environment, no site-packages; it starts in 40 ms."""
    assert healthcheck()[:2] == ["python", "-ISc"]
    assert "curl" not in DOCKERFILE.read_text()
