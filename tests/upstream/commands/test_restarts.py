from __future__ import annotations

import math

from aggregator.upstream.commands.restarts import STEADY, Restarts


def waits(*lives: float | None, longest: float = math.inf) -> list[float]:
    restarts, found = Restarts(), []
    for lived in lives:
        restarts, wait = restarts.after(lived, longest)
        found.append(wait)
    return found


def test_one_that_never_answers_is_started_more_and_more_seldom() -> None:
    assert waits(*[None] * 10) == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_one_that_had_lived_is_back_soon_and_more_slowly_if_it_dies_again_and_again() -> None:
    assert waits(*[3.0] * 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_no_wait_is_longer_than_is_configured() -> None:
    assert waits(*[None] * 4, longest=12.0) == [5, 10, 12, 12]
    assert waits(*[3.0] * 5, longest=3.0) == [1, 2, 3, 3, 3]


def test_a_steady_life_makes_up_for_earlier_failures() -> None:
    assert waits(1.0, 1.0, 1.0, STEADY, 1.0) == [1, 2, 4, 1, 2]


def test_a_thousand_failures_are_no_overflow() -> None:
    assert waits(*[None] * 1000)[-1] == 900
