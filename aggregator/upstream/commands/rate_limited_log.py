"""A log that a foreign program may write to: so many lines at once, then so many a second, the rest counted."""

from __future__ import annotations

import logging

import trio

BURST = 50  # lines
PER_SECOND = 5.0


class RateLimitedLog:
    """Call it as `logging.Logger.log` without the level."""

    def __init__(self, log: logging.Logger, level: int) -> None:
        self._log = log
        self._level = level
        self._left = float(BURST)
        self._at = trio.current_time()
        self._kept_back = 0

    def keep_back(self) -> bool:
        """Count a line that there is no room for now; False if there is room."""
        if self._left + (trio.current_time() - self._at) * PER_SECOND >= 1:
            return False
        self._kept_back += 1
        return True

    def __call__(self, text: str, *values: object) -> None:
        now = trio.current_time()
        self._left = min(BURST, self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            self._kept_back += 1
            return
        self._left -= 1
        if self._kept_back:
            text, values = text + " (%d lines like it were kept back)", (*values, self._kept_back)
            self._kept_back = 0
        self._log.log(self._level, text, *values)
