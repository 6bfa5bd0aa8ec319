"""Sending a person off, and knowing who answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aggregator.errors import Refusal
from aggregator.protocol.brokering.authorization import (
    authorization_url,
    check_answer,
    scope_to_ask,
    scope_to_register,
)
from aggregator.protocol.brokering.server import ServerMetadata
from aggregator.protocol.oauth.pkce import challenge_of

from .values import BEGINNING, SERVER, server

OFFLINE = server(scopes=("offline_access", "openid"))

# (server, configured, of the challenge, of the resource, wanted by a step-up, what is asked for)
SCOPES: list[tuple[ServerMetadata, tuple[str, ...] | None, str | None, tuple[str, ...], str | None, str | None]] = [
    (SERVER, None, None, (), None, None),
    (SERVER, None, None, ("a", "b"), None, "a b"),
    (SERVER, None, "c", ("a", "b"), None, "c"),
    (SERVER, ("x",), "c", ("a", "b"), None, "x"),
    (SERVER, (), "c", ("a", "b"), None, None),
    (SERVER, None, None, ("a", "b"), "c d", "c d"),
    (SERVER, None, "c", ("a", "b"), "d", "c d"),
    (SERVER, None, "c d", (), "d e", "c d e"),
    (SERVER, ("x",), None, (), "y", "x y"),
    (OFFLINE, None, None, (), None, None),
    (OFFLINE, None, None, ("a",), None, "a offline_access"),
    (OFFLINE, None, "c", ("a",), None, "c offline_access"),
    (OFFLINE, ("x",), None, (), None, "x"),
    (OFFLINE, None, "offline_access c", (), None, "offline_access c"),
    (server(scopes=("openid", "a", "b")), None, None, (), None, None),
]


@pytest.mark.requirement("UP11")
@pytest.mark.parametrize(("at", "configured", "challenged", "of_resource", "wanted", "asked"), SCOPES)
def test_no_more_is_asked_for_than_somebody_named(
    at: ServerMetadata,
    configured: tuple[str, ...] | None,
    challenged: str | None,
    of_resource: tuple[str, ...],
    wanted: str | None,
    asked: str | None,
) -> None:
    scope = scope_to_ask(at, configured=configured, challenged=challenged, of_resource=of_resource, wanted=wanted)
    assert scope == asked


def test_a_registration_covers_what_the_resource_may_want_later() -> None:
    assert scope_to_register("a offline_access", ("a", "b"), None) == "a offline_access b"
    assert scope_to_register("x", ("a", "b"), ("x",)) == "x"
    assert scope_to_register(None, (), None) is None


def sent(at: ServerMetadata = SERVER, **changes: Any) -> tuple[str, dict[str, str]]:
    parameters: dict[str, Any] = {
        "client_id": "c",
        "redirect_uri": "https://agg.example/cb",
        "scope": "read",
        "resource": "https://mcp.example/mcp",
        "state": "s",
        "verifier": "v" * 64,
        "further": {},
    } | changes
    url = authorization_url(at, **parameters)
    pairs = parse_qsl(urlsplit(url).query, strict_parsing=True, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return url, dict(pairs)


@pytest.mark.requirement("UP3")
def test_the_browser_carries_pkce_the_resource_and_the_state_and_never_the_verifier() -> None:
    url, parameters = sent()
    assert url.startswith("https://as.example/authorize?response_type=code")
    assert parameters == {
        "response_type": "code",
        "client_id": "c",
        "redirect_uri": "https://agg.example/cb",
        "state": "s",
        "code_challenge": challenge_of("v" * 64),
        "code_challenge_method": "S256",
        "scope": "read",
        "resource": "https://mcp.example/mcp",
    }
    assert "v" * 64 not in url


def test_what_is_not_known_or_not_wanted_is_not_sent() -> None:
    _, parameters = sent(scope=None, resource=None)
    assert not {"scope", "resource", "prompt"} & parameters.keys()


def test_the_operators_parameters_are_added_and_replace_none_of_ours() -> None:
    _, parameters = sent(further={"access_type": "offline", "client_id": "evil", "state": "evil"})
    assert (parameters["access_type"], parameters["client_id"], parameters["state"]) == ("offline", "c", "s")


@pytest.mark.parametrize(
    ("endpoint", "begins"),
    [
        ("https://as.example/a?tenant=1", "https://as.example/a?tenant=1&response_type="),
        ("https://as.example/a?", "https://as.example/a?response_type="),
        ("https://as.example/a?x&", "https://as.example/a?x&response_type="),
    ],
)
def test_a_query_of_the_endpoint_is_kept(endpoint: str, begins: str) -> None:
    url = authorization_url(
        server(authorization_endpoint=endpoint),
        client_id="c",
        redirect_uri="https://agg.example/cb",
        scope=None,
        resource=None,
        state="s",
        verifier="v" * 64,
        further={},
    )
    assert url.startswith(begins)


def test_offline_access_is_asked_for_with_consent() -> None:
    assert sent(scope="a offline_access")[1]["prompt"] == "consent"
    assert sent(scope="a offline_access", further={"prompt": "login"})[1]["prompt"] == "login"
    assert "prompt" not in sent(scope="a")[1]


# RFC 9207 2.4 and MCP, "Authorization Response Validation": (promised, iss of the answer, taken)
ISS = [
    (True, "https://as.example", True),
    (True, None, False),
    (True, "https://evil.example", False),
    (False, None, True),
    (False, "https://as.example", True),
    (False, "https://evil.example", False),
    (True, "https://as.example/", False),
    (True, "https://AS.example", False),
    (True, "HTTPS://as.example", False),
    (True, "https://as.example:443", False),
    (True, "https://as%2eexample", False),
    (False, "https://as.example/", False),
    (False, "", False),
]


@pytest.mark.requirement("UP4")
@pytest.mark.parametrize("answer", [{"code": "x"}, {"error": "access_denied", "error_description": "<script>"}])
@pytest.mark.parametrize(("promised", "iss", "taken"), ISS)
def test_an_answer_counts_only_if_it_comes_from_the_server_asked(
    promised: bool, iss: str | None, taken: bool, answer: dict[str, str]
) -> None:
    beginning = replace(BEGINNING, iss_promised=promised)
    parameters = answer | ({} if iss is None else {"iss": iss})
    if taken:
        check_answer(beginning, parameters)
    else:
        with pytest.raises(Refusal) as caught:
            check_answer(beginning, parameters)
        assert "script" not in caught.value.description
        assert "evil" not in caught.value.description


@pytest.mark.parametrize(
    ("allowed", "asked"),
    [(("b", "z"), "b"), ((), "a b c"), (("z",), "a b c"), (("c", "a"), "a c")],
)
def test_an_upstream_chooses_among_the_scopes_allowed(allowed: tuple[str, ...], asked: str) -> None:
    scope = scope_to_ask(server(), configured=None, challenged="a b", of_resource=("x",), wanted="c", allowed=allowed)
    assert scope == asked
