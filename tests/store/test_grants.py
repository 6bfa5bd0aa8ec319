"""The decisions both stores share, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.store import REFRESH_GRACE, Gone, Grant, Redeemed, Replayed, Rotated
from aggregator.store.grants import KEPT_AFTER_THE_END, is_live, is_past_keeping, redemption, rotation

from .samples import NOW, grant


@pytest.mark.parametrize(
    ("found", "live"),
    [
        (grant(expires_at=NOW + 1), True),
        (grant(expires_at=NOW), False),
        (grant(expires_at=NOW + 1, revoked_at=NOW + 9), False),
    ],
)
def test_a_grant_lives_until_its_end_or_its_revocation(found: Grant, live: bool) -> None:
    assert is_live(found, now=NOW) is live


def test_a_grant_is_kept_for_a_day_after_its_end_or_revocation_whichever_is_first() -> None:
    later = NOW + KEPT_AFTER_THE_END
    assert not is_past_keeping(grant(expires_at=NOW), now=later)
    assert is_past_keeping(grant(expires_at=NOW), now=later + 1)
    assert is_past_keeping(grant(expires_at=later * 2, revoked_at=NOW), now=later + 1)


@pytest.mark.requirement("TK2")
def test_a_used_code_is_a_replay_whatever_became_of_its_grant() -> None:
    for found in (grant(), grant(revoked_at=NOW), grant(expires_at=NOW), None):
        assert redemption(found, "g1", first_use=False, now=NOW, grant_until=NOW + 9) == Replayed("g1")


def test_a_fresh_code_needs_a_live_grant() -> None:
    assert redemption(None, "g1", first_use=True, now=NOW, grant_until=NOW + 9) == Gone()
    assert redemption(grant(), "g1", first_use=True, now=NOW, grant_until=NOW + 9) == Redeemed(
        grant(expires_at=NOW + 9, last_used_at=NOW)
    )


@pytest.mark.requirement("TK7")
@given(current=st.integers(0, 5), presented=st.integers(-1, 7), since=st.floats(0, 100))
def test_only_the_current_generation_moves_and_only_the_one_before_is_forgiven(
    current: int, presented: int, since: float
) -> None:
    found = grant(generation=current, rotated_at=NOW - since if current else None)
    match rotation(found, generation=presented, now=NOW):
        case Rotated(changed, again=False):
            assert presented == current
            assert changed.generation == current + 1
        case Rotated(changed, again=True):
            assert presented == current - 1
            assert changed == found
            assert since <= REFRESH_GRACE + 1e-6  # NOW - (NOW - x) is not quite x
        case Replayed("g1"):
            assert presented != current
            assert presented != current - 1 or not current or since > REFRESH_GRACE - 1e-6
        case other:
            pytest.fail(f"{other}")
