from __future__ import annotations

import errno
import logging
import os

import pytest

from aggregator.web.hypercorn.accept_failures import SAY_AGAIN, AcceptFailures, install


def record(number: int) -> logging.LogRecord:
    error = OSError(number, os.strerror(number))
    found = (OSError, error, None)
    return logging.LogRecord("trio.serve_listeners", 40, "", 0, "accept returned %s", ("EMFILE",), found)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EMFILE, "Too many open files"), (errno.ENFILE, "Too many open files in system")]
)
def test_it_is_said_in_words_and_without_a_traceback(number: int, words: str) -> None:
    said = record(number)
    assert AcceptFailures().filter(said)
    assert words in said.getMessage()
    assert "ulimit -n" in said.getMessage()
    assert said.exc_info is None


def test_it_is_said_once_a_minute() -> None:
    now = 0.0
    failures = AcceptFailures(clock=lambda: now)
    said = []
    for _ in range(1300):
        said += [now] if failures.filter(record(errno.EMFILE)) else []
        now += 0.1
    assert [round(at) for at in said] == [0, SAY_AGAIN, 2 * SAY_AGAIN]


def test_installing_twice_filters_once() -> None:
    logger = logging.getLogger("trio.serve_listeners")
    before = list(logger.filters)
    try:
        install()
        install()
        assert sum(isinstance(known, AcceptFailures) for known in logger.filters) == 1
    finally:
        logger.filters[:] = before
