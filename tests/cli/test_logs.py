"""Log lines: one per message, nothing forged, libraries quiet."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from aggregator.cli.logs import QUIET, set_up_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process has one logging set-up; give pytest its own back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def logged(level: str = "info", form: str = "text") -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(level, form, stream=stream)
    return stream


def test_a_text_line_has_time_level_logger_words_and_what_was_bound() -> None:
    stream = logged()
    logging.getLogger("aggregator.x").info("listed %d tools", 3, extra={"upstream": "gmail"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO aggregator\.x: listed 3 tools upstream=gmail\n", stream.getvalue()
    )


def test_nobody_can_begin_a_line_of_their_own() -> None:
    stream = logged()
    logging.getLogger("x").warning("name %s", "a\nINFO forged\r\u2028\x1b[31m", extra={"user": "b\nc"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines()[0].endswith("user=b\\nc")


def test_json_lines_hold_the_same_in_fields() -> None:
    stream = logged(form="json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"upstream": "gmail", "odd": object})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert {key: entry[key] for key in ("level", "logger", "message", "upstream")} == {
        "level": "error",
        "logger": "x",
        "message": "failed",
        "upstream": "gmail",
    }
    assert entry["exception"].endswith("ValueError: no")


def test_a_traceback_follows_its_text_line() -> None:
    stream = logged()
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert stream.getvalue().splitlines()[1].startswith("Traceback")


def test_the_level_is_obeyed_and_libraries_stay_quiet() -> None:
    stream = logged("info")
    logging.getLogger("x").debug("unseen")
    for name in QUIET:
        logging.getLogger(name).info("unseen")
        logging.getLogger(name).warning("seen")
    assert stream.getvalue().count("\n") == len(QUIET)
    assert "unseen" not in stream.getvalue()
    stream = logged("error")
    logging.getLogger("hypercorn.error").warning("unseen")
    assert stream.getvalue() == ""


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = logged(), logged()
    logging.getLogger("x").info("once")
    assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)
