"""Asking the provider again, with the refresh token of a login, whether the person may still come in (Core 12).

One answer means no: the code ``invalid_grant``. Whatever else goes wrong is the
provider's trouble, or ours with it, and says nothing of the person.
This file knows nothing of signatures, nor of when to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import IdentityProviderUnavailable
from .discovery import ProviderMetadata
from .documents import quotable, read_object
from .exchange import bearer_token, client_authentication, refresh_token


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The provider still vouches for the person.

    `refresh_token` is there if it must be used from now on instead of the one that was sent; the others may be used
    to look at the person's claims again.
    """

    id_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The refresh token is good no more: the account is disabled, its sessions were ended, or it was not used for long.

    `words` are the provider's, fit for a log.
    """

    words: str


def refresh_request(
    metadata: ProviderMetadata, *, client_id: str, client_secret: str | None, refresh_token: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and form of the POST to `metadata.token_endpoint`. The scope stays what it was (RFC 6749 6).

    Raises:
        IdentityProviderUnavailable: if we hold a secret and the provider takes it in no way we know.
    """
    headers, form = client_authentication(metadata, client_id, client_secret)
    return headers, form | {"grant_type": "refresh_token", "refresh_token": refresh_token}


def process_refresh_response(status: int, headers: Mapping[str, str], body: bytes) -> Refreshed | Withdrawn:
    """What the token endpoint's answer says of the person. Header names are lower case.

    Raises:
        IdentityProviderUnavailable: if it says nothing of them: 429, 5xx, HTML, a refusal of us as a client.
    """
    kind = quotable(headers.get("content-type", "no content type"), 60)
    try:
        fields = read_object(body)
    except ValueError as exc:
        raise IdentityProviderUnavailable(f"its token endpoint answered {status} ({kind}), {exc}") from None
    error, words = fields.get("error"), fields.get("error_description")
    # RFC 6749 5.2 has 400; Auth0 says it with 403. Proxies in between send neither with this code.
    if status in (400, 403) and error == "invalid_grant":
        return Withdrawn(quotable(words) if isinstance(words, str) and words else "invalid_grant")
    # Some send an error with 200. Any token makes a good answer, although RFC 6749 5.1 wants an access token: what has
    # been rotated must not be lost over a formality.
    tokens = (fields.get(name) for name in ("access_token", "id_token", "refresh_token"))
    if status != 200 or error is not None or not any(isinstance(token, str) and token for token in tokens):
        code = f": {quotable(error, 60)}" if isinstance(error, str) else ""
        raise IdentityProviderUnavailable(f"its token endpoint answered {status} to a refresh{code}")
    id_token = fields.get("id_token")
    return Refreshed(
        id_token if isinstance(id_token, str) and id_token else None, bearer_token(fields), refresh_token(fields)
    )
