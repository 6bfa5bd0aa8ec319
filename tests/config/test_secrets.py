"""What may be the secret, and which key it becomes."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.model import Secret
from aggregator.config.secrets import KeyText, Passphrase, check_secret, derive_key, new_secret

RANDOM = hashlib.sha256(b"a test").digest()


@pytest.mark.parametrize(
    "text",
    [
        RANDOM.hex(),
        RANDOM.hex().upper(),
        base64.urlsafe_b64encode(RANDOM).decode(),
        base64.urlsafe_b64encode(RANDOM).decode().rstrip("="),
        base64.b64encode(RANDOM).decode(),
    ],
)
def test_random_bytes_in_any_usual_writing_are_the_key_itself(text: str) -> None:
    assert check_secret(text) == KeyText(RANDOM)
    assert derive_key(Secret(text)) == RANDOM


def test_a_longer_key_is_kept_whole() -> None:
    assert derive_key(Secret((RANDOM * 2).hex())) == RANDOM * 2


@pytest.mark.parametrize(
    "text",
    [
        "some-persistent-secret",
        "correct horse battery staple",
        "Tr0ub4dor&3-zebra",
        RANDOM[:16].hex(),
        "ключ от всех дверей",
    ],
)
def test_what_a_person_made_up_is_a_passphrase(text: str) -> None:
    assert check_secret(text) == Passphrase(text)


def test_a_passphrase_becomes_the_same_key_in_every_process() -> None:
    key = derive_key(Secret("some-persistent-secret"))
    # Changing this value would end every login of every deployment with a passphrase.
    assert key.hex() == "815360d73c00650b280b07cf45dda224482dead63850686a03021d56b2b948a1"
    assert len(key) == 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has 0 characters"),
        ("secret", "has 6 characters"),
        ("fifteen-letters", "has 15 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "over and over"),
        ("0" * 64, "over and over"),
        ("abababababababababab", "over and over"),
        ("01234567890123456789", "over and over"),
        ("abcdefghijklmnopqrstuvwxyz", "over and over"),
        ("changemechangeme", "well-known"),
        ("changeme-in-production", "well-known"),
        ("please-change-me-now!", "well-known"),
        ("password12345678", "well-known"),
        ("Password!Password!", "well-known"),
        ("secretsecretsecret", "over and over"),
        ("my-super-secret-key-123", "well-known"),
        ("default_secret_value", "well-known"),
        ("example example 1", "well-known"),
        ("replace-me-with-something", "well-known"),
        ("password" * 40 + "zz", "well-known"),
        ("secretpass" * 400 + "-topsecretkeypass", "well-known"),
    ],
)
def test_what_can_be_guessed_is_refused_without_repeating_it(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_secret(text)
    assert "mcp-aggregator secret new" in str(caught.value)
    assert not text or text not in str(caught.value) or text == "secret"
    with pytest.raises(ValueError, match=words):
        derive_key(Secret(text))


def test_a_new_secret_is_a_key_and_never_the_same() -> None:
    made = {new_secret() for _ in range(20)}
    assert len(made) == 20
    for text in made:
        kept = check_secret(text)
        assert isinstance(kept, KeyText)
        assert len(kept.key) == 32


@pytest.mark.requirement("AF27")
@given(st.text(max_size=80))
def test_every_text_is_a_key_a_passphrase_or_refused(text: str) -> None:
    try:
        kept = check_secret(text)
    except ValueError:
        return
    assert isinstance(kept, Passphrase) or len(kept.key) >= 32


def test_nothing_prints_a_secret() -> None:
    assert "hunter2" not in repr(Secret("hunter2")) + repr(Passphrase("hunter2")) + f"{Secret('hunter2')}"
    assert repr(KeyText(b"hunter2")) == "KeyText(***)"
