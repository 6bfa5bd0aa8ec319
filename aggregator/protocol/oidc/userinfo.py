"""Claims that the provider tells at its userinfo endpoint only (OIDC Core 5.3), asked for when a login needs them.

Core 5.4 lets providers keep the claims of scopes out of ID tokens wherever an
access token is issued too, and some do. This file decides which claims are
missing, and what of the answer counts; it knows nothing of people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import IdentityProviderUnavailable, LoginRefused
from .discovery import ProviderMetadata
from .documents import quotable, read_object
from .exchange import ProviderTokens

_EMAIL = ("email", "email_verified")
_ERROR = re.compile(r'\berror="([a-z_]{1,40})"')


def missing_claims(claims: Mapping[str, Any], user_claim: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """What the ID token does not tell of the claims that decide who somebody is and whether they may enter."""
    needed = dict.fromkeys((user_claim, *allowed))
    if "email" in needed:
        needed |= dict.fromkeys(_EMAIL)  # an address counts only together with the word that it was verified
    return tuple(name for name in needed if claims.get(name) is None)


def userinfo_request(metadata: ProviderMetadata, tokens: ProviderTokens) -> tuple[str, dict[str, str]] | None:
    """URL and headers of the GET that asks for more claims; None if the provider has no such endpoint.

    Raises:
        IdentityProviderUnavailable: if there is an endpoint, and no access token that we could show it.
    """
    if metadata.userinfo_endpoint is None:
        return None
    if tokens.access_token is None:
        raise IdentityProviderUnavailable(
            "its token endpoint sent no access token of type Bearer, which its userinfo endpoint wants for the claims "
            "that the ID token lacks; have it put them into ID tokens"
        )
    # Core 5.3.1: "It is RECOMMENDED that the request use the HTTP GET method and the Access Token be sent using the
    # Authorization header field."
    return metadata.userinfo_endpoint, {
        "accept": "application/json",
        "authorization": f"Bearer {tokens.access_token}",
    }


def process_userinfo_response(
    status: int, headers: Mapping[str, str], body: bytes, claims: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The `claims` of the ID token with those that it lacks; what the ID token says itself stays.

    Header names are lower case.

    Raises:
        LoginRefused: if the answer speaks of somebody else.
        IdentityProviderUnavailable: if it is no answer that we can use.
    """
    kind = headers.get("content-type", "no content type")
    if status != 200:
        code = _ERROR.search(headers.get("www-authenticate", ""))
        detail = f": {code[1]}; may our client ask for what auth.scopes lists?" if code else ""
        raise IdentityProviderUnavailable(f"its userinfo endpoint answered {status}{detail}")
    if kind.lower().startswith("application/jwt"):
        # Core 5.3.2: signed or encrypted only if it "was requested by the Client during Registration"
        raise IdentityProviderUnavailable(
            "its userinfo endpoint answers with a JWT, and we read JSON; take the signature of userinfo answers "
            "(userinfo_signed_response_alg) out of our client's registration there"
        )
    try:
        told = read_object(body)
    except ValueError as exc:
        raise IdentityProviderUnavailable(f"its userinfo endpoint sent {quotable(kind, 60)}, {exc}") from None
    # Core 5.3.2: "The sub Claim in the UserInfo Response MUST be verified to exactly match the sub Claim in the ID
    # Token; if they do not match, the UserInfo Response values MUST NOT be used."
    if told.get("sub") != claims.get("sub"):
        raise LoginRefused("the userinfo answer of the identity provider is about another person than its ID token")
    return _merged(claims, told)


def _merged(claims: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**told, **{name: value for name, value in claims.items() if value is not None}}
    if told.get("email") is not None and any(claims.get(name) is None for name in _EMAIL):
        # One document's "verified" must never vouch for the other document's address.
        merged |= {name: told.get(name) for name in _EMAIL}
    elif claims.get("email") is not None:
        merged |= {name: claims.get(name) for name in _EMAIL}
    return merged
