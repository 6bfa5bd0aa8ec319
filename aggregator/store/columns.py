"""Which columns are encrypted, and the row each is bound to. Knows no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..protocol.sealing import KeyRing

# In the place of the person: a person's key always has a "|", so they cannot meet.
CLIENTS = "upstream_clients"
LOGINS = "login_tokens"


def encrypt_token(
    keys: KeyRing, user_key: str, upstream: str, access_token: str, refresh_token: str | None
) -> tuple[bytes, bytes | None]:
    return (
        keys.encrypt_column(access_token, row=(user_key, upstream, "access_token")),
        _optional(keys, refresh_token, (user_key, upstream, "refresh_token")),
    )


def decrypt_token(
    keys: KeyRing, user_key: str, upstream: str, access_token: bytes, refresh_token: bytes | None
) -> tuple[str, str | None]:
    """Access and refresh token.

    Raises:
        Unsealable: if either belongs elsewhere, was altered, or its key is gone.
    """
    access = keys.decrypt_column(access_token, row=(user_key, upstream, "access_token"))
    if refresh_token is None:
        return access, None
    return access, keys.decrypt_column(refresh_token, row=(user_key, upstream, "refresh_token"))


def encrypt_client(
    keys: KeyRing, upstream: str, client_id: str, client_secret: str | None, registration: str
) -> tuple[bytes, bytes | None, bytes]:
    return (
        keys.encrypt_column(client_id, row=(CLIENTS, upstream, "client_id")),
        _optional(keys, client_secret, (CLIENTS, upstream, "client_secret")),
        keys.encrypt_column(registration, row=(CLIENTS, upstream, "registration")),
    )


def encrypt_login(keys: KeyRing, login_id: str, refresh_token: str) -> bytes:
    return keys.encrypt_column(refresh_token, row=(LOGINS, login_id, "refresh_token"))


def decrypt_login(keys: KeyRing, login_id: str, refresh_token: bytes) -> str:
    """The identity provider's refresh token of a login.

    Raises:
        Unsealable: as `decrypt_token`.
    """
    return keys.decrypt_column(refresh_token, row=(LOGINS, login_id, "refresh_token"))


@dataclass(frozen=True, slots=True)
class EncryptedTable:
    """A table with encrypted columns. `owner` stands before the primary key in what a column is bound to."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    owner: tuple[str, ...] = ()

    def row(self, key: Sequence[str], column: str) -> tuple[str, ...]:
        return (*self.owner, *key, column)


ENCRYPTED = (
    EncryptedTable("upstream_tokens", ("user_key", "upstream"), ("access_token", "refresh_token")),
    EncryptedTable("upstream_clients", ("upstream",), ("client_id", "client_secret", "registration"), (CLIENTS,)),
    EncryptedTable("login_tokens", ("id",), ("refresh_token",), (LOGINS,)),
)


def _optional(keys: KeyRing, text: str | None, row: tuple[str, str, str]) -> bytes | None:
    return None if text is None else keys.encrypt_column(text, row=row)
