"""`protocol.oidc.person`: who the claims name, and who may enter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from aggregator.errors import LoginRefused
from aggregator.protocol.oidc import person_from_claims
from aggregator.protocol.principal import Person, Principal

ISSUER = "https://id.example.com"


def person(
    claims: dict[str, Any], user_claim: str = "sub", allow: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Person:
    return person_from_claims({"sub": "a1", **claims}, ISSUER, user_claim, allow)


@pytest.mark.requirement("OI7")
def test_a_person_is_issuer_and_subject() -> None:
    found = person({"email": "alice@example.com", "preferred_username": "alice"})
    assert found.principal == Principal(ISSUER, "a1")


@pytest.mark.requirement("OI7")
def test_an_address_names_a_person_only_if_it_is_verified() -> None:
    verified = {"email": "alice@example.com", "email_verified": True}
    assert person(verified, "email").principal.subject == "alice@example.com"
    assert person({**verified, "email_verified": "true"}, "email").principal.subject == "alice@example.com"
    flags: tuple[object, ...] = (False, None, "false", 1, "yes", [])
    for flag in flags:
        with pytest.raises(LoginRefused, match="verified"):
            person({**verified, "email_verified": flag}, "email")
    with pytest.raises(LoginRefused, match="verified"):
        person({"email": "alice@example.com"}, "email")


@pytest.mark.requirement("OI7")
def test_an_allowed_address_must_be_verified_too() -> None:
    with pytest.raises(LoginRefused, match="verified"):
        person({"email": "alice@example.com"}, allow={"email": ["alice@example.com"]})


def test_a_number_names_a_person_by_its_digits() -> None:
    assert person({"employee": 4711}, "employee").principal.subject == "4711"


@pytest.mark.parametrize("value", [True, 1.5, "", "a\nb", "x" * 256, ["alice"], {"a": 1}, "a\u202eb"])
def test_anything_else_names_nobody(value: object) -> None:
    with pytest.raises(LoginRefused, match=r"'who' \(auth\.userClaim\)"):
        person({"who": value}, "who")


def test_a_missing_claim_says_how_to_get_it() -> None:
    with pytest.raises(LoginRefused, match=r"'upn'.*auth\.scopes"):
        person({}, "upn")


@pytest.mark.parametrize(
    ("claims", "allow", "admitted"),
    [
        ({"hd": "example.com"}, {"hd": ["example.com"]}, True),
        ({"hd": "evil.com"}, {"hd": ["example.com"]}, False),
        ({"hd": "sub.example.com"}, {"hd": ["example.com"]}, False),
        ({"hd": "EXAMPLE.com"}, {"hd": ["example.com"]}, False),
        ({}, {"hd": ["example.com"]}, False),
        ({"hd": None}, {"hd": ["example.com"]}, False),
        ({"groups": ["ops", "sales"]}, {"groups": ["eng", "ops"]}, True),
        ({"groups": ["sales"]}, {"groups": ["eng", "ops"]}, False),
        ({"groups": []}, {"groups": ["eng"]}, False),
        ({"groups": "eng ops"}, {"groups": ["eng"]}, False),
        ({"groups": [["eng"]]}, {"groups": ["eng"]}, False),
        ({"groups": {"eng": True}}, {"groups": ["eng"]}, False),
        ({"hd": "example.com", "groups": ["eng"]}, {"hd": ["example.com"], "groups": ["eng"]}, True),
        ({"hd": "example.com", "groups": ["sales"]}, {"hd": ["example.com"], "groups": ["eng"]}, False),
        ({"hd": "example.com"}, {"hd": ["example.com"], "groups": ["eng"]}, False),
        ({"level": 3}, {"level": ["3"]}, True),
        ({"staff": True}, {"staff": ["true"]}, True),
        ({"staff": True}, {"staff": ["1"]}, False),
        ({"hd": "example.com"}, {"hd": []}, False),
    ],
)
def test_every_allowed_claim_must_match(claims: dict[str, Any], allow: dict[str, list[str]], admitted: bool) -> None:
    if admitted:
        assert person(claims, allow=allow).principal.subject == "a1"
    else:
        with pytest.raises(LoginRefused):
            person(claims, allow=allow)


def test_a_refusal_names_the_claim_and_not_its_value() -> None:
    with pytest.raises(LoginRefused) as caught:
        person({"groups": ["very-private-group"]}, allow={"groups": ["eng"]})
    assert "'groups'" in str(caught.value)
    assert "very-private-group" not in str(caught.value)


@pytest.mark.parametrize(
    ("claims", "label"),
    [
        ({"preferred_username": "alice", "email": "a@example.com", "name": "Alice A"}, "alice"),
        ({"email": "a@example.com", "name": "Alice A"}, "a@example.com"),
        ({"name": "Alice A"}, "Alice A"),
        ({}, "a1"),
        ({"preferred_username": "  ", "email": 7, "name": ["x"]}, "a1"),
        ({"preferred_username": "al\u202eice"}, "a1"),
        ({"name": "x" * 500}, "x" * 100),
    ],
)
def test_the_label_is_what_people_call_themselves(claims: dict[str, Any], label: str) -> None:
    assert person(claims).label == label
