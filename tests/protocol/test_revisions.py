from __future__ import annotations

import pytest

from aggregator.protocol.revisions import (
    HANDSHAKE,
    LOG_LEVELS,
    STATELESS,
    WITH_HANDSHAKE,
    agreed_revision,
    at_least,
    disconnect_cancels,
    has_batches,
    http_status,
    is_stateless,
)


def test_only_the_stateless_revision_takes_a_disconnect_for_a_cancellation() -> None:
    assert disconnect_cancels(STATELESS)
    assert is_stateless(STATELESS)
    for revision in WITH_HANDSHAKE:
        assert not disconnect_cancels(revision)
        assert not is_stateless(revision)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (-32700, 400),
        (-32600, 400),
        (-32601, 404),
        (-32602, 400),
        (-32603, 200),
        (-32020, 400),
        (-32021, 400),
        (-32022, 400),
    ],
)
@pytest.mark.requirement("TR2")
def test_a_stateless_error_has_a_status_of_its_own(code: int, status: int) -> None:
    assert http_status(code, STATELESS) == status
    assert http_status(code, HANDSHAKE) == 200


def test_levels_are_ordered_and_unknown_ones_pass() -> None:
    for i, level in enumerate(LOG_LEVELS):
        for j, wanted in enumerate(LOG_LEVELS):
            assert at_least(level, wanted) is (i >= j)
    assert at_least("of-tomorrow", "error")
    assert at_least("debug", "of-tomorrow")


def test_a_client_gets_the_revision_it_asked_for_or_the_latest_with_a_handshake() -> None:
    for revision in WITH_HANDSHAKE:
        assert agreed_revision(revision) == revision
    for other in (STATELESS, "2024-10-07", "2099-01-01", "", None, 5, ["2025-06-18"]):
        assert agreed_revision(other) == HANDSHAKE


def test_only_one_revision_has_batches() -> None:
    assert [revision for revision in (STATELESS, *WITH_HANDSHAKE) if has_batches(revision)] == ["2025-03-26"]
