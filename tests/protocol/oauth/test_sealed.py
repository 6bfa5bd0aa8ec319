"""What travels sealed opens as what it was, for its purpose only, and as nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Unsealable
from aggregator.protocol.oauth.authorization import Answer, Asked
from aggregator.protocol.oauth.sealed import (
    AccessToken,
    Code,
    Flow,
    Question,
    RefreshToken,
    open_access,
    open_answer,
    open_code,
    open_flow,
    open_question,
    open_refresh,
    seal_access,
    seal_answer,
    seal_code,
    seal_flow,
    seal_question,
    seal_refresh,
)
from aggregator.protocol.principal import Person, Principal
from aggregator.protocol.sealing import Purpose

from .values import CALLBACK, CHALLENGE, KEYS, NOW, OTHER_KEYS, SITE

ASKED = Asked("reg-1", "Tester ü", CALLBACK, "st ate", CHALLENGE, "mcp:tools", SITE.resource)
ANNA = Principal("https://idp.example", "anna")
FLOW = Flow("f" * 32, ASKED, "nonce", "verifier", NOW)
QUESTION = Question("f" * 32, ASKED, Person(ANNA, "anna@example.com"), "csrf", NOW)
ANSWER = Answer(CALLBACK, (("error", "access_denied"), ("state", "ü")))
CODE = Code("c1", "g1", "reg-1", CALLBACK, CHALLENGE, SITE.resource, NOW + 60)
ACCESS = AccessToken("g1", "reg-1", ANNA, "mcp:tools", SITE.resource, SITE.issuer, NOW + 900)
REFRESH = RefreshToken("g1", 3, "reg-1", SITE.resource, NOW + 86400)

OPENERS: dict[str, Callable[..., Any]] = {
    "flow": open_flow,
    "question": open_question,
    "answer": open_answer,
    "code": open_code,
    "access": open_access,
    "refresh": open_refresh,
}
SEALED = {
    "flow": seal_flow(KEYS, FLOW, now=NOW),
    "question": seal_question(KEYS, QUESTION, now=NOW),
    "answer": seal_answer(KEYS, ANSWER, now=NOW),
    "code": seal_code(KEYS, CODE, now=NOW),
    "access": seal_access(KEYS, ACCESS, now=NOW),
    "refresh": seal_refresh(KEYS, REFRESH, now=NOW),
}
VALUES = {"flow": FLOW, "question": QUESTION, "answer": ANSWER, "code": CODE, "access": ACCESS, "refresh": REFRESH}


@pytest.mark.parametrize("kind", SEALED)
def test_what_was_sealed_opens_as_it_was(kind: str) -> None:
    assert OPENERS[kind](KEYS, SEALED[kind], now=NOW) == VALUES[kind]


@pytest.mark.requirement("RS4")
@pytest.mark.parametrize("kind", SEALED)
@pytest.mark.parametrize("opener", OPENERS)
def test_a_value_of_one_purpose_never_passes_for_another(kind: str, opener: str) -> None:
    if kind == opener:
        return
    for prefix in ("", "mcpa_ac_", "mcpa_at_", "mcpa_rt_"):
        bare = SEALED[kind].removeprefix("mcpa_ac_").removeprefix("mcpa_at_").removeprefix("mcpa_rt_")
        with pytest.raises(Unsealable):
            OPENERS[opener](KEYS, prefix + bare, now=NOW)


@pytest.mark.parametrize(
    ("kind", "lifetime"), [("flow", 600), ("question", 600), ("answer", 600), ("code", 60), ("access", 900)]
)
def test_a_sealed_value_ends_on_time(kind: str, lifetime: float) -> None:
    OPENERS[kind](KEYS, SEALED[kind], now=NOW + lifetime - 1)
    with pytest.raises(Unsealable):
        OPENERS[kind](KEYS, SEALED[kind], now=NOW + lifetime)


@pytest.mark.parametrize("kind", SEALED)
def test_nothing_opens_with_other_keys(kind: str) -> None:
    with pytest.raises(Unsealable):
        OPENERS[kind](OTHER_KEYS, SEALED[kind], now=NOW)


@pytest.mark.requirement("AZ13")
def test_a_code_does_not_show_its_challenge() -> None:
    again = seal_code(KEYS, CODE, now=NOW)
    assert CHALLENGE not in again
    assert again != SEALED["code"]


@pytest.mark.parametrize("kind", SEALED)
def test_a_payload_of_another_version_is_refused_not_misread(kind: str) -> None:
    prefix = {"code": "mcpa_ac_", "access": "mcpa_at_", "refresh": "mcpa_rt_"}.get(kind, "")
    for payload in ({}, {"asked": {"client": "x"}}, {"asked": None, "parameters": [1], "uri": "x"}):
        with pytest.raises(Unsealable):
            OPENERS[kind](KEYS, prefix + KEYS.seal(Purpose(kind), payload, now=NOW, lifetime=9), now=NOW)


@pytest.mark.requirement("AP1")
@given(st.sampled_from(sorted(SEALED)), st.data())
def test_any_mutation_is_unsealable_and_nothing_else(kind: str, data: st.DataObject) -> None:
    text = SEALED[kind]
    at = data.draw(st.integers(0, len(text) - 1))
    match data.draw(st.sampled_from(["replace", "cut", "insert", "double", "swap"])):
        case "replace":
            mutated = text[:at] + data.draw(st.characters()) + text[at + 1 :]
        case "cut":
            mutated = text[:at]
        case "insert":
            mutated = text[:at] + data.draw(st.text(min_size=1, max_size=3)) + text[at:]
        case "double":
            mutated = text + text
        case _:
            parts = text.split(".")
            mutated = ".".join([*parts[:2], parts[3], parts[2], parts[4]])
    if mutated == text:
        return
    with pytest.raises(Unsealable):
        OPENERS[kind](KEYS, mutated, now=NOW)


@given(st.sampled_from(sorted(OPENERS)), st.text())
def test_any_text_is_unsealable(kind: str, text: str) -> None:
    for prefix in ("", "mcpa_ac_", "mcpa_at_", "mcpa_rt_"):
        with pytest.raises(Unsealable):
            OPENERS[kind](KEYS, prefix + text, now=NOW)
