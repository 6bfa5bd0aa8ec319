"""Which codes and refresh tokens are accepted, and what a token answer holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.issuing import (
    Lifetimes,
    Lineage,
    accept_code,
    accept_refresh,
    grant_to_revoke,
    require_scope,
    token_response,
)
from aggregator.protocol.oauth.sealed import open_access, open_refresh
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.oauth.token_request import CodeRequest, RefreshRequest

from .test_sealed import ACCESS, ANNA, CODE, REFRESH, SEALED
from .values import CALLBACK, KEYS, NOW, OTHER_KEYS, SITE, VERIFIER, client

LIFETIMES = Lifetimes(900, 7 * 86400)
LINEAGE = Lineage("g1", 3, "reg-1", ANNA, "mcp:tools", SITE.resource, NOW + 30 * 86400)


def code_request(**changes: Any) -> CodeRequest:
    return CodeRequest(
        **{"code": SEALED["code"], "verifier": VERIFIER, "redirect_uri": None, "resource": None, **changes}
    )


def code_error(request: CodeRequest, **changes: Any) -> str:
    with pytest.raises(Refusal) as caught:
        accept_code(request, **{"client": client(), "keys": KEYS, "site": SITE, "now": NOW, **changes})
    assert caught.value.status == 400
    return caught.value.error


@pytest.mark.requirement("AZ12", "TK3")
def test_the_right_client_redeems_its_code_with_the_right_verifier() -> None:
    for redirect_uri in (None, CALLBACK):
        request = code_request(redirect_uri=redirect_uri, resource=SITE.resource)
        assert accept_code(request, client(), keys=KEYS, site=SITE, now=NOW) == CODE


@pytest.mark.requirement("TK3")
@pytest.mark.parametrize(
    "verifier", [None, "", "w" * 43, VERIFIER + "v", VERIFIER[:-1], "v" * 129, "ü" * 43, VERIFIER + "\n"]
)
def test_a_wrong_or_missing_verifier_is_an_invalid_grant(verifier: str | None) -> None:
    assert code_error(code_request(verifier=verifier)) == "invalid_grant"


@pytest.mark.requirement("AZ12", "TK3")
def test_a_code_is_bound_to_client_redirect_uri_resource_and_time() -> None:
    assert code_error(code_request(), client=client(id="reg-2")) == "invalid_grant"
    assert code_error(code_request(redirect_uri=CALLBACK + "/")) == "invalid_grant"
    assert code_error(code_request(), site=site_of("https://other.example")) == "invalid_grant"
    assert code_error(code_request(), now=NOW + 60) == "invalid_grant"
    assert code_error(code_request(), keys=OTHER_KEYS) == "invalid_grant"


@pytest.mark.requirement("TK10")
def test_a_token_request_for_another_resource_is_no_target() -> None:
    assert code_error(code_request(resource="https://other.example/mcp")) == "invalid_target"
    with pytest.raises(Refusal) as caught:
        accept_refresh(
            RefreshRequest(SEALED["refresh"], None, "https://other.example"), client(), keys=KEYS, site=SITE, now=NOW
        )
    assert caught.value.error == "invalid_target"


@pytest.mark.requirement("TK6")
def test_a_refresh_token_is_bound_to_client_and_resource() -> None:
    request = RefreshRequest(SEALED["refresh"], None, SITE.resource)
    assert accept_refresh(request, client(), keys=KEYS, site=SITE, now=NOW) == REFRESH
    foreign: tuple[dict[str, Any], ...] = (
        {"client": client(id="reg-2")},
        {"site": site_of("https://other.example")},
        {"keys": OTHER_KEYS},
        {"now": NOW + 86400},
    )
    for changes in foreign:
        with pytest.raises(Refusal) as caught:
            accept_refresh(request, **{"client": client(), "keys": KEYS, "site": SITE, "now": NOW, **changes})
        assert caught.value.error == "invalid_grant"


@pytest.mark.requirement("TK6")
def test_a_refresh_may_ask_for_no_more_scope_than_was_granted() -> None:
    require_scope(None, "mcp:tools")
    require_scope("mcp:tools", "mcp:tools")
    for scope in ("admin", "mcp:tools admin", "MCP:TOOLS"):
        with pytest.raises(Refusal) as caught:
            require_scope(scope, "mcp:tools")
        assert caught.value.error == "invalid_scope"


@given(st.text())
def test_any_text_as_code_or_refresh_token_is_an_invalid_grant(text: str) -> None:
    for hostile in (text, "mcpa_ac_" + text, "mcpa_rt_" + text):
        assert code_error(code_request(code=hostile)) == "invalid_grant"
        with pytest.raises(Refusal) as caught:
            accept_refresh(RefreshRequest(hostile, None, None), client(), keys=KEYS, site=SITE, now=NOW)
        assert caught.value.error == "invalid_grant"


@pytest.mark.requirement("TK4", "TK6", "TK9")
def test_a_token_answer_holds_two_tokens_of_the_same_grant_and_scope() -> None:
    answer = token_response(LINEAGE, keys=KEYS, site=SITE, lifetimes=LIFETIMES, now=NOW)
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 900, "mcp:tools")
    assert open_access(KEYS, answer["access_token"], now=NOW) == ACCESS
    refresh = open_refresh(KEYS, answer["refresh_token"], now=NOW)
    assert (refresh.grant_id, refresh.generation, refresh.client) == ("g1", 3, "reg-1")
    assert refresh.expires_at == NOW + 7 * 86400


def test_no_token_outlives_its_grant() -> None:
    answer = token_response(LINEAGE, keys=KEYS, site=SITE, lifetimes=LIFETIMES, now=LINEAGE.ends_at - 10.5)
    assert answer["expires_in"] == 10
    assert open_access(KEYS, answer["access_token"], now=NOW).expires_at == LINEAGE.ends_at
    assert open_refresh(KEYS, answer["refresh_token"], now=NOW).expires_at == LINEAGE.ends_at


@pytest.mark.requirement("TK12")
def test_every_token_is_new() -> None:
    answers = [token_response(LINEAGE, keys=KEYS, site=SITE, lifetimes=LIFETIMES, now=NOW) for _ in range(50)]
    assert len({answer["access_token"] for answer in answers} | {answer["refresh_token"] for answer in answers}) == 100


@pytest.mark.requirement("TK13")
def test_a_client_that_calls_itself_like_a_person_is_still_a_client() -> None:
    token = open_access(
        KEYS,
        token_response(
            Lineage("g", 0, "anna", ANNA, "mcp:tools", SITE.resource, NOW + 99),
            keys=KEYS,
            site=SITE,
            lifetimes=LIFETIMES,
            now=NOW,
        )["access_token"],
        now=NOW,
    )
    assert token.client == "anna"
    assert token.principal == ANNA


@pytest.mark.requirement("TK11")
def test_either_token_names_the_grant_to_revoke() -> None:
    assert grant_to_revoke(SEALED["refresh"], client(), keys=KEYS, now=NOW) == "g1"
    assert grant_to_revoke(SEALED["access"], client(), keys=KEYS, now=NOW) == "g1"
    assert grant_to_revoke(SEALED["access"], client(), keys=KEYS, now=NOW + 900) is None
    assert grant_to_revoke(SEALED["code"], client(), keys=KEYS, now=NOW) is None
    assert grant_to_revoke("anything", client(), keys=KEYS, now=NOW) is None


@pytest.mark.requirement("TK11")
def test_another_clients_token_is_not_revoked() -> None:
    with pytest.raises(Refusal) as caught:
        grant_to_revoke(SEALED["refresh"], client(id="reg-2"), keys=KEYS, now=NOW)
    assert (caught.value.status, caught.value.error) == (400, "invalid_grant")
