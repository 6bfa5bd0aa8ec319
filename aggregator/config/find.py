"""Where the configuration is: which place is asked first, and what it holds.

This file owns the search order and reading; it must not know what the text means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, Problem

VARIABLE = "MCP_AGGREGATOR_CONFIG"
MAX_BYTES = 4 * 2**20  # a configuration of ten thousand upstreams has about one


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration's text and the name its reader knows it by."""

    name: str
    text: str


class NoConfig(ConfigError):
    """There is no configuration in any of `places`."""

    def __init__(self, places: tuple[str, ...]) -> None:
        listed = "".join(f"\n  {place}" for place in places)
        super().__init__(
            "no configuration", (Problem("", f"none found; 'mcp-aggregator' alone shows one. Searched:{listed}"),)
        )
        self.places = places


def find_source(explicit: str | None, *, environ: Mapping[str, str], cwd: Path) -> Source:
    """The configuration's text: `explicit`, else the variable (a path, or the text itself), else the first usual file.

    Raises:
        NoConfig: if there is none.
        ConfigError: if the one that was named does not exist or cannot be read.
    """
    if explicit is not None:
        return _read(explicit, cwd / explicit)
    if named := environ.get(VARIABLE, "").strip():
        return _from_variable(named, cwd)
    usual = tuple(_usual_files(environ, cwd))
    for shown, path in usual:
        if path.is_file():
            return _read(shown, path)
    raise NoConfig((f"{VARIABLE} (not set; a path, or the JSON itself)", *(shown for shown, _ in usual)))


def _from_variable(named: str, cwd: Path) -> Source:
    if named.startswith("{") or "\n" in named:
        return Source(VARIABLE, named)
    path = cwd / named
    if not os.path.exists(path):  # Path.exists raises for a name that is too long; this one says no
        if ": " in named:  # YAML on one line; nobody names a file so, and it may hold a secret: never echo it as a path
            return Source(VARIABLE, named)
        fault = f"{VARIABLE} names the file {named[:200]!r}, which does not exist; give a path, or the JSON itself"
        raise ConfigError(VARIABLE, (Problem("", fault),))
    return _read(named, path)


def _usual_files(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[str, Path]]:
    for name in ("mcp-aggregator.config.json", "mcp-aggregator.config.yaml", "mcpmux.yaml"):
        yield f"./{name}", cwd / name
    # XDG Base Directory 0.8: "If $XDG_CONFIG_HOME is either not set or empty, a default equal to $HOME/.config should
    # be used"; "All paths set in these environment variables must be absolute."
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        if not home:
            return
        base = os.path.join(home, ".config")
    for name in ("mcp-aggregator/config.yaml", "mcp-aggregator/config.json", "mcpmux/config.yaml", "mcpmux.yaml"):
        path = Path(base, name)
        yield str(path), path


def _read(name: str, path: Path) -> Source:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(name, (Problem("", "there is no such file"),)) from None
    except OSError as exc:
        raise ConfigError(name, (Problem("", f"cannot be read: {exc.strerror or exc}"),)) from exc
    if len(raw) > MAX_BYTES:
        raise ConfigError(name, (Problem("", f"is larger than {MAX_BYTES // 2**20} MiB; is it the right file?"),))
    try:
        return Source(name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(name, (Problem("", "is not UTF-8 here; save it as UTF-8", line),)) from exc
