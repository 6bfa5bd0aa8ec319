"""Keys and ID tokens made in the test. It signs whatever it is told, the wrong things too."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

NOW = 1_800_000_000.0
ISSUER = "https://id.example.com"
CLIENT_ID = "mcp-aggregator"
NONCE = "the-nonce-of-this-login"

Key = RSAKey | ECKey | OKPKey


@cache
def make_key(kind: str, serial: int = 0) -> Key:
    """A private key: RSA, P-256, P-384, P-521 or Ed25519; one per kind and serial in the whole run (RSA is slow)."""
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048)
        case "P-256" | "P-384" | "P-521":
            return ECKey.generate_key(kind)
        case "Ed25519":
            return OKPKey.generate_key("Ed25519")
        case _:
            raise AssertionError(kind)


KIND_OF = {
    **{f"{family}{bits}": "RSA" for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}


@dataclass(frozen=True)
class Signer:
    """A key, the name it has, and the algorithm it signs with."""

    alg: str = "RS256"
    kid: str | None = "k1"
    serial: int = 0

    @property
    def key(self) -> Key:
        return make_key(KIND_OF[self.alg], self.serial)

    def jwk(self, **more: Any) -> dict[str, Any]:
        names = {} if self.kid is None else {"kid": self.kid}
        return {**self.key.as_dict(private=False), **names, "alg": self.alg, "use": "sig", **more}

    def sign(self, payload: bytes, header: dict[str, Any] | None = None) -> str:
        full = {"alg": self.alg, **({} if self.kid is None else {"kid": self.kid}), **(header or {})}
        message = f"{b64(json.dumps(full).encode())}.{b64(payload)}"
        model = JWSRegistry.algorithms["Ed25519" if self.alg == "EdDSA" else self.alg]
        return f"{message}.{b64(model.sign(message.encode(), self.key))}"

    def id_token(self, *, header: dict[str, Any] | None = None, drop: str = "", **claims: Any) -> str:
        return self.sign(json.dumps(good_claims(drop=drop, **claims)).encode(), header)


def good_claims(*, drop: str = "", **changed: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": CLIENT_ID,
        "sub": "alice",
        "nonce": NONCE,
        "iat": NOW - 1,
        "exp": NOW + 300,
        **changed,
    }
    claims.pop(drop, None)
    return claims


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def hmac_token(secret: bytes, claims: dict[str, Any]) -> str:
    """The classic forgery: HS256 with the public key's bytes as the secret (RFC 8725 2.1)."""
    message = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{message}.{b64(hmac.digest(secret, message.encode(), 'sha256'))}"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
