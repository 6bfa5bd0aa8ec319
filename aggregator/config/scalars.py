"""Texts and numbers of the file as values: one function per kind, each saying what it expected.

All are pure. They raise `Wrong`, whose text follows the path of the value in the
report. This file must not know which keys use which kind.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from .expand import Expanded

MAX_MILLISECONDS = 24 * 3600 * 1000  # a day; beyond it somebody meant seconds
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_LOOSE_SIZE = re.compile(r"([0-9]{1,12}) ?([kmg])i?b?", re.ASCII | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Wrong(ValueError):
    """A value that cannot be used: what it is, what was expected, and perhaps what was meant.

    `item` is the number of the item that is meant, where the value is a list. With `at_key` the key is what is wrong.
    """

    at_key = False

    def __init__(self, message: str, suggestion: str | None = None, *, item: int | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion
        self.item = item


class NotYet(Wrong):
    """A key or value of the vocabulary whose feature does not exist yet."""

    at_key = True


class Misplaced(Wrong):
    """A key that has no business where it stands."""

    at_key = True


def show(value: Any, *, limit: int = 60) -> str:
    """A value as the report quotes it: on one line, short, and as the file writes it when the environment filled it."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            text = value.written if isinstance(value, Expanded) else value
            text = json.dumps(text if len(text) <= limit else text[: limit - 3] + "...", ensure_ascii=False)[1:-1]
            return f"'{_CONTROL.sub('?', text)}'"
        case _:
            return json.dumps(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: spelled in another style, else within difflib's usual distance."""
    plain = {_plain(each): each for each in known}
    if (match := plain.get(_plain(word))) is not None:
        return match
    close = difflib.get_close_matches(_plain(word), plain, n=1)
    return plain[close[0]] if close else None


def _plain(word: str) -> str:
    return re.sub(r"[_-]", "", word).casefold()


def parse_text(value: Any) -> str:
    """A text that is not empty and has no control characters."""
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
        raise Wrong(f"{show(value)} is not a text{hint}")
    if not value.strip():
        raise Wrong("an empty text; give a value or remove the key")
    if _CONTROL.search(value):
        raise Wrong(f"{show(value)} holds a line break or another control character; remove it")
    return str(value)


def parse_boolean(value: Any) -> bool:
    """true or false; from the environment also as a text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Expanded) and value.strip().casefold() in ("true", "false"):
        return value.strip().casefold() == "true"
    meant = {"yes": "true", "on": "true", "no": "false", "off": "false", "true": "true", "false": "false"}
    suggestion = meant.get(value.strip().casefold()) if isinstance(value, str) else None
    raise Wrong(f"{show(value)} is neither true nor false{_filled(value)}", suggestion)


def is_true(value: Any) -> bool:
    """Whether `value` would be parsed as true; what is no boolean is not."""
    try:
        return parse_boolean(value)
    except Wrong:
        return False


def parse_duration(value: Any) -> float:
    """``250ms``, ``30s``, ``15m``, ``2h``, ``7d``: seconds, more than none."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        suggestion = f"{value}s" if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
        raise Wrong(f"{show(value)} is not a duration{_filled(value)}; write one like '30s', '15m' or '7d'", suggestion)
    seconds = int(found[1]) * UNITS[found[2]]
    if not seconds:
        raise Wrong(f"{show(value)} is no time at all; give at least '1ms'")
    return seconds


def parse_milliseconds(value: Any) -> float:
    """A whole number of milliseconds, as the two timeouts of the predecessor have it; seconds come out."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) and not isinstance(value, Expanded) else None
    if found:
        meant = str(round(int(found[1]) * UNITS[found[2]] * 1000))
        raise Wrong(f"{show(value)} is not a number of milliseconds", meant)
    return _whole(value, 1, MAX_MILLISECONDS, "number of milliseconds") / 1000


def parse_size(value: Any) -> int:
    """``64KiB``, ``4MiB``: bytes."""
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        loose = _LOOSE_SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        suggestion = f"{loose[1]}{loose[2].upper()}iB" if loose else None
        raise Wrong(f"{show(value)} is not a size{_filled(value)}; write one like '512KiB' or '4MiB'", suggestion)
    size = int(found[1]) * SIZES[found[2]]
    if not 2**10 <= size <= 2**30:
        raise Wrong(f"{show(value)} is out of range; expected '1KiB' to '1GiB'")
    return size


def whole(minimum: int, maximum: int, what: str = "whole number") -> Callable[[Any], int]:
    """A parser of whole numbers from `minimum` to `maximum`."""
    return lambda value: _whole(value, minimum, maximum, what)


def _whole(value: Any, minimum: int, maximum: int, what: str) -> int:
    number: Any = value
    if isinstance(value, Expanded) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip(), re.ASCII):
        number = int(value)
    elif isinstance(value, float) and value.is_integer():
        number = int(value)  # 5000.0 is a whole number in JSON (RFC 8259 6 knows one kind of number)
    if isinstance(number, bool) or not isinstance(number, int) or not minimum <= number <= maximum:
        expected = f"expected a whole number from {minimum} to {maximum}"
        if isinstance(value, str) and not isinstance(value, Expanded) and value.strip().isdecimal():
            raise Wrong(f"{show(value)} is a text; write the number without quotes")
        raise Wrong(f"{show(value)} is not a {what}{_filled(value)}; {expected}")
    return number


def _filled(value: Any) -> str:
    """What the environment made of a number or a word. Texts in general are not shown so: they may hold a secret."""
    return " once filled from the environment" if isinstance(value, Expanded) else ""
