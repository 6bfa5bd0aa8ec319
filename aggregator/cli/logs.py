"""Where log lines go and what they look like: stderr, one line per message, as text or JSON.

This file owns the logging set-up of the process; `redaction` renders tracebacks
and takes secrets out before a line is made. It must not know what is logged;
whoever embeds the aggregator sets up logging themselves.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

from .redaction import extras, redact_every_handler

# Libraries that tell every request or every connection at INFO. The HTTP client's lines hold whole URLs.
QUIET = ("hypercorn.error", "hypercorn.access", "httpx2", "httpcore2", "mcp", "h2", "hpack")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def set_up_logging(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Log messages of `level` and above to `stream` (stderr), as ``text`` or ``json``; replaces an earlier set-up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    redact_every_handler()
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


class TextLines(logging.Formatter):
    """``2026-11-21T10:00:00.123Z INFO aggregator.server: words key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        # CWE-117: a line break that somebody else chose would begin a line that looks like ours.
        words = _CONTROL.sub(_escape, record.getMessage())
        bound = "".join(f" {key}={_CONTROL.sub(_escape, str(value))}" for key, value in extras(record).items())
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {words}{bound}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class JsonLines(logging.Formatter):
    """One object per line: ``time``, ``level``, ``logger``, ``message``, what was bound, and ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
        }
        if record.exc_text:
            entry["exception"] = record.exc_text
        return json.dumps(entry, ensure_ascii=False, default=str)


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
