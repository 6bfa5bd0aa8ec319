"""Loading a text in a test, without files, an environment or a working directory of the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aggregator.config.load import Loaded, parse_config
from aggregator.errors import ConfigError, Problem

EXAMPLES = Path(__file__).parent / "examples"
KEY = "dGhpcyBpcyBub3QgYSByZWFsIGtleSwgYnV0IGxvbmc"  # 32 bytes in base64url


def load(text: str, environ: Mapping[str, str] | None = None, cwd: Path = Path("/nonexistent")) -> Loaded:
    return parse_config(text, source="config.yaml", environ=environ or {}, cwd=cwd)


def problems_of(
    text: str, environ: Mapping[str, str] | None = None, cwd: Path = Path("/nonexistent")
) -> tuple[Problem, ...]:
    """What is wrong with `text`; nothing if it loads."""
    try:
        load(text, environ, cwd)
    except ConfigError as exc:
        return exc.problems
    return ()


def minimal(**changes: Any) -> dict[str, Any]:
    """The smallest good file, as its JSON object, with `changes` at the top."""
    return {
        "auth": {"issuer": "https://idp.example.com"},
        "upstreams": [{"name": "gmail", "url": "https://gmail.example.com/mcp"}],
        "secret": KEY,
        **changes,
    }


def with_upstream(**changes: Any) -> str:
    return json.dumps(minimal(upstreams=[{**minimal()["upstreams"][0], **changes}]))


def with_auth(**changes: Any) -> str:
    return json.dumps(minimal(auth={**minimal()["auth"], **changes}))


def with_top(**changes: Any) -> str:
    return json.dumps(minimal(**changes))
