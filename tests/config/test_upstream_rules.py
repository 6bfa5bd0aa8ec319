"""Rules over the keys of one upstream, and over several upstreams: what is refused, where, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.config.model import Secret

from .loading import load, minimal, problems_of, with_upstream


def upstreams(*given: dict[str, Any]) -> str:
    return json.dumps(minimal(upstreams=[{"url": "https://a.example.com/mcp", **each} for each in given]))


def in_yaml(*lines: str) -> str:
    """An upstream whose further keys are `lines`; the first stands on line 4."""
    return "\n".join(
        ["auth: {issuer: https://i.example.com}", "upstreams:", "  - {name: a, url: https://a.example.com/mcp,", *lines]
    ).replace("END", "}")


BEARER = "    auth: {type: bearer, token: hunter2}, "
REFUSED: list[tuple[str, str, str, tuple[int, int]]] = [
    # What a type needs.
    (in_yaml("auth: {type: bearer} END"), "auth.token", "is missing; type 'bearer' needs it", (4, 7)),
    (
        in_yaml("auth: {type: header, value: hunter2} END"),
        "auth.header",
        "is missing; type 'header' needs it",
        (4, 7),
    ),
    (in_yaml("auth: {type: header, header: X-Key} END"), "auth.value", "is missing; type 'header' needs it", (4, 7)),
    # What is of another type; the caret is at the key.
    (
        in_yaml("auth: {token: hunter2} END"),
        "auth.token",
        "is for type 'bearer', and auth.type is 'user', the default; write 'type: bearer'",
        (4, 8),
    ),
    (
        in_yaml("auth: {type: none, token: hunter2} END"),
        "auth.token",
        "is for type 'bearer', and auth.type is 'none'; remove one of them",
        (4, 20),
    ),
    (
        in_yaml("auth: {type: bearer, token: hunter2, header: X-Key} END"),
        "auth.header",
        "is for type 'header', and auth.type is 'bearer'; remove one of them",
        (4, 38),
    ),
    *(
        (
            in_yaml(BEARER, f"    {key}: {value} END"),
            key,
            "is for an account that somebody logs in to (auth.type 'user'), and auth.type is 'bearer'; remove it",
            (5, 5),
        )
        for key, value in {
            "clientId": "x",
            "scopes": "[a]",
            "authorizationServer": "https://as.example.com",
            "authorizationParams": "{a: b}",
            "sendResource": "false",
            "callbackPath": "/upstream-auth/callback",
            "allowPrivateNetwork": "true",
        }.items()
    ),
    (
        in_yaml("auth: {type: none}, clientSecret: hunter2 END"),
        "clientSecret",
        "is for an account that somebody logs in to (auth.type 'user'), and auth.type is 'none'; remove it",
        (4, 21),
    ),
    (
        in_yaml("auth: {type: command, ttl: 5m} END"),
        "auth.command",
        "is missing; type 'command' needs it",
        (4, 7),
    ),
    (
        in_yaml("auth: {type: command, command: gcloud auth print-access-token} END"),
        "auth.command",
        "is one text; write the program and each argument as an item of a list",
        (4, 32),
    ),
    (
        in_yaml("auth: {openBrowser: false} END"),
        "auth.openBrowser",
        "is for type 'oauth', and auth.type is 'user', the default; write 'type: oauth'",
        (4, 8),
    ),
    (
        in_yaml("auth: {type: oauth, clientIdCommand: [x]}, clientId: y END"),
        "auth.clientIdCommand",
        "stands beside 'clientId'; give only one of them",
        (4, 21),
    ),
    (
        in_yaml("auth: {type: oauth, clientSecretCommand: [x], clientIdCommand: [z]}, clientSecret: hunter2 END"),
        "auth.clientSecretCommand",
        "stands beside 'clientSecret'; give only one of them",
        (4, 21),
    ),
    (
        in_yaml("auth: {type: oauth, clientSecretCommand: [x]} END"),
        "auth.clientSecretCommand",
        "is the secret of a 'clientId', which is missing",
        (4, 21),
    ),
    (
        in_yaml("auth: {type: oauth}, callbackPath: /upstream-auth/callback END"),
        "callbackPath",
        "is for auth.type 'user', and auth.type is 'oauth'; use auth.callbackPort",
        (4, 22),
    ),
    # A command instead of a URL.
    (
        in_yaml("command: [x] END"),
        "command",
        "stands beside 'url'; an upstream is one or the other",
        (4, 1),
    ),
    *(
        (in_yaml(f"{key}: {value} END"), key, "is for an upstream with 'command'; remove it", (4, 1))
        for key, value in {"env": "{A: b}", "cwd": "/", "startOnUse": "true", "idleStop": "5m"}.items()
    ),
    # Headers.
    (in_yaml("headers: {Host: a} END"), "headers.Host", "'Host' belongs to the connection", (4, 11)),
    (in_yaml("headers: {X-A: a, X-B: 5} END"), "headers.X-B", "is not a text; put it in quotes", (4, 24)),
    (in_yaml('headers: {X-A: "hunter2\\n"} END'), "headers.X-A", "holds a line break", (4, 16)),
    (
        in_yaml("headers: {X-A: a, x-a: b} END"),
        "headers.x-a",
        "is 'X-A' once more; upper and lower case are the same here",
        (4, 19),
    ),
    (
        in_yaml("headers: {authorization: hunter2} END"),
        "headers.authorization",
        "carries each person's own token, as auth.type is 'user', the default; remove it, or use type 'header'",
        (4, 11),
    ),
    (
        in_yaml(BEARER, "headers: {Authorization: hunter2} END"),
        "headers.Authorization",
        "carries the token, as auth.type is 'bearer'; remove one of them",
        (5, 11),
    ),
    (
        in_yaml("auth: {type: header, header: X-Key, value: hunter2}, headers: {x-key: hunter2} END"),
        "headers.x-key",
        "is auth.header already; remove one of them",
        (4, 64),
    ),
    (
        in_yaml("headers: {Cookie: s=hunter2} END"),
        "headers.Cookie",
        "would log everybody in as one beside their own tokens, as auth.type is 'user', the default; remove it",
        (4, 11),
    ),
    (in_yaml("headers: [a] END"), "headers", "a list is not a mapping of keys", (4, 10)),
    # A person's own account.
    (
        in_yaml("clientSecret: hunter2 END"),
        "clientSecret",
        "is the secret of a 'clientId', which is missing; give both or none",
        (4, 1),
    ),
    (
        in_yaml("authorizationServer: http://as.example.com END"),
        "authorizationServer",
        "'http://as.example.com' is not https, and not on this machine; use https, or set allowPrivateNetwork: true",
        (4, 22),
    ),
    (
        in_yaml("authorizationServer: https://as.example.com/?a=b END"),
        "authorizationServer",
        "'https://as.example.com/?***' has a query",
        (4, 22),
    ),
    (
        in_yaml("authorizationParams: {prompt: consent, state: x} END"),
        "authorizationParams.state",
        "'state' is set by the aggregator itself; remove it",
        (4, 40),
    ),
    (in_yaml("authorizationParams: {max_age: 0} END"), "authorizationParams.max_age", "0 is not a text", (4, 32)),
    (in_yaml("callbackPath: /token END"), "callbackPath", "'/token' is a path of the aggregator's own", (4, 15)),
    (in_yaml("scopes: [a b] END"), "scopes[0]", "'a b' is not a scope; one scope per item", (4, 10)),
    (in_yaml("sendResource: no END"), "sendResource", "'no' is neither true nor false", (4, 15)),
]


@pytest.mark.parametrize(
    ("text", "path", "message", "position"), REFUSED, ids=[f"{row[1]}-{n}" for n, row in enumerate(REFUSED)]
)
def test_a_broken_rule_is_one_problem_with_place_and_reason(
    text: str, path: str, message: str, position: tuple[int, int]
) -> None:
    (problem,) = problems_of(text)
    assert problem.path.replace('["', ".").replace('"]', "") == f"upstreams[0].{path}"
    assert problem.message.startswith(message)
    assert (problem.line, problem.column) == position
    assert "hunter2" not in problem.message


SEVERAL: list[tuple[str, str, str]] = [
    (upstreams({"name": "a"}, {"name": "a"}), "upstreams[1].name", "'a' is the name of upstreams[0] already"),
    (
        upstreams({"name": "a"}, {"name": "b", "prefix": "a"}),
        "upstreams[1].prefix",
        "'a' is the prefix of upstreams[0] already",
    ),
    (
        upstreams({"name": "a", "prefix": "b"}, {"name": "b"}),
        "upstreams[1].name",
        "'b' is the prefix of upstreams[0] already",
    ),
    (
        upstreams({"name": "a", "prefix": ""}, {"name": "b"}, {"name": "c", "prefix": ""}),
        "upstreams[2].prefix",
        "'' is the prefix of upstreams[0] already; one may have none",
    ),
    (
        upstreams({"name": "a", "callbackPath": "/upstream-auth/callback/b"}, {"name": "b"}),
        "upstreams[0].callbackPath",
        "'/upstream-auth/callback/b' bears the name of upstreams[1]; use '/upstream-auth/callback'",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), SEVERAL, ids=[f"{row[1]}-{n}" for n, row in enumerate(SEVERAL)])
def test_upstreams_do_not_get_in_each_others_way(text: str, path: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.line == 1


@pytest.mark.parametrize(
    "text",
    [
        upstreams({"name": "a", "prefix": "x"}, {"name": "b", "prefix": "a"}),
        upstreams({"name": "a", "prefix": ""}, {"name": "b"}),
        upstreams(
            {"name": "a", "callbackPath": "/upstream-auth/callback"},
            {"name": "b", "callbackPath": "/upstream-auth/callback"},
            {"name": "c", "callbackPath": "/upstream-auth/callback/c"},
            {"name": "d", "callbackPath": "/upstream-auth/callback/old"},
        ),
        with_upstream(clientId="x"),
        with_upstream(clientId="x", clientSecret="y"),
        with_upstream(authorizationServer="http://localhost:9000"),
        with_upstream(authorizationServer="http://as.internal", allowPrivateNetwork=True),
        with_upstream(auth={"type": "none"}, headers={"Authorization": "Basic eDp5", "Cookie": "a=b"}),
        with_upstream(auth={"type": "header", "header": "Cookie", "value": "a=b"}),
        with_upstream(headers={}, scopes=[], authorizationParams={}),
    ],
)
def test_what_the_rules_allow_loads(text: str) -> None:
    assert problems_of(text) == ()


def started(**keys: Any) -> str:
    return json.dumps(minimal(upstreams=[{"name": "a", "command": ["x"], **keys}]))


COMMANDS: list[tuple[str, str, str]] = [
    (started(command=[]), "command", "an empty list is not a command; write a list"),
    (started(command="npx server"), "command", "is one text; write the program and each argument as an item"),
    (started(command=["npx", 5]), "command[1]", "is not a text; put it in quotes"),
    (started(command=[" "]), "command[0]", "is empty or holds a NUL"),
    (started(command=["x", "hunter2\0"]), "command[1]", "is empty or holds a NUL"),
    (started(env={"A-B": "hunter2"}), "env.A-B", "'A-B' is not the name of an environment variable"),
    (started(env={"A": 5}), "env.A", "is not a text; put it in quotes"),
    (started(env={"A": "hunter2\0"}), "env.A", "holds a NUL"),
    (started(env={"A": {"file": "/nonexistent/x"}}), "env.A", "the file '/nonexistent/x' cannot be read"),
    (started(cwd="/nonexistent/x"), "cwd", "'/nonexistent/x' is not a directory"),
    (started(idleStop="5"), "idleStop", "'5' is not a duration"),
    (started(auth={"type": "none"}), "auth", "is for an upstream with 'url'; a command gets its credentials by 'env'"),
    (started(headers={"A": "hunter2"}), "headers", "is for an upstream with 'url'"),
    (started(clientId="x"), "clientId", "is for an upstream with 'url'"),
]


@pytest.mark.parametrize(("text", "path", "message"), COMMANDS, ids=[f"{row[1]}-{n}" for n, row in enumerate(COMMANDS)])
def test_what_is_wrong_with_a_command_is_told_without_quoting_it(text: str, path: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert problem.path == f"upstreams[0].{path}"
    assert problem.message.startswith(message)
    assert "hunter2" not in problem.message


def test_an_unknown_type_is_the_only_problem_of_its_upstream() -> None:
    (problem,) = problems_of(with_upstream(auth={"type": "beerer", "token": "x"}, clientId="x"))
    assert (problem.path, problem.suggestion) == ("upstreams[0].auth.type", "bearer")


def test_all_headers_that_are_wrong_are_told_at_once() -> None:
    found = problems_of(with_upstream(headers={"Host": "a", "X-A": "", "Mcp-Name": "b", "X-B": "c"}))
    assert [problem.path for problem in found] == [
        "upstreams[0].headers.Host",
        "upstreams[0].headers.X-A",
        "upstreams[0].headers.Mcp-Name",
    ]


def test_the_predecessors_registered_client_loads_unmodified() -> None:
    """mcp-aggregator 2.2: Slack has no dynamic registration."""
    text = with_upstream(name="slack", url="https://mcp.slack.com/mcp", clientId="1.2", clientSecret="s3cret")
    (upstream,) = load(text).config.upstreams
    assert (upstream.auth_type, upstream.account.client_id) == ("user", "1.2")
    assert upstream.account.client_secret == Secret("s3cret")


def test_no_scopes_and_no_wish_are_told_apart() -> None:
    assert load(with_upstream()).config.upstreams[0].account.scopes is None
    assert load(with_upstream(scopes=[])).config.upstreams[0].account.scopes == ()
