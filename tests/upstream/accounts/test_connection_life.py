"""What a connection is good for, by its row and the time alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.store import Connection
from aggregator.upstream.accounts.connection_life import (
    EARLIEST,
    LAPSED,
    LATEST,
    LONGEST_PAUSE,
    LONGEST_RETRY_AFTER,
    is_refreshable,
    needs_login,
    owner_of,
    pause_after,
    refresh_due_at,
    standing_of,
    widened_scope,
)
from aggregator.upstream.credentials import Standing

from ...store.samples import BOB, NOW
from ..token_server import LIFETIME, row

OWNER = owner_of(row())


def test_owners_of_different_people_and_of_connections_made_anew_differ() -> None:
    assert len({owner_of(row()), owner_of(row(principal=BOB)), owner_of(row(id="c2"))}) == 3
    assert owner_of(row(generation=5)) == OWNER


def test_a_token_is_refreshed_one_to_two_minutes_early_and_not_all_at_the_same_moment() -> None:
    margins = {NOW + LIFETIME - refresh_due_at(row(id=str(number))) for number in range(200)}
    assert len(margins) > 190
    assert min(margins) >= LATEST
    assert max(margins) <= EARLIEST
    assert max(margins) - min(margins) > 50


@pytest.mark.parametrize(("lifetime", "margin"), [(60.0, 15.0), (4.0, 1.0), (0.0, 0.0), (-5.0, 0.0)])
def test_a_short_lived_token_is_used_for_most_of_its_life(lifetime: float, margin: float) -> None:
    assert refresh_due_at(row(expires_at=NOW + lifetime)) == NOW + lifetime - margin


def test_a_token_whose_end_is_not_known_is_never_due() -> None:
    assert refresh_due_at(row(expires_at=None)) == math.inf


@pytest.mark.requirement("UP5")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"refresh_token": None}, False), ({"refresh_token": ""}, False), ({"issuer": ""}, False)],
)
def test_a_refresh_token_is_of_use_if_its_issuer_was_recorded(changes: dict[str, str | None], expected: bool) -> None:
    assert is_refreshable(row(**changes)) is expected


STANDINGS = [
    (row(), Standing(OWNER, "connected", account="ada@gmail.example")),
    (row(account=None), Standing(OWNER, "connected")),
    (
        row(failures=2, reason="it is busy", next_try_at=NOW + 5),
        Standing(OWNER, "retrying", "it is busy", NOW + 5, "ada@gmail.example"),
    ),
    (
        row(wanted_scope="mail.send"),
        Standing(OWNER, "connected", "more access was asked for: mail.send", account="ada@gmail.example"),
    ),
    (row(expires_at=NOW, account=None), Standing(OWNER, "connected")),  # expired, and will be refreshed
    (row(expires_at=NOW, refresh_token=None, account=None), Standing(OWNER, "needs_login", LAPSED)),
    (row(expires_at=NOW, issuer="", account=None), Standing(OWNER, "needs_login", LAPSED)),
    (row(expires_at=None, refresh_token=None, account=None), Standing(OWNER, "connected")),
    (
        row(state="needs_login", access_token=None, refresh_token=None, reason="withdrawn", account=None),
        Standing(OWNER, "needs_login", "withdrawn"),
    ),
    (
        row(state="needs_login", access_token=None, refresh_token=None, account=None),
        Standing(OWNER, "needs_login", "its login has ended"),
    ),
]


@pytest.mark.parametrize(("connection", "expected"), STANDINGS)
def test_how_a_person_stands_follows_from_their_row(connection: Connection, expected: Standing) -> None:
    assert standing_of(connection, now=NOW) == expected
    assert (needs_login(connection, now=NOW) is not None) == (expected.state == "needs_login")


@given(st.integers(0, 10**9), st.none() | st.floats(0, 1e12), st.floats(0, 1))
def test_a_pause_is_bounded_grows_and_respects_the_server(failures: int, asked: float | None, chance: float) -> None:
    pause = pause_after(failures, asked, chance=chance)
    assert 1 <= pause <= max(LONGEST_PAUSE * 1.25, LONGEST_RETRY_AFTER)
    assert pause >= min(asked or 0, LONGEST_RETRY_AFTER)
    assert pause >= pause_after(max(failures - 1, 0), asked, chance=chance)


@pytest.mark.requirement("UP11")
@pytest.mark.parametrize(
    ("granted", "wanted_before", "asked", "expected"),
    [
        ("mail.read", None, "mail.send", "mail.read mail.send"),
        ("mail.read", "mail.read mail.send", "mail.purge", "mail.read mail.send mail.purge"),
        ("mail.read", None, "mail.send mail.read", "mail.read mail.send"),
        (None, None, "mail.read", "mail.read"),
        ("mail.read mail.send", None, "mail.send", None),  # it has it, and is refused all the same
        ("mail.read", None, None, None),
        ("mail.read", "mail.send", "", None),
        (None, None, None, None),
        (
            "mail.read",
            "a" * 250 + " " + " ".join(letter * 250 for letter in "bcdefg"),
            "z" * 250,
            "mail.read " + "z" * 250,
        ),
        ("mail.read", None, " ".join(letter * 250 for letter in "abcdefgh"), None),  # for no URL
    ],
)
def test_the_next_login_asks_for_the_union_unless_that_is_nothing_new(
    granted: str | None, wanted_before: str | None, asked: str | None, expected: str | None
) -> None:
    assert widened_scope(row(scope=granted, wanted_scope=wanted_before), asked) == expected
