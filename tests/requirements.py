"""Which test shows which security requirement: `python -m tests.requirements` prints the list.

The requirements stand in docs/security-requirements.md; the tests name them by
``@pytest.mark.requirement``. Reads files only.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "security-requirements.md"


@dataclass(frozen=True, slots=True)
class Requirement:
    id: str
    section: str
    claimed: bool


def requirements(text: str) -> tuple[Requirement, ...]:
    """Every requirement of the document, in order."""
    found: list[Requirement] = []
    section, claimed = "", False
    for line in text.splitlines():
        if match := re.match(r"Section (\d\.\d), (claimed|not yet claimed)\.", line):
            section, claimed = match[1], match[2] == "claimed"
        elif match := re.match(r"\| ([A-Z]{2}\d+) \|", line):
            found.append(Requirement(match[1], section, claimed))
    return tuple(found)


def marked_tests() -> dict[str, list[str]]:
    """The tests by the ids that they are marked with, on themselves, their class or their module's `pytestmark`."""
    tests: dict[str, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        name = file.relative_to(TESTS).as_posix()
        for id, test in _marks(ast.parse(file.read_text())):
            tests[id].append(f"{name}::{test}")
    return tests


def _marks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                yield from ((id, node.name) for id in _ids(decorator))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                name = getattr(target, "id", "")
                if name == "pytestmark" or name.startswith("Test"):  # the latter: a state machine's test case
                    yield from ((id, "*" if name == "pytestmark" else name) for id in _ids(node.value))


def _ids(node: ast.expr) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "requirement":
            yield from (arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def main() -> None:
    tests = marked_tests()
    for requirement in requirements(DOCUMENT.read_text()):
        shown = tests.get(requirement.id) or ["MISSING" if requirement.claimed else "(not yet claimed)"]
        print(
            f"{requirement.id:6} {shown[0]}", *(f"       {test}" for test in shown[1:]), sep="\n" if shown[1:] else ""
        )


if __name__ == "__main__":
    main()
