"""Encrypted columns open in their own place only."""

from __future__ import annotations

import pytest

from aggregator.errors import Unsealable
from aggregator.store.columns import CLIENTS, decrypt_login, decrypt_token, encrypt_client, encrypt_login, encrypt_token

from .samples import ADA, BOB, keys


def test_a_token_opens_where_it_was_put() -> None:
    sealed = encrypt_token(keys(), ADA.key, "gmail", "a", "r")
    assert decrypt_token(keys(), ADA.key, "gmail", *sealed) == ("a", "r")
    without = encrypt_token(keys(), ADA.key, "gmail", "a", None)
    assert decrypt_token(keys(), ADA.key, "gmail", *without) == ("a", None)


def test_it_opens_nowhere_else() -> None:
    access, refresh = encrypt_token(keys(), ADA.key, "gmail", "a", "r")
    assert refresh is not None
    for who, upstream, columns in (
        (BOB, "gmail", (access, refresh)),
        (ADA, "calendar", (access, refresh)),
        (ADA, "gmail", (refresh, access)),
        (ADA, "gmail", (access, access)),
        (ADA, "gmail", (b"", None)),
        (ADA, "gmail", (access[:-1], None)),
    ):
        with pytest.raises(Unsealable):
            decrypt_token(keys(), who.key, upstream, *columns)


def test_a_client_cannot_pass_for_a_token() -> None:
    client_id, client_secret, registration = encrypt_client(keys(), "gmail", "id", "secret", "{}")
    assert client_secret is not None
    assert keys().decrypt_column(client_id, row=(CLIENTS, "gmail", "client_id")) == "id"
    assert keys().decrypt_column(client_secret, row=(CLIENTS, "gmail", "client_secret")) == "secret"
    assert keys().decrypt_column(registration, row=(CLIENTS, "gmail", "registration")) == "{}"
    with pytest.raises(Unsealable):
        decrypt_token(keys(), ADA.key, "gmail", client_secret, None)
    assert encrypt_client(keys(), "gmail", "id", None, "{}")[1] is None


def test_a_logins_token_opens_for_its_login_only() -> None:
    sealed = encrypt_login(keys(), "login-1", "refresh")
    assert b"refresh" not in sealed
    assert decrypt_login(keys(), "login-1", sealed) == "refresh"
    with pytest.raises(Unsealable):
        decrypt_login(keys(), "login-2", sealed)
