"""The deployment's secret: what may be one, and the key it becomes.

This file owns the rules for `secret` and the reading of secrets from files. It
must not know what the key seals.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model import Secret
from .scalars import Wrong, parse_text, show

KEY_BYTES = 32
MIN_PASSPHRASE = 16  # characters
MIN_DISTINCT = 6  # of them; below, it is one key held down

# Memory 32 MiB and about 0.1 s, once at start. OWASP's floor for scrypt is n=2**17; a login form pays it per guess, we
# pay it per pod start, and the warning asks for a real key anyway.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
# The salt is fixed because every instance must come to the same key from the same text and has nothing else in common
# with the others. What a random salt would buy, that two deployments with one passphrase differ, is given up;
# hence the warning.
SALT = b"mcp-aggregator/v1"

# Words that stand in examples and default configurations. A text made of nothing else is known to everyone.
_WORDS = frozenset(
    "please change changed changeit me this now my your our the a an some super very top long secret secrets key keys "
    "password passwords passwd pass passphrase phrase word default example examples sample test testing demo dummy "
    "placeholder replace insert here todo admin root user token signing session value string random letmein qwerty "
    "mcp aggregator foo bar baz foobar".split()
)
_STARTS_KNOWN = re.compile(r"(?:please)?(?:changeme|changethis|changeit|replaceme|password|letmein)")
_SEQUENCES = ("0123456789" * 8, "9876543210" * 8, "1234567890" * 8, "abcdefghijklmnopqrstuvwxyz" * 3)


@dataclass(frozen=True, slots=True)
class KeyText:
    """The text is a key: random bytes, written as hex or base64url."""

    key: bytes

    def __repr__(self) -> str:
        return "KeyText(***)"


@dataclass(frozen=True, slots=True)
class Passphrase:
    """The text is something a person made up; it becomes a key by scrypt."""

    text: str

    def __repr__(self) -> str:
        return "Passphrase(***)"


def check_secret(text: str) -> KeyText | Passphrase:
    """What `text` is.

    Raises:
        ValueError: if it is too short, well known, or one character over and over. The message never holds the text.
    """
    remedy = "make one with 'mcp-aggregator secret new'"
    if len(text) < MIN_PASSPHRASE:
        raise Wrong(f"has {len(text)} characters, which can be guessed; {MIN_PASSPHRASE} is the least: {remedy}")
    if len(set(text)) < MIN_DISTINCT or any(text.lower() in sequence for sequence in _SEQUENCES):
        raise Wrong(f"is a few characters over and over, which can be guessed: {remedy}")
    letters = re.sub(r"[^a-z]", "", text.lower())
    if _STARTS_KNOWN.match(letters) or _is_made_of_words(letters):
        raise Wrong(f"is a well-known example, which everyone can guess: {remedy}")
    key = _decoded(text)
    return KeyText(key) if key is not None else Passphrase(text)


def derive_key(secret: Secret) -> bytes:
    """The key of 32 bytes or more that `secret` stands for; the same in every process.

    Raises:
        ValueError: as `check_secret`.
    """
    match check_secret(secret.reveal()):
        case KeyText(key):
            return key
        case Passphrase(text):
            return hashlib.scrypt(
                text.encode(), salt=SALT, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=64 * 2**20, dklen=KEY_BYTES
            )


def new_secret() -> str:
    """A fresh key as a text: 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode().rstrip("=")


def read_secret(value: Any, cwd: Path) -> Secret:
    """A secret from the file: a text, or ``{"file": PATH}`` whose content it is, less one trailing line break.

    Raises:
        Wrong: without ever quoting the text.
    """
    match value:
        case {"file": path, **rest} if not rest:
            return Secret(_read_file(parse_text(path), cwd), file=str(cwd / path))
        case str():
            if not value:
                raise Wrong("an empty text; give the secret or remove the key")
            return Secret(str(value))
        case bool() | int() | float():
            raise Wrong("is not a text; put it in quotes")
    raise Wrong(f'{show(value)} is not a secret; give a text or {{"file": "/run/secrets/..."}}')


def read_deployment_secret(value: Any, cwd: Path) -> Secret:
    """As `read_secret`, for a secret that is to become a key.

    Raises:
        Wrong: also if it cannot be one.
    """
    secret = read_secret(value, cwd)
    check_secret(secret.reveal())
    return secret


def _read_file(path: str, cwd: Path) -> str:
    try:
        text = (cwd / path).read_text(encoding="utf-8")
    except OSError as exc:
        raise Wrong(f"the file {show(path)} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError:
        raise Wrong(f"the file {show(path)} is not UTF-8 text; write the secret as text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Wrong(f"the file {show(path)} is empty")
    return text


def _is_made_of_words(letters: str) -> bool:
    """Whether `letters` is nothing but well-known words. Looks at each position once; a regex would try every split."""
    reached = {0}
    for start in range(len(letters)):
        if start in reached:
            reached.update(start + len(word) for word in _WORDS if letters.startswith(word, start))
    return bool(letters) and len(letters) in reached


def _decoded(text: str) -> bytes | None:
    """The bytes, if this is hex or base64 (either alphabet: ``openssl rand -base64 32`` is common) of 32 or more."""
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text, re.ASCII):
        decoded = bytes.fromhex(text)
    elif re.fullmatch(r"[A-Za-z0-9_-]+={0,2}|[A-Za-z0-9+/]+={0,2}", text, re.ASCII):
        bare = text.rstrip("=").replace("+", "-").replace("/", "_")
        try:
            decoded = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
        except binascii.Error:
            return None
    else:
        return None
    return decoded if len(decoded) >= KEY_BYTES else None
