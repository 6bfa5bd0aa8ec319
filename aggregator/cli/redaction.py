"""No secret in a log line, whoever writes it: one filter for every handler of the process.

`redact` knows how secrets look in text: a named field in any of the notations that end up in logs, a token of ours, a
token of anybody. `Redaction` applies it to a record as a whole: message, what was bound, traceback. Too much
is taken rather than too little. This file must not know who logs, or where to.

URLs that a person must open hold `state`; they go to the terminal (`serving.say`), never through here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Final

REDACTED: Final = "[redacted]"
MAX_DEPTH = 6  # of bound values; what is nested deeper is shown as the text that it is

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_HEADER = r"(?:authorization|cookie2?|referr?er)"  # proxy-authorization and set-cookie end so
_PARAMETER = r"(?:token|client[_-]?secret|code[_-]?verifier)"  # access_token and refreshToken end so
# These two are words as well: not the end of another (status_code), but also in a URL within a URL.
_WORD = r"(?:(?<![A-Za-z0-9_])|(?<=%3F)|(?<=%26))(?:code|state)"
_SEPARATOR = r"\s{0,8}(?:[:=]+>?|%(?:25){0,3}3D)\s{0,8}"
# The same quote to the end, escaped ones passed over; a text that was cut off has no end.
_QUOTED = r"b?(?P<{0}>\\{{0,3}}[\"'])(?:(?!(?P={0}))(?:\\.|[^\\]))*(?:(?P={0}))?"

_SECRETS: Final = re.compile(
    rf"""
    (?P<name> (?P<header>{_HEADER}) | {_PARAMETER} | {_WORD} )
    (?: (?P<quoted> \\{{0,3}}["'] )? (?P<separator> {_SEPARATOR} )
      | (?P<pair> \\{{0,3}}["'] \s{{0,8}},\s{{0,8}} (?=b?\\{{0,3}}["']) )
    )
    (?: (?(quoted)(?!)|(?(pair)(?!)|(?(header)[^\r\n]+|(?!))))  # a header as it is on the wire: all of its line
      | {_QUOTED.format("q")}
      | [\[(] [^\])]* [\])]?
      | (?(header) [^\r\n]+
        | (?: (?P<number> (?: -?[0-9]{{1,5}} | null | none | true | false ) (?![\w%.~+/-]) )
            | (?:bearer\s+)? [^\s&"'<>]+ ) )
    )
    | (?P<scheme> \b(?:bearer|basic|dpop)\s{{1,8}} ) [A-Za-z0-9._~+/=-]{{16,}}
    | mcpa_(?:ac|at|rt)_[A-Za-z0-9_.-]+
    | (?<![A-Za-z0-9_-]) eyJ[A-Za-z0-9_-]{{12,}} (?:\.[A-Za-z0-9_-]*){{0,4}}
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_NAMES: Final = re.compile(rf"(?:{_HEADER}|{_PARAMETER}|(?<![A-Za-z0-9_])(?:code|state))\Z", re.IGNORECASE)

_TRACEBACKS: Final = logging.Formatter()


def redact(text: str) -> str:
    """`text` without what may be a secret. Never raises; takes time in proportion to the length."""
    return _SECRETS.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    if found["number"] is not None:
        return found[0]  # a status, an error code, nothing at all
    if found["scheme"] is not None:
        return found["scheme"] + REDACTED
    if found["name"] is None:
        return REDACTED
    between = found["pair"] or (found["quoted"] or "") + found["separator"]
    quote = found["q"] or ""
    return f"{found['name']}{between}{quote}{REDACTED}{quote}"


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was bound to `record` beside its message."""
    return {key: value for key, value in vars(record).items() if key not in STANDARD}


class Redaction(logging.Filter):
    """Lets every record pass, changed in place: message rendered, traceback rendered, all of it redacted."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            _redact_record(record)
        except Exception as exc:  # noqa: BLE001  any object may be logged, and its __str__ may do anything
            for key in extras(record):
                delattr(record, key)
            record.msg = (
                f"a message that cannot be shown ({type(exc).__name__}), from {record.pathname}:{record.lineno}"
            )
            record.args = record.exc_info = record.exc_text = record.stack_info = None
        return True


class _Atoms:
    """The mapping that an access log's format picks from, such as ``%({cookie}i)s``: there the name is in the format,
    and in the line there is only the value. ``f`` is the Referer."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        self._atoms = atoms

    def __getitem__(self, name: str) -> Any:
        found = self._atoms[name]
        bare = name.lstrip("{").rpartition("}")[0] or name
        return REDACTED if found != "-" and (name == "f" or _NAMES.search(bare)) else found

    def __str__(self) -> str:
        return str(self._atoms)


def _redact_record(record: logging.LogRecord) -> None:
    words = str(record.msg) % _Atoms(record.args) if isinstance(record.args, Mapping) else record.getMessage()
    record.msg, record.args = redact(words), None
    if record.exc_info:
        record.exc_text = record.exc_text or _TRACEBACKS.formatException(record.exc_info)
        record.exc_info = None  # a formatter that renders it anew would show it as it was
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    for key, value in extras(record).items():
        setattr(record, key, _redacted(value, 0, key))


def _redacted(value: Any, depth: int, name: str = "") -> Any:
    """`value` as something that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if _NAMES.search(name):
        return REDACTED
    if isinstance(value, int | float) and isfinite(value):
        return value
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        return {redact(str(key)): _redacted(item, depth + 1, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        if len(value) == 2 and _NAMES.search(_text(value[0])):  # a header, as servers hold it
            return [_text(value[0]), REDACTED]
        return [_redacted(item, depth + 1) for item in value]
    return redact(_text(value))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def redact_every_handler() -> None:
    """Put the filter on every handler that the process has now, once on each."""
    for handler in _handlers():
        if not any(isinstance(installed, Redaction) for installed in handler.filters):
            handler.addFilter(Redaction())


def _handlers() -> Iterator[logging.Handler]:
    root = logging.getLogger()
    for logger in (root, *root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # else a gap in the tree of names
            yield from logger.handlers
    if logging.lastResort is not None:  # prints warnings where nobody has set up anything
        yield logging.lastResort
