"""The authorization request: refused here, answered to the client, or asked on."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.authorization import (
    MAX_STATE,
    Answer,
    Asked,
    decide_authorization,
    denied,
    find_client,
    granted,
)
from aggregator.protocol.oauth.registration import Client

from .values import CALLBACK, CHALLENGE, CLIENTS, LOOPBACK, NOW, SITE, client, client_id

_CLIENT_ID = client_id(client(CALLBACK, LOOPBACK))


def decide(registered: Client | None = None, /, **changes: str | None) -> Asked | Answer:
    parameters = {
        "client_id": _CLIENT_ID if registered is None else client_id(registered),
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "state": "xyz",
    }
    merged = {name: value for name, value in {**parameters, **changes}.items() if value is not None}
    found = find_client(merged, CLIENTS, now=NOW)
    assert isinstance(found, Client)
    return decide_authorization(merged, found, site=SITE)


def answered(**changes: str | None) -> dict[str, str]:
    outcome = decide(**changes)
    assert isinstance(outcome, Answer)
    return dict(outcome.parameters)


def test_a_valid_request_is_asked_on() -> None:
    assert decide() == Asked(
        client="reg-1",
        client_name="Tester",
        redirect_uri=CALLBACK,
        state="xyz",
        challenge=CHALLENGE,
        scope="mcp:tools",
        resource="https://mcp.example.com/mcp",
    )


@pytest.mark.requirement("AZ1")
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "unknown"},
        {"client_id": "https://client.example"},
        {"client_id": "https://client.example/../metadata.json"},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "data:text/html,x"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/cb", "response_type": None},
    ],
)
def test_without_a_proven_redirect_uri_the_error_stays_here(changes: dict[str, str | None]) -> None:
    with pytest.raises(Refusal) as caught:
        decide(**changes)
    assert caught.value.status == 400


def test_the_redirect_uri_may_be_left_out_when_only_one_is_registered() -> None:
    outcome = decide(client(LOOPBACK), redirect_uri=None)
    assert isinstance(outcome, Asked)
    assert outcome.redirect_uri == LOOPBACK


@pytest.mark.requirement("AZ3")
def test_a_loopback_client_comes_with_the_port_of_the_day() -> None:
    outcome = decide(redirect_uri="http://127.0.0.1:50123/cb")
    assert isinstance(outcome, Asked)
    assert outcome.redirect_uri == "http://127.0.0.1:50123/cb"


@pytest.mark.requirement("AZ5")
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "short"},
        {"code_challenge": "a" * 129},
        {"code_challenge": "a" * 42 + "="},
        {"code_challenge": "a" * 43 + "\n"},
        {"code_challenge": "ü" * 43},
    ],
)
def test_only_a_well_formed_s256_challenge_will_do(changes: dict[str, str | None]) -> None:
    assert answered(**changes)["error"] == "invalid_request"


@pytest.mark.requirement("AZ6", "AZ10", "AZ11")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"resource": "https://other.example/mcp"}, "invalid_target"),
    ],
)
def test_later_errors_go_to_the_client_with_state_and_issuer(changes: dict[str, str], error: str) -> None:
    answer = answered(**changes)
    assert answer["error"] == error
    assert answer["state"] == "xyz"
    assert answer["iss"] == SITE.issuer


@pytest.mark.requirement("AZ10")
def test_no_state_is_invented() -> None:
    assert "state" not in answered(response_type="token", state=None)
    asked = decide(state=None)
    assert isinstance(asked, Asked)
    assert "state" not in dict(granted(asked, "code", SITE).parameters)
    assert "state" not in dict(denied(asked, "access_denied", "no", SITE).parameters)


@pytest.mark.requirement("AZ7")
@pytest.mark.parametrize("name", ["prompt", "login_hint", "nonce", "ui_locales", "x", "access_type", "audience"])
def test_unknown_parameters_are_ignored(name: str) -> None:
    assert decide(**{name: "anything"}) == decide()


@pytest.mark.requirement("AZ17")
@pytest.mark.parametrize(
    "resource",
    [
        "https://mcp.example.com",
        "https://mcp.example.com/",
        "https://mcp.example.com/mcp/",
        "https://mcp.example.com/mcp#x",
        "https://mcp.example.com/mcp?x",
        "https://MCP.example.com/mcp",
        "https://mcp.example.com:443/mcp",
        "http://mcp.example.com/mcp",
        "mcp",
        "https://mcp.example.com/mcp https://other.example",
    ],
)
def test_a_resource_that_is_not_exactly_ours_is_no_target(resource: str) -> None:
    assert answered(resource=resource)["error"] == "invalid_target"


@pytest.mark.requirement("AZ17")
def test_our_resource_is_granted_named_or_not() -> None:
    assert decide(resource="https://mcp.example.com/mcp") == decide()


@pytest.mark.parametrize("scope", [None, "mcp:tools", "openid profile offline_access", "\u202e"])
def test_whatever_scope_is_asked_ours_is_granted(scope: str | None) -> None:
    assert decide(scope=scope) == decide()


def test_a_state_that_no_cookie_could_hold_is_refused_here() -> None:
    assert isinstance(decide(state="s" * MAX_STATE), Asked)
    with pytest.raises(Refusal):
        decide(state="ü" * (MAX_STATE // 2 + 1))


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.mark.requirement("AZ10", "AZ16")
@given(_TEXT, _TEXT)
def test_errors_use_only_permitted_characters_and_state_comes_back_byte_for_byte(state: str, kind: str) -> None:
    outcome = decide(state=state, response_type="x" + kind)
    assert isinstance(outcome, Answer)
    query = dict(parse_qsl(urlsplit(outcome.location).query, keep_blank_values=True))
    assert query["state"].encode() == state.encode()
    for name in ("error", "error_description"):
        assert all(c in " !" or "#" <= c <= "[" or "]" <= c <= "~" for c in query[name])


@given(
    st.dictionaries(
        st.sampled_from(["client_id", "redirect_uri", "response_type", "code_challenge", "resource"]), _TEXT
    )
)
def test_any_parameters_have_one_of_the_three_outcomes(changes: dict[str, str]) -> None:
    try:
        outcome: object = decide(**changes)
    except Refusal as exc:
        outcome = exc.status
    assert outcome == 400 or isinstance(outcome, Asked | Answer)


@pytest.mark.parametrize(("uris", "words"), [((CALLBACK, LOOPBACK), "several"), ((), "none that this server takes")])
def test_why_a_redirect_uri_has_to_be_sent_is_said(uris: tuple[str, ...], words: str) -> None:
    """A client keeps none where the operator no longer lists its scheme."""
    with pytest.raises(Refusal, match=f"registered {words}"):
        decide_authorization({"response_type": "code"}, Client("id", "", uris), site=SITE)
