"""What a browser holds of its person opens as what it was, for its purpose only, and no longer than it lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Unsealable
from aggregator.protocol.brokering import Beginning
from aggregator.protocol.brokering.flow import ConnectFlow, open_connect, seal_connect
from aggregator.protocol.oauth.browser import (
    SESSION_LIFETIME,
    BrowserSession,
    SignIn,
    open_session,
    open_sign_in,
    seal_session,
    seal_sign_in,
)
from aggregator.protocol.oauth.sealed import FLOW_LIFETIME, open_access, open_flow, open_question
from aggregator.protocol.principal import Person, Principal
from aggregator.protocol.sealing import Purpose

from .values import KEYS, NOW, OTHER_KEYS

ANNA = Principal("https://idp.example", "anna")
SESSION = BrowserSession("s1", Person(ANNA, "anna@example.com"), "form secret", NOW)
SIGN_IN = SignIn("i" * 32, "/connections", "nonce", "verifier", "", NOW)
BEGINNING = Beginning(
    url="https://login.mail.example/authorize?state=f",
    upstream="mail",
    issuer="https://login.mail.example",
    token_endpoint="https://login.mail.example/token",
    iss_promised=True,
    client_id="mcp-aggregator",
    resource="https://mail.example/mcp",
    scope=None,
    redirect_uri="https://mcp.example.com/upstream-auth/callback/mail",
    verifier="v" * 64,
)
FLOW = ConnectFlow("f" * 32, ANNA, BEGINNING, ("notes",), {"code": "c"}, NOW)

OPENERS: dict[str, Callable[..., Any]] = {
    "session": open_session,
    "sign-in": open_sign_in,
    "connect": open_connect,
    "flow": open_flow,
    "question": open_question,
    "access": open_access,
}
SEALED = {
    "session": seal_session(KEYS, SESSION, now=NOW),
    "sign-in": seal_sign_in(KEYS, SIGN_IN, now=NOW),
    "connect": seal_connect(KEYS, FLOW, now=NOW),
}


def test_each_opens_as_what_it_was() -> None:
    assert open_session(KEYS, SEALED["session"], now=NOW) == SESSION
    assert open_sign_in(KEYS, SEALED["sign-in"], now=NOW) == SIGN_IN
    assert open_connect(KEYS, SEALED["connect"], now=NOW) == replace(FLOW, beginning=replace(BEGINNING, url=""))


@pytest.mark.parametrize("kind", SEALED)
@pytest.mark.parametrize("purpose", OPENERS)
def test_none_passes_for_another(kind: str, purpose: str) -> None:
    if kind == purpose:
        OPENERS[kind](KEYS, SEALED[kind], now=NOW)
        return
    with pytest.raises(Unsealable):
        OPENERS[purpose](KEYS, SEALED[kind], now=NOW)


@pytest.mark.parametrize("kind", SEALED)
def test_none_opens_with_another_deployments_key(kind: str) -> None:
    with pytest.raises(Unsealable):
        OPENERS[kind](OTHER_KEYS, SEALED[kind], now=NOW)


@pytest.mark.parametrize(
    ("kind", "lifetime"), [("session", SESSION_LIFETIME), ("sign-in", FLOW_LIFETIME), ("connect", FLOW_LIFETIME)]
)
def test_each_ends(kind: str, lifetime: float) -> None:
    OPENERS[kind](KEYS, SEALED[kind], now=NOW + lifetime - 1)
    with pytest.raises(Unsealable):
        OPENERS[kind](KEYS, SEALED[kind], now=NOW + lifetime)


def test_no_session_is_longer_than_eight_hours_whatever_is_asked() -> None:
    sealed = seal_session(KEYS, SESSION, now=NOW, lifetime=10 * SESSION_LIFETIME)
    with pytest.raises(Unsealable):
        open_session(KEYS, sealed, now=NOW + SESSION_LIFETIME)


@pytest.mark.parametrize(
    ("purpose", "opener"),
    [(Purpose.BROWSER, open_session), (Purpose.SIGN_IN, open_sign_in), (Purpose.CONNECT, open_connect)],
)
def test_what_another_version_sealed_is_refused_and_not_misread(purpose: Purpose, opener: Callable[..., Any]) -> None:
    sealed = KEYS.seal(purpose, {"id": "x", "beginning": {"unknown": 1}}, now=NOW, lifetime=60)
    with pytest.raises(Unsealable):
        opener(KEYS, sealed, now=NOW)


@pytest.mark.parametrize("kind", SEALED)
@given(data=st.data())
def test_no_altered_text_opens(kind: str, data: st.DataObject) -> None:
    sealed = SEALED[kind]
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != sealed[at]))
    with pytest.raises(Unsealable):
        OPENERS[kind](KEYS, sealed[:at] + other + sealed[at + 1 :], now=NOW)


def test_no_secret_stands_in_what_is_logged() -> None:
    shown = repr(SESSION) + repr(SIGN_IN) + repr(FLOW)
    for secret in ("form secret", "'verifier'", "v" * 64, "'c'"):
        assert secret not in shown
