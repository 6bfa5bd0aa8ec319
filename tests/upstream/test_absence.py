from __future__ import annotations

import math

from aggregator.upstream.absence import AGAIN, RESTART, Absence


def test_an_upstream_is_waited_for_once_each_time_that_it_goes() -> None:
    absence = Absence()
    assert absence.is_brief(100, math.inf)
    assert absence.is_brief(100 + RESTART - 3 * AGAIN, math.inf)
    assert not absence.is_brief(100 + RESTART, math.inf)
    assert not absence.is_brief(1000, math.inf), "it did not come back"
    absence.end()
    assert absence.is_brief(1001, math.inf)


def test_who_has_no_time_does_not_wait() -> None:
    assert not Absence().is_brief(100, 100 + AGAIN)
