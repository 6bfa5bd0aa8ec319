"""Rates: a burst, then one at a time, each key for itself, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.upstream.rate_limit import RateLimit


def admitted(limit: RateLimit, key: str, now: float) -> bool:
    if limit.delay(key, now) > 0:
        return False
    limit.count(key, now)
    return True


def test_a_burst_and_then_one_every_interval() -> None:
    limit = RateLimit(3, 10.0)
    assert [admitted(limit, "", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.delay("", 100.0) == pytest.approx(10.0)
    assert limit.delay("", 104.0) == pytest.approx(6.0)
    assert [admitted(limit, "", 110.0) for _ in range(2)] == [True, False]
    assert [admitted(limit, "", 1000.0) for _ in range(4)] == [True, True, True, False]
    assert repr(limit) == "<RateLimit 3 at once, one in 10 s>"


def test_asking_for_the_delay_counts_nothing() -> None:
    limit = RateLimit(1, 10.0)
    for _ in range(5):
        assert limit.delay("", 0.0) == 0.0


def test_keys_are_apart_and_the_oldest_are_forgotten() -> None:
    limit = RateLimit(1, 10.0, keys=2)
    assert [admitted(limit, key, 0.0) for key in "aabb"] == [True, False, True, False]
    assert admitted(limit, "c", 0.0)
    assert not admitted(limit, "b", 1.0)
    assert admitted(limit, "a", 1.0)  # forgotten when c came


@given(st.integers(1, 20), st.lists(st.floats(0, 5), max_size=100))
def test_never_more_than_the_burst_and_one_per_interval(burst: int, pauses: list[float]) -> None:
    limit, now, times = RateLimit(burst, 1.0), 0.0, []
    for pause in pauses:
        now += pause
        if admitted(limit, "", now):
            times.append(now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - times[first]) + 1e-6
