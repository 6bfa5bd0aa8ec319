"""An upstream that cannot be reached: for a moment, as when it is restarted, or for longer.

Whoever asks in the first seconds waits for it, for nothing was sent; later ones are
told at once. This file does no I/O and knows no clock but what it is told.
"""

from __future__ import annotations

RESTART = 5.0  # seconds that most servers need to come back
AGAIN = 0.2  # seconds between two attempts


class Absence:
    """Of one upstream."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_brief(self, now: float, deadline: float) -> bool:
        """It could not be reached: whether it is worth trying again, after `AGAIN`. Who has to be done by `deadline`
        is better told why than stopped while waiting."""
        if self._since is None:
            self._since = now
        return now + 2 * AGAIN < min(self._since + RESTART, deadline)

    def end(self) -> None:
        """It was reached."""
        self._since = None
