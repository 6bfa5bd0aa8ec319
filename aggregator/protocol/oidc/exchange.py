"""The two requests of the authorization code flow and what their answers mean (OIDC Core 3.1; RFC 6749, 7636, 9207).

Each pair is pure: the I/O between request and response is somebody else's one
line. This file knows nothing of signatures; an ID token is opaque text here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from ...errors import IdentityProviderUnavailable, LoginRefused
from .discovery import ProviderMetadata
from .documents import quotable, read_object

_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_BEARER = re.compile(r"[!-~]{1,32768}")  # RFC 6749 A.12: VSCHAR; a token with 1,000 roles in it has 30 KB
# These blame our registration at the provider, not the person who logs in.
_OUR_FAULT = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    """What the token endpoint gave. The access token is there only if it is of type Bearer, the one we can use."""

    id_token: str = field(repr=False)
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)


def authorization_request(
    metadata: ProviderMetadata,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: Iterable[str],
    state: str,
    nonce: str,
    code_verifier: str,
) -> str:
    """The URL that sends the browser to the provider, with ``openid`` always asked for (Core 3.1.2.1)."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode("ascii")).digest()).decode().rstrip("=")
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(dict.fromkeys(("openid", *scopes))),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    endpoint = metadata.authorization_endpoint
    # RFC 6749 3.1: a query of the endpoint "MUST be retained when adding additional query parameters"
    joint = "?" if "?" not in endpoint else "" if endpoint.endswith(("?", "&")) else "&"
    return endpoint + joint + urlencode(parameters, quote_via=quote)


def check_response_issuer(metadata: ProviderMetadata, issuer: str | None) -> None:
    """Compare ``iss`` of the authorization response (RFC 9207 2.4), which is what stops a mix-up.

    Raises:
        LoginRefused: when it names somebody else, or is missing though the provider promises it.
    """
    if issuer is None and metadata.iss_in_response:
        raise LoginRefused("the answer to the login carries no 'iss', although the identity provider promises it")
    if issuer is not None and issuer != metadata.issuer:
        raise LoginRefused("the answer to the login comes from another issuer than the configured one")


def token_request(
    metadata: ProviderMetadata,
    *,
    client_id: str,
    client_secret: str | None,
    code: str,
    redirect_uri: str,
    code_verifier: str,
) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and form of the POST to `metadata.token_endpoint`.

    Raises:
        IdentityProviderUnavailable: if we hold a secret and the provider takes it in no way we know.
    """
    headers, form = client_authentication(metadata, client_id, client_secret)
    form |= {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier,
    }
    return headers, form


def client_authentication(
    metadata: ProviderMetadata, client_id: str, client_secret: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and form of any POST to the token endpoint, as far as they say who we are.

    Raises:
        IdentityProviderUnavailable: as `token_request`.
    """
    headers = {"accept": "application/json"}
    form: dict[str, str] = {}
    if client_secret is None:
        form["client_id"] = client_id
    elif "client_secret_basic" in metadata.token_auth_methods:
        # RFC 6749 2.3.1: identifier and secret are each "encoded using the application/x-www-form-urlencoded"
        # algorithm before they become user name and password.
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif "client_secret_post" in metadata.token_auth_methods:
        form |= {"client_id": client_id, "client_secret": client_secret}
    else:
        known = quotable(", ".join(metadata.token_auth_methods))
        raise IdentityProviderUnavailable(
            f"its token endpoint authenticates clients by {known} only; we know client_secret_basic and "
            "client_secret_post, or a public client without auth.clientSecret"
        )
    return headers, form


def process_token_response(status: int, headers: Mapping[str, str], body: bytes) -> ProviderTokens:
    """The ID token of the token endpoint's answer, and what may ask the provider for more, now or later.

    Header names are lower case.

    Raises:
        LoginRefused: when the provider refuses this code.
        IdentityProviderUnavailable: when it is ill, or refuses us as a client.
    """
    kind = quotable(headers.get("content-type", "no content type"), 60)
    try:
        fields = read_object(body)
    except ValueError as exc:
        raise IdentityProviderUnavailable(f"its token endpoint answered {status} ({kind}), {exc}") from None
    if status == 200:
        id_token = fields.get("id_token")
        if isinstance(id_token, str) and id_token:
            return ProviderTokens(id_token, bearer_token(fields), refresh_token(fields))
        raise IdentityProviderUnavailable("its token endpoint sent no id_token; is our client allowed scope 'openid'?")
    error = fields.get("error")
    if not isinstance(error, str) or not _ERROR_CODE.fullmatch(error):
        raise IdentityProviderUnavailable(f"its token endpoint answered {status} without an OAuth error code")
    words = fields.get("error_description")
    detail = f"{error} ({quotable(words)})" if isinstance(words, str) and words else error
    if error in _OUR_FAULT:
        raise IdentityProviderUnavailable(
            f"its token endpoint refuses us: {detail}; check auth.clientId and auth.clientSecret"
        )
    if status in (400, 403):
        raise LoginRefused(f"the identity provider refuses the login: {detail}")
    raise IdentityProviderUnavailable(f"its token endpoint answered {status}: {detail}")


def bearer_token(fields: Mapping[str, Any]) -> str | None:
    """The access token of a token answer, if it is one that we can use."""
    # RFC 6749 7.1: "The client MUST NOT use an access token if it does not understand the token type"; the type's
    # value is case insensitive (5.1). The login itself needs no access token, so nothing is refused yet.
    token, kind = fields.get("access_token"), fields.get("token_type")
    usable = isinstance(token, str) and _BEARER.fullmatch(token) and isinstance(kind, str) and kind.lower() == "bearer"
    return token if usable else None


def refresh_token(fields: Mapping[str, Any]) -> str | None:
    """The refresh token of a token answer, if it has one."""
    token = fields.get("refresh_token")
    return token if isinstance(token, str) and _BEARER.fullmatch(token) else None
