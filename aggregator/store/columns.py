"""Which columns are encrypted, and the row each is bound to. Knows no SQL."""

from __future__ import annotations

from ..protocol.sealing import KeyRing

CLIENTS = "upstream_clients"  # in the place of the person: a person's key always has a "|", so the two cannot meet


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


def _optional(keys: KeyRing, text: str | None, row: tuple[str, str, str]) -> bytes | None:
    return None if text is None else keys.encrypt_column(text, row=row)
