"""The provider's public keys (RFC 7517), and the signature algorithms we accept.

Only what verifies a signature is kept of a key; private parts, certificates and
keys for encryption are dropped. This file knows nothing of tokens' contents.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ...errors import IdentityProviderUnavailable
from .documents import read_object

# Asymmetric only. "none" and HS* are absent on purpose (Core 3.1.3.7(6-8); RFC 8725 3.1): a public key must never
# be usable as an HMAC secret. "EdDSA" (RFC 8037) means Ed25519 here, which RFC 9864 calls by its own name.
ALGORITHMS: Final = {
    name: JWSRegistry.algorithms["Ed25519" if name == "EdDSA" else name]
    for name in ("RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519").split()
}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
_ED25519 = frozenset({"EdDSA", "Ed25519"})  # one algorithm under two names
_RSA_BITS = range(2048, 16384 + 1)  # RFC 7518 3.3: "2048 bits or larger MUST be used"; above, OpenSSL refuses itself
MAX_KEYS = 100  # a provider has two or three; each costs a parse and, without good kids, a verification


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key: its names, and what it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    key: RSAKey | ECKey | OKPKey

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `message`. A signature that cannot even be read is not."""
        try:
            return algorithm in self.algorithms and ALGORITHMS[algorithm].verify(message, signature, self.key)
        except (JoseError, ValueError, TypeError):
            return False


def parse_jwks(document: bytes) -> tuple[VerificationKey, ...]:
    """The keys of a JWK set that verify signatures by an algorithm we accept.

    RFC 7517 5: "Implementations SHOULD ignore JWKs within a JWK Set that use "kty" values that are not understood by
    them, that are missing required members, or for which values are out of the supported ranges."

    Raises:
        IdentityProviderUnavailable: if the document is no JWK set, or no key of it is of use.
    """
    try:
        found = read_object(document).get("keys")
    except ValueError as exc:
        raise IdentityProviderUnavailable(f"its key set cannot be used: it is {exc}") from None
    if not isinstance(found, list):
        raise IdentityProviderUnavailable("its key set cannot be used: 'keys' must be a list")
    keys = tuple(key for item in found[:MAX_KEYS] if (key := _parse_key(item)) is not None)
    if not keys:
        raise IdentityProviderUnavailable(
            f"its key set cannot be used: none of its {len(found)} keys verifies signatures (RSA of 2048 bits, "
            "P-256, P-384, P-521 or Ed25519)"
        )
    return keys


def _parse_key(item: Any) -> VerificationKey | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig":
        return None
    operations = item.get("key_ops", ["verify"])
    kid, alg = item.get("kid"), item.get("alg")
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kid, str | None):
        return None
    algorithms = _algorithms_of(item)
    if alg is not None:
        algorithms &= set() if not isinstance(alg, str) else _ED25519 if alg in _ED25519 else {alg}
    key = _import(item) if algorithms else None
    return VerificationKey(kid, algorithms, key) if key is not None else None


def _algorithms_of(item: dict[str, Any]) -> frozenset[str]:
    match item.get("kty"):
        case "RSA":
            return frozenset(name for name in ALGORITHMS if name.startswith(("RS", "PS")))
        case "EC" | "OKP" as kind:
            prefix = "ES" if kind == "EC" else "Ed"
            return frozenset(n for n, curve in _CURVES.items() if n.startswith(prefix) and curve == item.get("crv"))
        case _:
            return frozenset()


def _import(item: dict[str, Any]) -> RSAKey | ECKey | OKPKey | None:
    def public(*names: str) -> dict[str, str | list[str]]:
        return {name: item[name] for name in ("kty", *names)}

    try:
        match item["kty"]:
            case "RSA":
                modulus = int.from_bytes(base64.urlsafe_b64decode(item["n"] + "=="), "big")
                return RSAKey.import_key(public("n", "e")) if modulus.bit_length() in _RSA_BITS else None
            case "EC":
                return ECKey.import_key(public("crv", "x", "y"))
            case _:
                return OKPKey.import_key(public("crv", "x"))
    except (JoseError, ValueError, TypeError, KeyError):
        return None
