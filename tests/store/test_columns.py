"""Encrypted columns open in their own place only."""

from __future__ import annotations

import pytest

from aggregator.errors import Unsealable
from aggregator.store.columns import (
    connection_row,
    decrypt_login,
    decrypt_secret,
    decrypt_tokens,
    encrypt_login,
    encrypt_secret,
    encrypt_tokens,
)

from .samples import ADA, BOB, keys

AS = "https://as.example"
HERE = connection_row(ADA.key, "gmail", AS)


def test_a_connections_tokens_open_where_they_were_put() -> None:
    assert decrypt_tokens(keys(), HERE, *encrypt_tokens(keys(), HERE, "a", "r")) == ("a", "r")
    assert decrypt_tokens(keys(), HERE, *encrypt_tokens(keys(), HERE, "a", None)) == ("a", None)
    assert encrypt_tokens(keys(), HERE, None, None) == (None, None)


@pytest.mark.requirement("UP5")
def test_they_open_nowhere_else() -> None:
    access, refresh = encrypt_tokens(keys(), HERE, "a", "r")
    assert access is not None
    for row, columns in (
        (connection_row(BOB.key, "gmail", AS), (access, refresh)),
        (connection_row(ADA.key, "calendar", AS), (access, refresh)),
        (connection_row(ADA.key, "gmail", "https://other.example"), (access, None)),
        (connection_row(ADA.key, "gmail", ""), (access, None)),
        (HERE, (refresh, access)),
        (HERE, (access, access)),
        (HERE, (b"", None)),
        (HERE, (access[:-1], None)),
    ):
        with pytest.raises(Unsealable):
            decrypt_tokens(keys(), row, *columns)


def test_a_registrations_secret_opens_for_its_upstream_and_issuer_and_cannot_pass_for_a_token() -> None:
    sealed = encrypt_secret(keys(), "gmail", AS, "secret")
    assert decrypt_secret(keys(), "gmail", AS, sealed) == "secret"
    assert encrypt_secret(keys(), "gmail", AS, None) is None
    assert decrypt_secret(keys(), "gmail", AS, None) is None
    for upstream, issuer in (("calendar", AS), ("gmail", "https://other.example")):
        with pytest.raises(Unsealable):
            decrypt_secret(keys(), upstream, issuer, sealed)
    with pytest.raises(Unsealable):
        decrypt_tokens(keys(), HERE, sealed, None)


def test_a_logins_token_opens_for_its_login_only() -> None:
    sealed = encrypt_login(keys(), "login-1", "refresh")
    assert b"refresh" not in sealed
    assert decrypt_login(keys(), "login-1", sealed) == "refresh"
    with pytest.raises(Unsealable):
        decrypt_login(keys(), "login-2", sealed)
