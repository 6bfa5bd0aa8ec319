"""Sealed values and the ring of keys behind them."""

from __future__ import annotations

import base64
import json
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Unsealable
from aggregator.protocol.sealing import DAY, MAX_TOKEN, KeyRing, Purpose, column_key_id, key_id

NOW = 1_800_000_000.0
K1, K2 = (bytes([number]) * 32 for number in (1, 2))
ROLL_OUT = ((K1,), (K1, K2), (K2, K1), (K2,))  # one deployment after the other
ROW = ("aHR0cHM|ada", "gmail", "access_token")


def opens(ring: KeyRing, token: str, purpose: Purpose = Purpose.ACCESS) -> bool:
    try:
        return bool(ring.open(purpose, token, now=NOW)["who"] == "ada")
    except Unsealable:
        return False


def sealed(ring: KeyRing, purpose: Purpose = Purpose.ACCESS, lifetime: float | None = 60) -> str:
    return ring.seal(purpose, {"who": "ada"}, now=NOW, lifetime=lifetime)


def test_what_was_sealed_opens_and_ends() -> None:
    ring = KeyRing([K1])
    token = sealed(ring)
    assert ring.open(Purpose.ACCESS, token, now=NOW + 59) == {"who": "ada", "iat": NOW, "exp": NOW + 60}
    with pytest.raises(Unsealable):
        ring.open(Purpose.ACCESS, token, now=NOW + 60)
    assert ring.open(Purpose.ACCESS, sealed(ring, lifetime=None), now=NOW + 9999 * DAY)["who"] == "ada"


@pytest.mark.parametrize("purpose", Purpose)
def test_a_token_of_one_purpose_opens_for_no_other(purpose: Purpose) -> None:
    ring = KeyRing([K1])
    token = sealed(ring, purpose)
    assert [other for other in Purpose if opens(ring, token, other)] == [purpose]


@pytest.mark.parametrize(("sealing", "opening"), list(product(ROLL_OUT, repeat=2)))
def test_a_ring_opens_what_any_of_its_keys_sealed_and_nothing_else(
    sealing: tuple[bytes, ...], opening: tuple[bytes, ...]
) -> None:
    """Every pair of instances that can meet in any order of a roll-out."""
    one, other = KeyRing(sealing), KeyRing(opening)
    assert opens(other, sealed(one)) == (sealing[0] in opening)
    column = one.encrypt_column("secret", row=ROW)
    if sealing[0] in opening:
        assert other.decrypt_column(column, row=ROW) == "secret"
    else:
        with pytest.raises(Unsealable):
            other.decrypt_column(column, row=ROW)


def test_neighbours_of_the_documented_roll_out_open_each_others_tokens() -> None:
    """In any other order some pair does not: ([k1], [k2, k1]) is why the middle step exists."""
    for before, after in pairwise(ROLL_OUT):
        for one, other in ((before, after), (after, before)):
            assert opens(KeyRing(other), sealed(KeyRing(one)))
    assert not opens(KeyRing([K1]), sealed(KeyRing([K2, K1])))


def test_replacing_the_keys_takes_effect_at_once_also_for_what_was_opened_before() -> None:
    ring = KeyRing([K1])
    token, edition = sealed(ring), ring.edition
    assert opens(ring, token)
    ring.replace([K2, K1])
    assert ring.edition is not edition
    assert opens(ring, token)
    assert ring.key_ids == (key_id(K2), key_id(K1))
    assert opens(KeyRing([K2]), sealed(ring))
    ring.replace([K2])
    assert not opens(ring, token)


def test_keys_that_cannot_be_used_leave_the_ring_as_it_was() -> None:
    ring = KeyRing([K1])
    for bad in ([], [K2, b"short"]):
        with pytest.raises(ValueError, match="32 bytes"):
            ring.replace(bad)
        with pytest.raises(ValueError, match="32 bytes"):
            KeyRing(bad)
    assert ring.key_ids == (key_id(K1),)


def test_the_same_key_twice_is_one_key() -> None:
    assert KeyRing([K1, K1]).key_ids == (key_id(K1),)


def test_a_keys_name_is_in_its_tokens_and_tells_nothing() -> None:
    token = sealed(KeyRing([K1]))
    head = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert head["kid"] == f"{key_id(K1)}.{int(NOW // DAY)}"
    assert key_id(K1) in repr(KeyRing([K1]))
    assert K1.hex() not in repr(KeyRing([K1]))


def test_a_column_names_its_key_and_is_bound_to_its_row() -> None:
    ring = KeyRing([K1])
    column = ring.encrypt_column("secret", row=ROW)
    assert column_key_id(column) == key_id(K1)
    for row in (("aHR0cHM|bob", *ROW[1:]), (*ROW[:2], "refresh_token"), (ROW[0], "wiki", ROW[2])):
        with pytest.raises(Unsealable):
            ring.decrypt_column(column, row=row)


@pytest.mark.parametrize("blob", [b"", b"x", b"\xff" * 40, b"12345678", b"a" * 8 + bytes(range(40))])
def test_other_bytes_are_no_column(blob: bytes) -> None:
    assert column_key_id(blob) != key_id(K1)
    with pytest.raises(Unsealable):
        KeyRing([K1]).decrypt_column(blob, row=ROW)


@pytest.mark.requirement("AP1")
@pytest.mark.requirement("TK12")
@given(st.integers(0, 400), st.integers(0, 255), st.sampled_from(["flip", "cut", "double", "insert"]))
def test_an_altered_token_is_unsealable_and_never_another_error(place: int, byte: int, how: str) -> None:
    ring = KeyRing([K1])
    token = sealed(ring)
    place %= len(token)
    altered = {
        "flip": token[:place] + chr(byte) + token[place + 1 :],
        "cut": token[:place],
        "double": token + token[place:],
        "insert": token[:place] + chr(byte) + token[place:],
    }[how]
    assert opens(ring, altered) == (altered == token)


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.requirement("AP1")
@given(st.dictionaries(_TEXTS, _VALUES, max_size=4), st.sampled_from(Purpose))
def test_whatever_was_sealed_opens_as_it_was(payload: dict[str, Any], purpose: Purpose) -> None:
    ring = KeyRing([K1])
    opened = ring.open(purpose, ring.seal(purpose, payload, now=NOW, lifetime=60), now=NOW)
    assert opened == {**payload, "iat": NOW, "exp": NOW + 60}


@pytest.mark.requirement("AP1")
@pytest.mark.parametrize("taken", list(product([False, True], repeat=5)))
def test_parts_of_two_tokens_make_no_third(taken: tuple[bool, ...]) -> None:
    ring = KeyRing([K1])
    one, other = (ring.seal(Purpose.ACCESS, {"who": "ada", "n": n}, now=NOW, lifetime=60) for n in (1, 2))
    parts = zip(taken, one.split("."), other.split("."), strict=True)
    spliced = ".".join(second if is_taken else first for is_taken, first, second in parts)
    assert opens(ring, spliced) == (spliced in (one, other))


@given(st.text(max_size=300) | st.just("a" * (MAX_TOKEN + 1)))
def test_any_text_is_unsealable(text: str) -> None:
    assert not opens(KeyRing([K1]), text)
