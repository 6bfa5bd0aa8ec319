"""Imports point one way, and `protocol/` touches nothing outside of itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "aggregator"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import of ours, itself included.
ROOMS = {
    "errors": {"errors"},
    "protocol": {"errors", "protocol"},
    "config": {"errors", "config"},
    "store": {"errors", "protocol", "config", "store"},
    "keys": {"errors", "protocol", "config", "store", "watched_files", "keys"},
    "upstream": {"errors", "protocol", "config", "store", "upstream"},
    "web": {"errors", "protocol", "config", "store", "upstream", "web"},
}
# What the rooms within a room may import of their siblings. What lies beside them is there for all of them, except what
# stands above.
WITHIN = {
    "web": {"mcp": set(), "oauth": set(), "people": {"oauth"}, "local": {"oauth", "people"}, "hypercorn": set()},
    "upstream": {
        "network": set(),
        "http": {"network"},
        "commands": set(),
        "accounts": set(),
        "oauth": {"network", "commands"},
        "identity": {"network"},
    },
}
ABOVE = {
    "web": {"app", "routes"},
    "upstream": set(
        "authorized client_documents kept_catalogs kinds listing listings locating members roster streams".split()
    ),
}
# No I/O, no tasks, no network. `random`, `os` and `secrets` make keys and ids: sealing needs them, nothing waits.
IMPURE = set(
    "trio anyio asyncio httpx2 httpcore2 h11 hypercorn starlette mcp sqlite3 asyncpg socket ssl subprocess threading "
    "selectors urllib.request http.client pathlib tempfile shutil io logging".split()
)
CLOCKS = {"time", "monotonic", "perf_counter", "time_ns", "now", "utcnow", "today"}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it is ours) of every import, also inside functions and ``if TYPE_CHECKING``."""
    package = ("aggregator", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name.split(".")[0] == "aggregator") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *filter(None, [node.module])))
            ours = name.split(".")[0] == "aggregator"
            if ours and name == "aggregator":
                yield from ((f"{name}.{alias.name}", True) for alias in node.names)
            else:
                yield name, ours


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_what_lies_below_it(file: Path) -> None:
    allowed = ROOMS.get(room_of(file))
    if allowed is None:
        return  # server, cli and demo stand above the rooms
    for name, ours in imported(file):
        if ours:
            parts = name.split(".")
            room = parts[1] if len(parts) > 1 else "the package itself"
            assert room in allowed or room == "__version__", f"{file.name} imports {name}"


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if room_of(file) in WITHIN and file.parent.parent.name == room_of(file)],
    ids=lambda file: file.relative_to(PACKAGE).as_posix(),
)
def test_a_room_within_a_room_imports_only_the_siblings_it_may(file: Path) -> None:
    outer, inner = room_of(file), file.parent.name
    barred = {*WITHIN[outer], *ABOVE[outer]} - WITHIN[outer][inner] - {inner}
    for name, ours in imported(file):
        if ours and name.startswith(f"aggregator.{outer}."):
            assert name.split(".")[2] not in barred, f"{file.name} imports {name}"


def test_every_room_within_a_room_has_its_rule() -> None:
    for outer, rules in WITHIN.items():
        assert {path.parent.name for path in (PACKAGE / outer).glob("*/__init__.py")} == set(rules)


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if room_of(file) == "protocol"],
    ids=lambda file: file.relative_to(PACKAGE).as_posix(),
)
def test_the_protocol_is_pure(file: Path) -> None:
    for name, ours in imported(file):
        assert ours or (name not in IMPURE and name.split(".")[0] not in IMPURE), f"{file.name} imports {name}"
    for node in ast.walk(ast.parse(file.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{file.name} waits for something"
        if isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            assert called not in CLOCKS, f"{file.name}:{node.lineno} asks a clock"
            bare = getattr(function, "id", "")
            assert bare not in {"open", "print", "input"}, f"{file.name}:{node.lineno} does I/O"


def test_nothing_below_the_demo_imports_it() -> None:
    for file in FILES:
        if room_of(file) in (*ROOMS, "server", "serving", "asgi"):
            assert not [name for name, ours in imported(file) if ours and name.startswith("aggregator.demo")], file


# One request, one upstream; and around the application what ends a process or a connection in good order.
BOUNDARIES = [
    "asgi.py",
    "cli/redaction.py",
    "upstream/commands/upstream.py",
    "upstream/listing.py",
    "web/app.py",
    "web/hypercorn/guard.py",
    "web/mcp/parking.py",
]


def test_exceptions_are_caught_wholesale_at_boundaries_only() -> None:
    found = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler):
                name = getattr(node.type, "id", None)
                swallows = name == "BaseException" and not any(isinstance(n, ast.Raise) for n in ast.walk(node))
                if node.type is None or name == "Exception" or swallows:
                    found.append(file.relative_to(PACKAGE).as_posix())
    assert sorted(found) == BOUNDARIES


def test_no_file_is_longer_than_its_reader_can_hold() -> None:
    assert [file.name for file in FILES if len(file.read_text().splitlines()) > 400] == []


def test_every_file_says_what_it_owns() -> None:
    silent = [file for file in FILES if file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))]
    assert silent == []
