"""A configuration text as plain values, and where each of them stands.

One reader for YAML and JSON (JSON is YAML). It owns YAML's rules, the positions
and the problems of form: broken syntax, duplicate keys, tags, aliases. It must
not know any key of ours, nor files, nor the environment.

PyYAML's own constructor is not used: it reads YAML 1.1 (``no`` is False,
``1:30`` is 90, ``012`` is 10), takes duplicate keys silently, and its C composer
crashes the process on deep nesting. We build from the parser's events instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..errors import Problem

Path = tuple[str | int, ...]

MAX_DEPTH = 32  # five levels are in use; beyond this it is an accident or an attack
MAX_VALUES = 100_000  # aliases counted as often as they stand: the "billion laughs" end here
MAX_DIGITS = 18  # longer ones stay text: an account number, not a count

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_CONSTANTS: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")

# libyaml also reads JSON indented with tabs, which the parser in Python refuses; a source build may lack it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: line and column, both from 1, of its key (or itself) and of the value, and its extent."""

    key: tuple[int, int]
    value: tuple[int, int]
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says. Positions and spans count in `text`; `scalars` are the paths of texts, numbers and constants.

    `faulty` are the paths whose value is a stopgap for one that could not be read. `root` is meaningless when `broken`.
    """

    text: str
    root: Any
    places: Mapping[Path, Place]
    problems: tuple[Problem, ...]
    scalars: frozenset[Path] = frozenset()
    faulty: frozenset[Path] = frozenset()
    broken: bool = False

    def place(self, path: Path) -> Place | None:
        """The place of `path`, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if found := self.places.get(path[:length]):
                return found
        return None

    def problem(self, path: Path, message: str, *, at_key: bool = False, suggestion: str | None = None) -> Problem:
        """A problem with its position filled in."""
        place = self.place(path)
        line, column = (None, None) if place is None else place.key if at_key else place.value
        return Problem(render_path(path), message, line, column, suggestion)


def render_path(path: Path) -> str:
    """``upstreams[2].url``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$-]*", step, re.ASCII):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step[:60], ensure_ascii=True)}]"
    return text


def parse_document(text: str) -> Document:
    """Read `text`; whatever is wrong with its form is in the result's `problems`."""
    if _looks_like_json(text):
        # JSON writes characters beyond U+FFFF as two escapes (RFC 8259 7); YAML knows \U instead.
        text = _SURROGATES.sub(_join_surrogates, text)
    builder = _Builder(text)
    try:
        root = builder.read()
    except yaml.MarkedYAMLError as exc:
        return _broken(text, _syntax_problem(text, exc))
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        column = exc.position - (text.rfind("\n", 0, exc.position) + 1) + 1
        return _broken(
            text, Problem("", f"a control character ({exc.character:#04x}) stands here; remove it", line, column)
        )
    except _Unreadable as exc:
        return _broken(text, Problem("", str(exc), *exc.position))
    return Document(
        text, root, builder.places, tuple(builder.problems), frozenset(builder.scalars), frozenset(builder.faulty)
    )


def _broken(text: str, problem: Problem) -> Document:
    return Document(text, None, {}, (problem,), broken=True)


def _syntax_problem(text: str, exc: yaml.MarkedYAMLError) -> Problem:
    if _looks_like_json(text):
        # Whoever writes JSON should hear of JSON: "Expecting ',' delimiter", not "while parsing a flow mapping".
        try:
            json.loads(text)
        except json.JSONDecodeError as better:
            return Problem("", f"not valid JSON: {better.msg}", better.lineno, better.colno)
        except RecursionError:
            pass
    mark = exc.problem_mark or exc.context_mark
    if mark and _character_at(text, mark) == "\t":
        return Problem("", "a tab stands here; YAML is indented with spaces", mark.line + 1, mark.column + 1)
    if mark and text[mark.index - 1 : mark.index + 1] == "${":
        told = 'inside [ ] and { } a variable needs quotes: "${NAME}"'
        return Problem("", f"not valid YAML: {told}", mark.line + 1, mark.column)
    message = ": ".join(part for part in (exc.context, exc.problem) if part)
    # A name in the message (an alias, a tag) may be a secret that was not quoted.
    message = re.sub(r"'[^']*'", lambda quoted: quoted[0] if len(quoted[0]) <= 3 else "'...'", message)
    return Problem("", f"not valid YAML: {message}", *((mark.line + 1, mark.column + 1) if mark else (None, None)))


