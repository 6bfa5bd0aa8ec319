"""Which person the claims of a valid login name, and whether ours is a house they may enter.

This file knows nothing of tokens, keys or providers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import LoginRefused
from ..principal import Person, principal_of

MAX_SUBJECT = 255  # Core 2: sub "MUST NOT exceed 255 ASCII characters in length"
MAX_LABEL = 100


def person_from_claims(
    claims: Mapping[str, Any], issuer: str, user_claim: str, allow: Mapping[str, Sequence[str]]
) -> Person:
    """The person, keyed by (issuer, `user_claim`) as Core 5.7 wants it; `issuer` is the discovered one.

    `allow` is `auth.allow`: every claim named there must have, or contain, one of the values given.

    Raises:
        LoginRefused: if the claim is missing, cannot name a person, or the person is not allowed in.
    """
    if (user_claim == "email" or "email" in allow) and _as_text(claims.get("email_verified")) != "true":
        # Core 5.1: without it the provider has taken no "affirmative steps to ensure that this e-mail address was
        # controlled by the End-User"; anybody could claim anybody's.
        raise LoginRefused("the identity provider does not call this e-mail address verified (claim 'email_verified')")
    subject = _subject(claims, user_claim)
    for name, values in allow.items():
        _check_allowed(claims, name, values)
    return Person(principal_of(issuer, subject), _label(claims, subject))


def _subject(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise LoginRefused(
            f"the identity provider tells no claim '{name}' (auth.userClaim), neither in the ID token nor at its "
            "userinfo endpoint: ask for the scope that brings it (auth.scopes), or have the identity provider send it"
        )
    subject = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise LoginRefused(
            f"the claim '{name}' (auth.userClaim) cannot name a person: it must be a number, or text of 1 to "
            f"{MAX_SUBJECT} printable characters"
        )
    return subject


def _check_allowed(claims: Mapping[str, Any], name: str, values: Sequence[str]) -> None:
    claim = claims.get(name)
    if claim is None:
        raise LoginRefused(
            f"the identity provider tells no claim '{name}', which auth.allow asks for: this account has none, or the "
            "scope that brings it is missing from auth.scopes"
        )
    held = claim if isinstance(claim, list) else [claim]
    if not any(_as_text(item) in values for item in held):
        raise LoginRefused(f"this account is not allowed in: its claim '{name}' has no value that auth.allow lists")


def _as_text(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case _:
            return None


def _label(claims: Mapping[str, Any], subject: str) -> str:
    for name in ("preferred_username", "email", "name"):
        value = claims.get(name)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value.strip()[:MAX_LABEL]
    return subject[:MAX_LABEL]
