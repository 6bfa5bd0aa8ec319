"""What files of mcpmux have from Go: how their text is expanded, and how durations and booleans are written.

The rules are Go's, with their traps: expansion works on the raw text, comments included, and what is not set
becomes empty. Pure. This file must not know which keys there are.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .scalars import Wrong, show

# os.Expand: "${var} or $var"; a special shell variable is one character; "${}" and a lone "${" are eaten; a "$"
# before anything else stays.
_DOLLAR = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?0-9-])|([A-Za-z0-9_]+))", re.ASCII)
_DURATION = re.compile(r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the text names: where, how it stands there, and whether it is set."""

    name: str
    position: int
    written: str
    is_set: bool


@dataclass(frozen=True, slots=True)
class Expansion:
    """An expanded text that still knows where each part of it came from."""

    source: str
    text: str
    variables: tuple[Variable, ...]
    _replaced: tuple[tuple[int, int, int, int], ...] = ()  # (start, end) in `text`, then in `source`
    _starts: list[int] = field(default_factory=list)  # the first of each

    def origin(self, index: int) -> int:
        """The position in `source` of what stands at `index` of `text`."""
        number = bisect_right(self._starts, index) - 1
        if number < 0:
            return index
        _, end, source_start, source_end = self._replaced[number]
        return source_start if index < end else source_end + index - end

    def written(self, start: int, end: int) -> str | None:
        """What stands in `source` for `text[start:end]`, if a variable is part of it."""
        if not any(first <= end and start <= last for first, last, _, _ in self._replaced):
            return None
        return self.source[self.origin(start) : max(self.origin(start), self.origin(end))]


def expand(source: str, environ: Mapping[str, str]) -> Expansion:
    """``os.ExpandEnv``."""
    pieces: list[str] = []
    replaced: list[tuple[int, int, int, int]] = []
    variables: list[Variable] = []
    length = done = 0
    for found in _DOLLAR.finditer(source):
        name = next((group for group in (found[1], found[3], found[4]) if group is not None), "")
        value = environ.get(name, "")
        if name:
            variables.append(Variable(name, found.start(), found[0], name in environ))
        pieces += (source[done : found.start()], value)
        length += found.start() - done
        replaced.append((length, length + len(value), found.start(), found.end()))
        length += len(value)
        done = found.end()
    text = "".join([*pieces, source[done:]])
    return Expansion(source, text, tuple(variables), tuple(replaced), [start for start, *_ in replaced])


def parse_go_duration(value: Any) -> float:
    """``time.ParseDuration``: ``300ms``, ``1h30m``, ``1.5h``, ``-5s``, ``0``."""
    if value in ("0", "+0", "-0"):
        return 0.0
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise Wrong(f"{show(value)} is not a duration; write one like '30s', '5m' or '1h30m'")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    return -seconds if value.startswith("-") else seconds


def parse_go_boolean(value: Any) -> bool:
    """What Go's YAML reads as a boolean where one is expected."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and str(value) in _BOOLEANS:
        return _BOOLEANS[str(value)]
    raise Wrong(f"{show(value)} is neither true nor false")
