"""The documents point at things that exist, and every room of the house stands in the tour."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_named_in_code_marks_exists(document: Path) -> None:
    named = re.findall(r"`((?:aggregator|tests|deploy|docs)/[\w./-]+\.\w+)`", document.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tour_names_every_room_and_every_file_of_the_relay() -> None:
    tour = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "aggregator").iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    assert [room for room in rooms if f"`{room}/`" not in tour] == []
    for room in ("upstream", "store"):
        files = [path.stem for path in (ROOT / "aggregator" / room).rglob("*.py") if path.stem != "__init__"]
        assert [name for name in files if f"`{name}`" not in tour and f"/{name}.py`" not in tour] == []


def test_every_decision_is_dated() -> None:
    for note in (ROOT / "docs" / "decisions").glob("*.md"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-[a-z0-9-]+\.md", note.name)


def test_the_readme_gives_the_two_commands_and_ci_runs_the_second() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "mcp-aggregator demo\n```" in readme
    assert "```sh\n./tests/run\n```" in readme
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == 'exec "$(dirname "$0")/../tests/run"'