class _Unreadable(Exception):
    def __init__(self, message: str, position: tuple[int, int]) -> None:
        super().__init__(message)
        self.position = position


@dataclass(slots=True)
class _Anchored:
    value: Any = None
    size: int = 0
    complete: bool = False


@dataclass(slots=True)
class _Builder:
    """Builds values from events. A problem of form leaves a harmless value in place and goes on."""

    text: str
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    scalars: set[Path] = field(default_factory=set)
    faulty: set[Path] = field(default_factory=set)
    _anchors: dict[str, _Anchored] = field(default_factory=dict)
    _size: int = 0

    def read(self) -> Any:
        events: Iterator[Any] = yaml.parse(self.text, Loader=_Loader)
        root: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Unreadable("a second document begins here; one file holds one configuration", _at(event))
                root = self._value(next(events), events, ())
        return root

    def _value(self, event: Any, events: Iterator[Any], path: Path, key: tuple[int, int] | None = None) -> Any:
        position = _at(event)
        span = (event.start_mark.index, event.end_mark.index)
        self.places[path] = Place(key or position, position, span)
        self._count(1, position)
        if len(path) > MAX_DEPTH:
            raise _Unreadable(f"nested deeper than {MAX_DEPTH} levels", position)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        anchored = _Anchored()
        if event.anchor is not None:
            self._anchors[event.anchor] = anchored
        before = self._size
        match event:
            case yaml.ScalarEvent():
                anchored.value = self._scalar(event, path)
            case yaml.SequenceStartEvent():
                self._check_tag(event, path, "tag:yaml.org,2002:seq")
                anchored.value = self._list(events, path)
            case _:
                self._check_tag(event, path, "tag:yaml.org,2002:map")
                anchored.value = self._mapping(events, path)
        anchored.size = self._size - before + 1
        anchored.complete = True
        return anchored.value

    def _list(self, events: Iterator[Any], path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(event, events, (*path, len(items))))
        return items

    def _mapping(self, events: Iterator[Any], path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            position = _at(event)
            if not isinstance(event, yaml.ScalarEvent):
                # The rest of this mapping cannot be told apart from its keys without reading them: stop here.
                raise _Unreadable("a key is a plain text; this is none", position)
            name = event.value
            step: str = name
            if name in first:
                self.problems.append(
                    Problem(render_path((*path, name)), f"stands twice; it is on line {first[name]} already", *position)
                )
                step = f"{name} (again)"  # read, so that the events stay in step, but kept out of the way
            value = self._value(next(events), events, (*path, step), position)
            if step == name:
                first[name] = position[0]
                items[name] = value
        return items

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        self.scalars.add(path)
        if not event.implicit[0]:  # quoted, or with a tag
            if event.tag not in _TEXT_TAGS:
                self._refuse_tag(path)
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text) if len(text) <= MAX_DIGITS else text
        return float(text) if _NUMBER.fullmatch(text) else text

    def _alias(self, event: Any, path: Path) -> Any:
        anchored = self._anchors.get(event.anchor)
        if anchored is None or not anchored.complete:
            fault = "an alias (*) of an anchor (&) that does not stand above it; quote the text if it is none"
            self.problems.append(self._here(path, fault))
            return None
        self._count(anchored.size, _at(event))
        return anchored.value

    def _check_tag(self, event: Any, path: Path, own: str) -> None:
        if event.tag not in (None, "!", own):
            self._refuse_tag(path)

    def _refuse_tag(self, path: Path) -> None:
        self.problems.append(
            self._here(path, "a YAML tag (!...) has no meaning here; remove it, or quote the text if it is none")
        )

    def _here(self, path: Path, message: str) -> Problem:
        self.faulty.add(path)
        return Problem(render_path(path), message, *self.places[path].value)

    def _count(self, values: int, position: tuple[int, int]) -> None:
        self._size += values
        if self._size > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES} values, aliases counted each time", position)


def _character_at(text: str, mark: Any) -> str:
    return text[mark.index : mark.index + 1]


def _looks_like_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _join_surrogates(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return f"{found[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
