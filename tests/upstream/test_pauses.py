from __future__ import annotations

import pytest

from aggregator.errors import UpstreamRefused
from aggregator.upstream.pauses import LONGEST_PAUSE, MAX_OWNERS, Pauses


def refusal(status: int, retry_after: float | None) -> UpstreamRefused:
    return UpstreamRefused(status, f"HTTP {status}", retry_after=retry_after)


def left(pauses: Pauses, owner: str, now: float) -> float:
    """Seconds for which `owner` has to wait."""
    try:
        pauses.check(owner, now)
    except UpstreamRefused as exc:
        return exc.retry_after or -1.0
    return 0.0


@pytest.mark.parametrize(
    ("status", "retry_after", "mine", "theirs"),
    [
        (503, 9.0, 9.0, 9.0),
        (429, 9.0, 9.0, 0.0),
        (503, 3600.0, LONGEST_PAUSE, LONGEST_PAUSE),
        (429, 3600.0, LONGEST_PAUSE, 0.0),
        (503, None, 0.0, 0.0),
        (429, 0.0, 0.0, 0.0),
        (500, 9.0, 0.0, 0.0),
        (401, 9.0, 0.0, 0.0),
    ],
)
def test_a_busy_server_is_left_alone_by_all_and_a_limit_by_whoever_reached_it(
    status: int, retry_after: float | None, mine: float, theirs: float
) -> None:
    pauses = Pauses()
    pauses.note(refusal(status, retry_after), "me", 100.0)
    assert (left(pauses, "me", 100.0), left(pauses, "they", 100.0)) == (mine, theirs)
    assert left(pauses, "me", 100.0 + LONGEST_PAUSE) == 0.0


def test_what_is_left_gets_less_and_is_said_with_the_upstreams_words() -> None:
    pauses = Pauses()
    pauses.note(refusal(429, 10.0), "me", 0.0)
    with pytest.raises(UpstreamRefused, match="HTTP 429, and was not asked again yet") as refused:
        pauses.check("me", 4.0)
    assert (refused.value.status, refused.value.retry_after) == (429, 6.0)
    assert left(pauses, "me", 10.0) == 0.0


def test_many_owners_take_bounded_memory() -> None:
    pauses = Pauses()
    for number in range(MAX_OWNERS + 50):
        pauses.note(refusal(429, 1.0), str(number), float(number))
    assert len(pauses._owners) <= MAX_OWNERS
