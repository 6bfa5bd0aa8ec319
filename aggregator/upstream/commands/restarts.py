"""When a command that has ended is started again. Pure: times are arguments, jitter is the caller's.

One that never got as far as to answer is probably set up wrongly: few attempts. One
that had lived is missed by somebody: soon, and then more and more seldom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NEVER_LIVED = (5.0, 900.0)  # seconds: the first wait, doubled up to the last
HAD_LIVED = (1.0, 60.0)
STEADY = 60.0  # seconds of life after which earlier failures no longer count


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often in a row it ended without having lived steadily."""

    failures: int = 0

    def after(self, lived: float | None, longest: float = math.inf) -> tuple[Restarts, float]:
        """What is known once it ended, and the seconds to wait, `longest` at most. `lived` counts from the handshake;
        None is before."""
        failures = 0 if lived is not None and lived >= STEADY else self.failures
        first, last = NEVER_LIVED if lived is None else HAD_LIVED
        return Restarts(failures + 1), min(first * 2 ** min(failures, 16), last, longest)
