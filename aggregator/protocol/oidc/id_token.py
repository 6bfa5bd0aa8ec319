"""Is this ID token the provider's, for us, of this login, and of now? (OIDC Core 2 and 3.1.3.7)

The numbers in the comments are those of 3.1.3.7. This file knows nothing of who
the person is, nor of how the token came.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import LoginRefused
from .discovery import ProviderMetadata
from .documents import quotable, read_object
from .keys import ALGORITHMS, VerificationKey

LEEWAY = 60.0  # seconds two honest clocks may differ
MAX_ID_TOKEN = 64 * 1024  # characters; hundreds of groups fit
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Signed:
    algorithm: str
    kid: str | None
    message: bytes
    signature: bytes
    payload: bytes


def is_signed_by(id_token: str, keys: Iterable[VerificationKey]) -> bool:
    """Whether one of `keys` made the token's signature; if not, the keys may be old and worth reading again.

    Raises:
        LoginRefused: if no key could ever make it acceptable (not a JWT, ``alg`` none or HS256, ``crit``).
    """
    return _verifies(_parse(id_token), keys)


def validate_id_token(
    id_token: str,
    keys: Iterable[VerificationKey],
    metadata: ProviderMetadata,
    *,
    client_id: str,
    nonce: str | None,
    now: float,
) -> Mapping[str, Any]:
    """The claims of an ID token that is valid for this login; unknown claims are kept.

    `nonce` is None for a token that came by a refresh: Core 12.2, "it SHOULD NOT have a nonce Claim".

    Raises:
        LoginRefused: naming the first check that failed, and nothing of the token itself.
    """
    signed = _parse(id_token)
    if not _verifies(signed, keys):  # 6, 7
        raise _refused("its signature is by none of the identity provider's keys")
    claims = _read(signed.payload)
    if claims.get("iss") != metadata.issuer:  # 2
        raise _refused("'iss' is not the identity provider's issuer")
    _check_audience(claims, client_id)  # 3, 4, 5
    _check_times(claims, now)  # 9, 10
    if nonce is not None and not _is_text(claims.get("nonce"), nonce):  # 11
        raise _refused("'nonce' is not the one of this login")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise _refused("'sub' is missing")
    return claims


def _is_text(claimed: Any, expected: str) -> bool:
    return isinstance(claimed, str) and hmac.compare_digest(claimed.encode(), expected.encode())


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise _refused("'aud' does not name our auth.clientId")
    if any(other != client_id for other in audiences):
        raise _refused("'aud' names others beside our auth.clientId")
    if claims.get("azp", client_id) != client_id:
        raise _refused("'azp' names another client")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    # RFC 7519 2: a NumericDate may be "non-integer"; providers exist that send floats.
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if now >= expires + LEEWAY:
        raise _refused("it has expired; are the clocks of both sides right?")
    if issued > now + LEEWAY or ("nbf" in claims and _time(claims, "nbf") > now + LEEWAY):
        raise _refused("it is from the future; are the clocks of both sides right?")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _refused(f"'{name}' is missing or no time")
    return value


def _parse(id_token: str) -> _Signed:
    """The parts of a compact JWS (RFC 7515 7.1) whose header we understand."""
    segments = id_token.split(".")
    if len(id_token) > MAX_ID_TOKEN or len(segments) != 3 or not all(_SEGMENT.fullmatch(s) for s in segments[:2]):
        raise _refused("it is not a signed JWT")
    head, payload, signature = segments
    header = _read(_decode(head))
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused(f"it is signed with '{quotable(str(algorithm), 20)}'; we accept {', '.join(ALGORITHMS)}")
    # RFC 7515 4.1.11: a recipient that does not understand an extension listed in "crit" refuses; we understand none.
    # "b64" (RFC 7797) counts only if listed there, and forbids itself for JWTs.
    if "crit" in header or "b64" in header:
        raise _refused("its header has critical extensions, and we know none")
    if not isinstance(kid, str | None):
        raise _refused("'kid' is not text")
    return _Signed(algorithm, kid, f"{head}.{payload}".encode(), _decode(signature), _decode(payload))


def _verifies(signed: _Signed, keys: Iterable[VerificationKey]) -> bool:
    suitable = [key for key in keys if signed.algorithm in key.algorithms]
    if signed.kid is not None:
        # Keys that share a kid all belong to the issuer; any of them may have signed.
        suitable = [key for key in suitable if key.kid == signed.kid]
    elif len(suitable) > 1:
        # Core 10.1: "If there are multiple keys in the referenced JWK Set document, a kid value MUST be provided"
        raise _refused("it names no key ('kid'), and the identity provider has several of that kind")
    return any(key.verifies(signed.algorithm, signed.message, signed.signature) for key in suitable)


def _decode(segment: str) -> bytes:
    try:
        decoded = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _refused("it is not base64url") from None
    if base64.urlsafe_b64encode(decoded).decode().rstrip("=") != segment:
        raise _refused("it is not base64url in its one right form")
    return decoded


def _read(part: bytes) -> dict[str, Any]:
    try:
        return read_object(part)
    except ValueError as exc:
        raise _refused(f"a part of it is {exc}") from None


def _refused(reason: str) -> LoginRefused:
    return LoginRefused(f"the ID token is refused: {reason}")
