"""The Dockerfile as values. Knows its syntax as far as ours uses it, and runs nothing."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `stage` counts from 0, and what stands before the first FROM belongs to -1."""

    stage: int
    keyword: str
    value: str


def parse_dockerfile(text: str) -> list[Instruction]:
    """Every instruction in order, continued lines joined as a shell would see them."""
    found: list[Instruction] = []
    stage, pending = -1, ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        keyword, _, value = pending.strip().partition(" ")
        pending = ""
        stage += keyword == "FROM"
        found.append(Instruction(stage, keyword, value.strip()))
    return found


def instructions(keyword: str, stage: int | None = None) -> list[str]:
    """The values of all `keyword` instructions of our Dockerfile, of one stage or of all."""
    parsed = parse_dockerfile(DOCKERFILE.read_text())
    return [each.value for each in parsed if each.keyword == keyword and stage in (None, each.stage)]


def environment(stage: int) -> dict[str, str]:
    """What ENV sets in one stage."""
    pairs = [pair.partition("=") for value in instructions("ENV", stage) for pair in shlex.split(value)]
    return {name: value for name, _, value in pairs}


def copied(stage: int) -> list[str]:
    """What COPY takes from the build context in one stage."""
    commands = [shlex.split(value) for value in instructions("COPY", stage)]
    return [source for words in commands if not words[0].startswith("--from") for source in words[:-1]]


def entrypoint() -> list[str]:
    return _command(instructions("ENTRYPOINT")[0])


def healthcheck() -> list[str]:
    """The probe's command, without its flags."""
    return _command(instructions("HEALTHCHECK")[0].partition(" CMD ")[2])


def _command(text: str) -> list[str]:
    words: Any = json.loads(text)  # the form without a shell, which our image must not need
    return [str(word) for word in words]
