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
    REQUEST_STATE = "request-state"
    BROWSER = "browser"
    SIGN_IN = "sign-in"
    CONNECT = "connect"
    TASK = "task"


class KeyRing:
    """The keys of one deployment, newest first: the first seals, all open.

    Everybody who seals or opens holds this object; `replace` gives it other keys while they do. Each call works with
    the keys of one moment, from whichever thread it comes.

    Raises:
        ValueError: if there is no key, or one is shorter than 32 bytes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._held = _Keys.of(keys)

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self.key_ids)}>"

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The names of the keys, the one that seals first. They stand in every token's header and are no secrets."""
        return tuple(self._held.by_id)

    @property
    def edition(self) -> object:
        """Another object after each `replace`: whoever remembers what was opened forgets it then."""
        return self._held.edition

    def replace(self, keys: Sequence[bytes]) -> None:
        """From now on these are the keys, all at once; what a key that is no longer among them sealed opens no more.

        Raises:
            ValueError: as for a new ring; the keys stay as they were.
        """
        self._held = _Keys.of(keys)

    def seal(self, purpose: Purpose, payload: Mapping[str, Any], *, now: float, lifetime: float | None) -> str:
        """`payload` as a sealed token that opens until `now` + `lifetime`, or as long as its key lives if None.

        The keys ``iat`` and ``exp`` of the payload are ours.
        """
        content = {**payload, "iat": now}
        if lifetime is not None:
            content["exp"] = now + lifetime
        held = self._held
        kid = f"{held.first}.{int(now // DAY)}"
        header = {"alg": "dir", "enc": "A256GCM", "typ": purpose.value, "kid": kid}
        plaintext = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        return jwe.encrypt_compact(header, plaintext, held.derived(purpose, kid), algorithms=ALGORITHMS)

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
            opened = jwe.decrypt_compact(token, self._held.derived(purpose, kid), algorithms=ALGORITHMS)
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
        held, nonce = self._held, os.urandom(12)
        sealed = AESGCM(held.bytes_for("column", f"{held.first}.0")).encrypt(nonce, text.encode(), _row_data(row))
        return held.first.encode() + nonce + sealed

    def decrypt_column(self, blob: bytes, *, row: Sequence[str]) -> str:
        """The text of a column.

        Raises:
            Unsealable: if the blob was altered, belongs to another row, or its key is not in the ring.
        """
        try:
            kid = f"{column_key_id(blob)}.0"
            return AESGCM(self._held.bytes_for("column", kid)).decrypt(blob[8:20], blob[20:], _row_data(row)).decode()
        except (InvalidTag, ValueError) as exc:
            raise Unsealable("the column cannot be opened with the keys at hand") from exc


class _Keys:
    """The keys of one moment, and what was derived from them: gone with them, or a dropped key would open for ever."""

    def __init__(self, by_id: Mapping[str, bytes]) -> None:
        self.by_id = by_id
        self.first = next(iter(by_id))
        self.edition = object()
        self.derived = lru_cache(maxsize=256)(self._derive)

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> _Keys:
        if not keys or any(len(key) < KEY_BYTES for key in keys):
            raise ValueError(f"a key ring needs at least one key, each of {KEY_BYTES} bytes or more")
        return cls({key_id(key): key for key in keys})

    def _derive(self, purpose: Purpose, kid: str) -> OctKey:
        return OctKey.import_key(self.bytes_for(purpose.value, kid))

    def bytes_for(self, purpose: str, kid: str) -> bytes:
        match = _KID.fullmatch(kid)
        key = self.by_id.get(match[1]) if match else None
        if match is None or key is None:
            raise Unsealable("sealed with a key that is not ours")
        info = f"mcp-aggregator/v1/{purpose}/{match[2]}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def column_key_id(blob: bytes) -> str:
    """The name of the key under which a column was encrypted; a text that names no key if it was not.

    Looks at the beginning only: whether it opens is for `KeyRing.decrypt_column` to say.
    """
    return blob[:8].decode("ascii", "replace")


def key_id(key: bytes) -> str:
    """Eight characters that name a key and tell nothing about it."""
    digest = hashlib.sha256(b"mcp-aggregator/v1/kid" + key).digest()
    return base64.urlsafe_b64encode(digest[:6]).decode()


def _row_data(row: Sequence[str]) -> bytes:
    return json.dumps(["v1", *row], ensure_ascii=False).encode()


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
