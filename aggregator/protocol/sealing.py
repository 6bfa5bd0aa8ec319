"""Sealed values: what travels through other people's hands and only we can read.

A sealed token is a compact JWE (RFC 7516), ``dir`` + ``A256GCM``. Its key is
derived with HKDF-SHA256 from one key of the ring, the purpose and the day of
sealing, so that a token of one purpose can never pass for another, and no
AES-GCM key comes near its budget of 2**32 random nonces (SP 800-38D 8.3).
``kid`` names ring key and day and is looked up exactly: there is no trial
decryption. This file knows nothing of what the payloads mean.

Columns of the store are sealed by `encrypt_column`, bound to their row.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from ..errors import Unsealable

KEY_BYTES = 32
MAX_TOKEN = 8 * 1024  # characters; checked before any parsing (joserfc itself stops at about 66 KiB)
ALGORITHMS = ["dir", "A256GCM"]  # an allow-list also refuses "zip" and PBES2
DAY = 86400

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{22}", re.ASCII)
_KID = re.compile(r"([A-Za-z0-9_-]{8})\.(0|[1-9][0-9]{0,5})", re.ASCII)


class Purpose(StrEnum):
    """What a sealed token is for. Each has keys of its own."""

    CLIENT = "client"
    FLOW = "flow"
    QUESTION = "question"
    ANSWER = "answer"
    CODE = "code"
    ACCESS = "access"
    REFRESH = "refresh"
    SESSION = "session"
    CURSOR = "cursor"


class KeyRing:
    """The keys of one deployment, newest first: the first seals, all open.

    Raises:
        ValueError: if there is no key, or one is shorter than 32 bytes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < KEY_BYTES for key in keys):
            raise ValueError(f"a key ring needs at least one key, each of {KEY_BYTES} bytes or more")
        self._keys = {_key_id(key): key for key in keys}
        self._first = _key_id(keys[0])
        self._derived = lru_cache(maxsize=256)(self._derive)

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"

    def seal(self, purpose: Purpose, payload: Mapping[str, Any], *, now: float, lifetime: float | None) -> str:
        """`payload` as a sealed token that opens until `now` + `lifetime`, or as long as its key lives if None.

        The keys ``iat`` and ``exp`` of the payload are ours.
        """
        content = {**payload, "iat": now}
        if lifetime is not None:
            content["exp"] = now + lifetime
        kid = f"{self._first}.{int(now // DAY)}"
        header = {"alg": "dir", "enc": "A256GCM", "typ": purpose.value, "kid": kid}
        plaintext = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return jwe.encrypt_compact(header, plaintext, self._derived(purpose, kid), algorithms=ALGORITHMS)

    def open(self, purpose: Purpose, token: str, *, now: float) -> dict[str, Any]:
        """The payload of a token that `seal` made for this `purpose`.

        Raises:
            Unsealable: for every other input: foreign, altered, expired, of another purpose or a dropped key.
        """
        if len(token) > MAX_TOKEN or not _COMPACT.fullmatch(token):
            raise Unsealable("not a sealed token")
        try:
            header = json.loads(_decode(token.partition(".")[0]))
            kid = header["kid"]
            if header != {"alg": "dir", "enc": "A256GCM", "typ": purpose.value, "kid": kid} or not isinstance(kid, str):
                raise Unsealable("not sealed by us for this purpose")
            opened = jwe.decrypt_compact(token, self._derived(purpose, kid), algorithms=ALGORITHMS)
            payload = json.loads(opened.plaintext or b"")
        # joserfc lets binascii.Error, ValueError and TypeError of hostile tokens through (measured on 1.8.0);
        # InvalidTag is cryptography's own.
        except (JoseError, InvalidTag, ValueError, TypeError, KeyError, RecursionError) as exc:
            raise Unsealable("the token cannot be opened") from exc
        if not isinstance(payload, dict):
            raise Unsealable("the token holds no object")
        if "exp" in payload and not now < payload["exp"]:
            raise Unsealable("the token has expired")
        return payload

    def encrypt_column(self, text: str, *, row: Sequence[str]) -> bytes:
        """`text` for a column of the store, bound to `row` (person, upstream, column): it opens nowhere else."""
        nonce = os.urandom(12)
        kid = f"{self._first}.0"
        sealed = AESGCM(self._bytes("column", kid)).encrypt(nonce, text.encode(), _row_data(row))
        return self._first.encode() + nonce + sealed

    def decrypt_column(self, blob: bytes, *, row: Sequence[str]) -> str:
        """The text of a column.

        Raises:
            Unsealable: if the blob was altered, belongs to another row, or its key is not in the ring.
        """
        try:
            kid = f"{blob[:8].decode('ascii')}.0"
            return AESGCM(self._bytes("column", kid)).decrypt(blob[8:20], blob[20:], _row_data(row)).decode()
        except (InvalidTag, ValueError) as exc:
            raise Unsealable("the column cannot be opened with the keys at hand") from exc

    def _derive(self, purpose: Purpose, kid: str) -> OctKey:
        return OctKey.import_key(self._bytes(purpose.value, kid))

    def _bytes(self, purpose: str, kid: str) -> bytes:
        match = _KID.fullmatch(kid)
        key = self._keys.get(match[1]) if match else None
        if match is None or key is None:
            raise Unsealable("sealed with a key that is not ours")
        info = f"mcp-aggregator/v1/{purpose}/{match[2]}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _key_id(key: bytes) -> str:
    """Eight characters that name a key and tell nothing about it."""
    digest = hashlib.sha256(b"mcp-aggregator/v1/kid" + key).digest()
    return base64.urlsafe_b64encode(digest[:6]).decode()


def _row_data(row: Sequence[str]) -> bytes:
    return json.dumps(["v1", *row], ensure_ascii=False).encode()


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
