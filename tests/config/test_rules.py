"""Rules over several keys: which combinations are refused, and where the problem is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .loading import load, minimal, problems_of, with_auth, with_top


def upstreams(*given: dict[str, Any]) -> str:
    return json.dumps(minimal(upstreams=[{"url": "https://a.example.com/mcp", **each} for each in given]))


REFUSED: list[tuple[str, str, str]] = [
    (with_auth(scopes=["email"]), "auth.scopes", "'openid' is missing; without it the provider sends no ID token"),
    (with_auth(scopes=[]), "auth.scopes", "'openid' is missing; without it the provider sends no ID token"),
    (with_auth(issuer="http://idp.example.com"), "auth.issuer", "'http://idp.example.com' is not https"),
    (with_auth(issuer="http://0.0.0.0:9"), "auth.issuer", "'http://0.0.0.0:9' is not https"),
    (
        with_auth(issuer="http://idp.example.com", allowHttpIssuer=False),
        "auth.issuer",
        "'http://idp.example.com' is not https",
    ),
    (with_top(issuerUrl="http://mcp.example.com"), "issuerUrl", "'http://mcp.example.com' is not https"),
]


@pytest.mark.parametrize(("text", "path", "message"), REFUSED, ids=[f"{row[1]}-{n}" for n, row in enumerate(REFUSED)])
def test_a_broken_rule_is_one_problem_at_the_value_to_change(text: str, path: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.line == 1


@pytest.mark.parametrize(
    "text",
    [
        with_auth(issuer="http://localhost:8080"),
        with_auth(issuer="http://127.0.0.1:8080/realm"),
        with_auth(issuer="http://[::1]"),
        with_auth(issuer="http://idp.internal", allowHttpIssuer=True),
        with_top(issuerUrl="http://localhost:3000"),
    ],
)
def test_what_the_rules_allow_loads(text: str) -> None:
    assert problems_of(text) == ()


@pytest.mark.parametrize(("value", "lifted"), [("true", True), ("1", True), ("yes", False), ("", False)])
def test_the_variable_for_tests_lifts_the_rule_of_https(value: str, lifted: bool) -> None:
    environ = {"MCP_DANGEROUSLY_ALLOW_INSECURE_ISSUER_URL": value}
    assert (problems_of(with_top(issuerUrl="http://mcp.example.com"), environ) == ()) is lifted


def test_rules_speak_up_beside_other_problems() -> None:
    text = upstreams({"name": "a", "url": "x"}, {"name": "a", "nmae": 1})
    assert [problem.path for problem in problems_of(text)] == [
        "upstreams[0].url",
        "upstreams[1].name",
        "upstreams[1].nmae",
    ]


WARNED: list[tuple[str, str, str]] = [
    (with_auth(issuer="https://accounts.google.com"), "auth.issuer", "every Google account"),
    (with_auth(issuer="https://accounts.google.com/"), "auth.issuer", "every Google account"),
    (with_auth(issuer="https://login.microsoftonline.com/<tenant-id>/v2.0"), "auth.issuer", "'<tenant-id>' looks like"),
    (with_top(secret="some-persistent-secret"), "secret", "mcp-aggregator secret new"),
]


@pytest.mark.parametrize(("text", "path", "words"), WARNED)
def test_what_is_risky_is_a_warning_with_its_place(text: str, path: str, words: str) -> None:
    (warning,) = load(text).warnings
    assert warning.path == path
    assert words in warning.message
    assert warning.line == 1
    assert "persistent" not in warning.message


def test_without_a_secret_the_warning_names_what_a_restart_loses() -> None:
    raw = minimal()
    del raw["secret"]
    (in_memory,) = load(json.dumps(raw)).warnings
    assert "every login and every client's registration" in in_memory.message
    assert "upstream tokens" not in in_memory.message
    (on_disk,) = load(json.dumps({**raw, "storage": "/data/x.sqlite"})).warnings
    assert "the upstream tokens in /data/x.sqlite become unreadable" in on_disk.message


@pytest.mark.parametrize(
    "text",
    [with_top(), with_auth(issuer="https://accounts.google.com", allow={"hd": "example.com"})],
)
def test_nothing_is_said_about_what_is_well(text: str) -> None:
    assert load(text).warnings == ()
