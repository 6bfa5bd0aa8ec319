"""What is said when no connection can be accepted for want of something: once a minute, in words.

trio goes on trying ten times a second, and writes a traceback each time: in a
night that fills a disk. This file must not know who listens.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable

SAY_AGAIN = 60.0  # seconds

_TRIO = logging.getLogger("trio.serve_listeners")


class AcceptFailures(logging.Filter):
    """Lets one record in `SAY_AGAIN` seconds through, and makes a sentence of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if self._said_at is not None and now < self._said_at + SAY_AGAIN:
            return False
        self._said_at = now
        error = record.exc_info[1] if record.exc_info else None
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        record.msg = (
            "no connection can be accepted now: %s (this process may have %d files open; raise it with ulimit -n, "
            "LimitNOFILE= or the container's limit). Those that are open go on; trying again"
        )
        record.args = (reason, limit)
        record.exc_info = record.exc_text = None
        return True


def install() -> None:
    """Once per process, however often it is called."""
    if not any(isinstance(known, AcceptFailures) for known in _TRIO.filters):
        _TRIO.addFilter(AcceptFailures())
