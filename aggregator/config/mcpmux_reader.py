"""A file of mcpmux, key by key: every problem and every oddity is collected, with its place in the file as written.

The text was expanded before it was parsed, so places and excerpts are led back to the source here. This file must
not know which keys there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..errors import Problem
from .document import Document, Path, parse_document
from .expand import Expanded
from .go import Expansion, expand, parse_go_boolean, parse_go_duration
from .scalars import Wrong, nearest, show

T = TypeVar("T")


@dataclass(slots=True)
class Reader:
    """The document, and what is said about it."""

    expansion: Expansion
    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def refuse(self, path: Path, wrong: Wrong | str, *, at_key: bool = False) -> None:
        if any(path == other[: len(path)] for other in self.document.faulty):
            return  # told already
        suggestion = wrong.suggestion if isinstance(wrong, Wrong) else None
        self.problems.append(
            self._at_home(self.document.problem(path, str(wrong), at_key=at_key, suggestion=suggestion))
        )

    def warn(self, path: Path, message: str, *, at_key: bool = False, suggestion: str | None = None) -> None:
        self.warnings.append(self._at_home(self.document.problem(path, message, at_key=at_key, suggestion=suggestion)))

    def warn_at(self, position: int, message: str) -> None:
        """A warning at a position of the source."""
        self.warnings.append(Problem("", message, *self._line_and_column(position)))

    def value(self, path: Path, value: Any) -> Any:
        """`value` as our parsers take it: a text that a variable is part of knows how it is written."""
        place = self.document.places.get(path)
        if not isinstance(value, str) or place is None:
            return value
        written = self.expansion.written(*place.span)
        return value if written is None else Expanded(value, written.strip().strip("'\""))

    def written(self, path: Path, value: Any) -> str:
        """A number or a constant as it is written: Go reads each as a text where it wants one."""
        place = self.document.places.get(path)
        return str(value) if place is None else self.document.text[slice(*place.span)].strip()

    def _at_home(self, problem: Problem) -> Problem:
        if problem.line is None:
            return problem
        lines = self.document.text.split("\n")
        index = sum(len(line) + 1 for line in lines[: problem.line - 1]) + (problem.column or 1) - 1
        line, column = self._line_and_column(self.expansion.origin(index))
        return replace(problem, line=line, column=None if problem.column is None else column)

    def _line_and_column(self, position: int) -> tuple[int, int]:
        before = self.expansion.source[:position]
        return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def open_reader(source: str, environ: Mapping[str, str]) -> Reader:
    """`source`, expanded and parsed. Whatever is wrong with its form is among the problems."""
    expansion = expand(source, environ)
    reader = Reader(expansion, parse_document(expansion.text))
    reader.problems += [reader._at_home(problem) for problem in reader.document.problems]
    return reader


class Node:
    """A mapping of the file. What is absent, has no value or is an empty text is its default, as Go has it."""

    def __init__(self, reader: Reader, path: Path, value: Any, known: Iterable[str]) -> None:
        self.reader = reader
        self.path = path
        self._items: dict[str, Any] = {}
        if isinstance(value, dict):
            self._items = {key: item for key, item in value.items() if item is not None}
        elif value is not None:
            reader.refuse(path, f"{_kind(value)} is not a mapping of keys")
        known = tuple(known)
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                told = "is not a known key and does nothing"
                reader.warn((*path, key), told, at_key=True, suggestion=nearest(key, known))

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Any:
        return iter(self._items)

    def child(self, key: str, known: Iterable[str]) -> Node:
        return Node(self.reader, (*self.path, key), self._items.get(key), known)

    def open_child(self, key: str) -> Node:
        """A mapping in which every key is known."""
        value = self._items.get(key)
        return Node(self.reader, (*self.path, key), value, value if isinstance(value, dict) else ())

    def items(self, key: str) -> list[Any]:
        """A list, of whatever."""
        value = self._items.get(key, [])
        if isinstance(value, list):
            return value
        self.reader.refuse((*self.path, key), f"{_kind(value)} is not a list")
        return []

    def text(self, key: str, default: str = "") -> str:
        path = (*self.path, key)
        return (self._text(path, self._items[key]) if key in self else "") or default

    def texts(self, key: str) -> tuple[str, ...]:
        path = (*self.path, key)
        return tuple(self._text((*path, number), item) for number, item in enumerate(self.items(key)))

    def boolean(self, key: str, default: bool) -> bool:
        return self.parsed(key, parse_go_boolean, default)

    def duration(self, key: str, default: float) -> float:
        text = self.text(key)
        return self._parsed((*self.path, key), parse_go_duration, text, default) if text else default

    def parsed(self, key: str, parse: Callable[[Any], T], default: T) -> T:
        """The value of `key` as `parse` takes it; `default` if it is absent, or refused and told."""
        path = (*self.path, key)
        return self._parsed(path, parse, self.reader.value(path, self._items[key]), default) if key in self else default

    def refuse(self, key: str, wrong: Wrong | str, *, at_key: bool = False) -> None:
        self.reader.refuse((*self.path, key), wrong, at_key=at_key)

    def warn(self, key: str, message: str, *, at_key: bool = False) -> None:
        self.reader.warn((*self.path, key), message, at_key=at_key)

    def _parsed(self, path: Path, parse: Callable[[Any], T], value: Any, default: T) -> T:
        try:
            return parse(value)
        except Wrong as exc:
            self.reader.refuse(path, exc)
            return default

    def _text(self, path: Path, value: Any) -> str:
        match value:
            case str():
                text: str = self.reader.value(path, value)
                return text
            case bool() | int() | float():
                return self.reader.written(path, value)
            case None:
                return ""
        self.reader.refuse(path, f"{show(value)} is not a text")
        return ""


def _kind(value: Any) -> str:
    """What `value` is. A text is not quoted: of a wrong kind, it may as well be a secret."""
    return "a text" if isinstance(value, str) else show(value)
