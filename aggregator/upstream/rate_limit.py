"""How often something may happen, per key, in bounded memory.

This file knows no clock (`now` is an argument, of any clock that does not jump)
and not what happens.
"""

from __future__ import annotations

from collections import OrderedDict


class RateLimit:
    """`burst` at once, then one every `interval` seconds, for each key.

    The generic cell rate algorithm: one number per key, the time at which everything counted so far is paid for. Of
    more than `keys` keys the least recently counted are forgotten, and begin anew.
    """

    def __init__(self, burst: int, interval: float, *, keys: int = 1) -> None:
        self._interval = interval
        self._credit = burst * interval
        self._keys = keys
        self._paid_at: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RateLimit {self._credit / self._interval:g} at once, one in {self._interval:g} s>"

    def delay(self, key: str, now: float) -> float:
        """Seconds until it may happen again; 0.0 if it may now. Counts nothing."""
        over = self._paid_at.get(key, now) + self._interval - self._credit - now
        return max(over, 0.0)

    def count(self, key: str, now: float) -> None:
        """It happens."""
        self._paid_at[key] = max(self._paid_at.pop(key, now), now) + self._interval
        if len(self._paid_at) > self._keys:
            self._paid_at.popitem(last=False)
