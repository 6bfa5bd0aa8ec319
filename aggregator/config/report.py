"""Problems as text for a terminal: place, path, words, the line and a caret.

Pure. It must not know how a problem was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import Problem

WIDTH = 100  # of an excerpt: a configuration in an environment variable is one long line


def render_problems(source: str, problems: Iterable[Problem], text: str = "", *, kind: str = "") -> str:
    """One paragraph per problem, each ended by a line break. `text` is the masked source; without it, no excerpts."""
    lines = text.splitlines() if text else []
    return "".join(_paragraph(source, problem, lines, kind) for problem in problems)


def problem_record(source: str, problem: Problem) -> dict[str, Any]:
    """A problem for machines."""
    return {
        "file": source,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "suggestion": problem.suggestion,
    }


def _paragraph(source: str, problem: Problem, lines: list[str], kind: str) -> str:
    place = ":".join(str(part) for part in (source, problem.line, problem.column) if part is not None)
    words = ": ".join(part for part in (place, kind, problem.path, problem.message) if part)
    meant = f"; did you mean '{problem.suggestion}'?" if problem.suggestion else ""
    return "".join([words, meant, "\n", *_excerpt(problem, lines)])


def _excerpt(problem: Problem, lines: list[str]) -> Iterator[str]:
    if problem.line is None or problem.column is None or problem.line > len(lines):
        return
    line = "".join(c if c.isprintable() else " " for c in lines[problem.line - 1])
    start = max(0, min(problem.column - 1 - WIDTH // 2, len(line) - WIDTH))
    before, after = "..." if start else "", "..." if start + WIDTH < len(line) else ""
    yield f"{problem.line:>5} | {before}{line[start : start + WIDTH]}{after}\n"
    yield f"      | {' ' * (len(before) + problem.column - 1 - start)}^\n"
