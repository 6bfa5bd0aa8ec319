"""Which columns are encrypted, and the row each is bound to. Knows no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..protocol.sealing import KeyRing

# In the place of the person: a person's key always has a "|", so they cannot meet.
CLIENTS = "registrations"
LOGINS = "login_tokens"
MAIL = "mail"
SESSIONS = "client_sessions"


def encrypt_tokens(
    keys: KeyRing, where: Sequence[str], access_token: str | None, refresh_token: str | None
) -> tuple[bytes | None, bytes | None]:
    """The two columns of a connection; `where` is `connection_row`."""
    return (
        _optional(keys, access_token, (*where, "access_token")),
        _optional(keys, refresh_token, (*where, "refresh_token")),
    )


def decrypt_tokens(
    keys: KeyRing, where: Sequence[str], access_token: bytes | None, refresh_token: bytes | None
) -> tuple[str | None, str | None]:
    """Access and refresh token.

    Raises:
        Unsealable: if either belongs elsewhere, was altered, or its key is gone.
    """
    return (
        _opened(keys, access_token, (*where, "access_token")),
        _opened(keys, refresh_token, (*where, "refresh_token")),
    )


def connection_row(user_key: str, upstream: str, issuer: str) -> tuple[str, ...]:
    """What the columns of a connection are bound to. One from before issuers were recorded is bound to none."""
    return (user_key, upstream, issuer) if issuer else (user_key, upstream)


def encrypt_secret(keys: KeyRing, upstream: str, issuer: str, client_secret: str | None) -> bytes | None:
    return _optional(keys, client_secret, (CLIENTS, upstream, issuer, "client_secret"))


def decrypt_secret(keys: KeyRing, upstream: str, issuer: str, client_secret: bytes | None) -> str | None:
    """The secret of a registration of ours.

    Raises:
        Unsealable: as `decrypt_tokens`.
    """
    return _opened(keys, client_secret, (CLIENTS, upstream, issuer, "client_secret"))


def encrypt_login(keys: KeyRing, login_id: str, refresh_token: str) -> bytes:
    return keys.encrypt_column(refresh_token, row=(LOGINS, login_id, "refresh_token"))


def decrypt_login(keys: KeyRing, login_id: str, refresh_token: bytes) -> str:
    """The identity provider's refresh token of a login.

    Raises:
        Unsealable: as `decrypt_tokens`.
    """
    return keys.decrypt_column(refresh_token, row=(LOGINS, login_id, "refresh_token"))


def encrypt_mail(keys: KeyRing, id: str, to: str, expires_at: float, body: str) -> bytes:
    """Bound to address and end too: who can write to the store sends nobody's mail elsewhere, nor again later."""
    return keys.encrypt_column(body, row=(MAIL, id, to, repr(expires_at), "body"))


def decrypt_mail(keys: KeyRing, id: str, to: str, expires_at: float, body: bytes) -> str:
    """
    Raises:
        Unsealable: as `decrypt_tokens`.
    """
    return keys.decrypt_column(body, row=(MAIL, id, to, repr(expires_at), "body"))


def encrypt_session(keys: KeyRing, session: str, content: str) -> bytes:
    return keys.encrypt_column(content, row=(SESSIONS, session, "content"))


def decrypt_session(keys: KeyRing, session: str, content: bytes) -> str:
    """What a client said about its session.

    Raises:
        Unsealable: as `decrypt_tokens`.
    """
    return keys.decrypt_column(content, row=(SESSIONS, session, "content"))


@dataclass(frozen=True, slots=True)
class EncryptedTable:
    """A table with encrypted columns.

    They are bound to `owner`, the primary key, and the columns `bound`, of which an empty one is left out.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    owner: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()

    def row(self, key: Sequence[str], bound: Sequence[str], column: str) -> tuple[str, ...]:
        return (*self.owner, *key, *filter(None, bound), column)


# Those whose rows may outlive a key. Mail does not: it is gone a minute after it was written.
ENCRYPTED = (
    EncryptedTable("connections", ("user_key", "upstream"), ("access_token", "refresh_token"), bound=("issuer",)),
    EncryptedTable("registrations", ("upstream", "issuer"), ("client_secret",), (CLIENTS,)),
    EncryptedTable("login_tokens", ("id",), ("refresh_token",), (LOGINS,)),
    EncryptedTable("client_sessions", ("id",), ("content",), (SESSIONS,)),
)


def _optional(keys: KeyRing, text: str | None, row: Sequence[str]) -> bytes | None:
    return None if text is None else keys.encrypt_column(text, row=row)


def _opened(keys: KeyRing, blob: bytes | None, row: Sequence[str]) -> str | None:
    return None if blob is None else keys.decrypt_column(blob, row=row)
