"""A configuration without `auth`: one person, who comes in by a front door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aggregator.config.model import (
    Account,
    BrowserLogin,
    Listen,
    LocalConfig,
    Secret,
    StdioUpstream,
    TokenCommand,
    Upstream,
)
from aggregator.errors import ConfigError

from .loading import KEY, load, problems_of, with_top, with_upstream

HTTP = {"name": "a", "url": "https://a.example.com/mcp"}


def local(**keys: Any) -> str:
    return json.dumps({"upstreams": [HTTP], **keys})


def test_the_smallest_file_listens_on_loopback_and_remembers_in_the_home_directory() -> None:
    loaded = load(local(), {"HOME": "/home/anna"})
    assert loaded.warnings == ()
    assert loaded.config == LocalConfig(
        auth=None,
        upstreams=(Upstream("a", "https://a.example.com/mcp", "a", auth_type="oauth", browser_login=BrowserLogin()),),
        issuer_url="http://localhost:3000",
        host="127.0.0.1",
        storage="/home/anna/.local/state/mcp-aggregator/local.sqlite",
    )


@pytest.mark.parametrize(
    ("environ", "storage"),
    [
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/mcp-aggregator/local.sqlite"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/mcp-aggregator/local.sqlite"),
        ({}, "memory"),
    ],
)
def test_where_it_remembers_follows_the_environment(environ: dict[str, str], storage: str) -> None:
    assert load(local(), environ).settings.storage == storage
    assert load(local(storage="memory"), environ).settings.storage == "memory"


def test_every_key_of_local_mode_arrives(tmp_path: Path) -> None:
    text = """
upstreams:
  - name: files
    command: [npx, -y, "@modelcontextprotocol/server-filesystem", "${HOME}"]
    env: {EMPTY: "", TOKEN: "${TOKEN}", KEY: {file: key}}
    cwd: .
    startOnUse: true
    idleStop: 15m
    prefix: ""
    toolTimeout: 1000
  - name: cloud
    url: https://cloud.example.com/mcp
    auth: {type: command, command: [gcloud, auth, print-access-token], ttl: 50m}
    headers: {X-Project: p}
  - name: linear
    url: https://mcp.linear.app/mcp
    auth:
      type: oauth
      clientName: mine
      clientIdCommand: [pass, id]
      clientSecretCommand: [pass, secret]
      callbackPort: 8085
      openBrowser: false
      allowIssuerMismatch: true
    scopes: [read]
  - {name: open, url: "http://127.0.0.1:9000/mcp", auth: {type: none}}
socket: mux.sock
listen: {token: a token of more than sixteen, allowUnauthenticated: false}
"""
    (tmp_path / "key").write_text("k\n")
    with pytest.raises(ConfigError) as caught:
        load(text, {"HOME": "/h", "TOKEN": "t"}, tmp_path)
    assert [problem.path for problem in caught.value.problems] == ["listen.token"]  # a token has no spaces
    settings = load(text.replace("a token of more than sixteen", KEY), {"HOME": "/h", "TOKEN": "t"}, tmp_path).settings
    assert settings.listen == Listen(socket=str(tmp_path / "mux.sock"), token=Secret(KEY))
    assert settings.issuer_url == "http://localhost"
    assert settings.upstreams == (
        StdioUpstream(
            name="files",
            prefix="",
            command=("npx", "-y", "@modelcontextprotocol/server-filesystem", "/h"),
            env={"EMPTY": Secret(""), "TOKEN": Secret("t"), "KEY": Secret("k")},
            cwd=str(tmp_path),
            start_on_use=True,
            idle_stop=900.0,
            tool_timeout=1.0,
        ),
        Upstream(
            name="cloud",
            url="https://cloud.example.com/mcp",
            prefix="cloud",
            auth_type="command",
            token_command=TokenCommand(("gcloud", "auth", "print-access-token"), 3000.0),
            headers=(("X-Project", Secret("p")),),
        ),
        Upstream(
            name="linear",
            url="https://mcp.linear.app/mcp",
            prefix="linear",
            auth_type="oauth",
            account=Account(scopes=("read",)),
            browser_login=BrowserLogin(
                client_name="mine",
                client_id_command=("pass", "id"),
                client_secret_command=("pass", "secret"),
                callback_port=8085,
                open_browser=False,
                allow_issuer_mismatch=True,
            ),
        ),
        Upstream("open", "http://127.0.0.1:9000/mcp", "open", auth_type="none"),
    )


OPEN = "'0.0.0.0' lets other machines in, and whoever comes could use every upstream; give 'listen.token'"
REFUSED: list[tuple[str, str, str]] = [
    (local(host="0.0.0.0"), "host", OPEN),
    (local(host="0.0.0.0", listen={"allowUnauthenticated": False}), "host", OPEN),
    (local(host="mcp.example.com"), "host", "'mcp.example.com' lets other machines in"),
    (local(clients=[]), "clients", "is for teams, and there is no 'auth' to log in by"),
    (local(clientSchemes=[]), "clientSchemes", "is for teams"),
    (local(clientDocuments=False), "clientDocuments", "is for teams"),
    (local(tokens={}), "tokens", "is for teams"),
    (local(upstreams=[{**HTTP, "auth": {"type": "user"}}]), "upstreams[0].auth.type", "'user' is for teams"),
    (local(listen={"transport": "sse"}), "listen.transport", "'sse' is not one of 'http', 'stdio'"),
    (local(listen={"transport": "stdio"}, port=1), "port", "is for http, and listen.transport is 'stdio'"),
    (local(listen={"transport": "stdio"}, socket="x"), "socket", "is for http, and listen.transport is 'stdio'"),
    (local(listen={"transport": "stdio", "token": KEY}), "listen.token", "is for http"),
    (local(listen={"token": "hunter2"}), "listen.token", "has 7 characters, which can be guessed"),
    (local(socket="x", port=1), "port", "stands beside 'socket'; give only one of them"),
    (local(socket="x" * 200), "socket", f"'/nonexistent/{'x' * 200}' is too long for a Unix socket"),
    (with_top(listen={}), "listen", "is for local mode, and with 'auth' people log in"),
]


@pytest.mark.parametrize(("text", "path", "message"), REFUSED, ids=[f"{row[1]}-{n}" for n, row in enumerate(REFUSED)])
def test_a_broken_rule_of_local_mode_is_one_problem(text: str, path: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.line == 1
    assert "hunter2" not in problem.message


@pytest.mark.parametrize(
    "text",
    [
        local(host="localhost"),
        local(host="::1"),
        local(host="0.0.0.0", listen={"token": KEY}),
        local(listen={"transport": "stdio"}),
        local(socket="/run/x.sock"),
        local(issuerUrl="https://mcp.example.com"),
    ],
)
def test_what_the_rules_of_local_mode_allow_loads(text: str) -> None:
    loaded = load(text)
    assert loaded.settings.auth is None
    assert loaded.warnings == ()


def test_a_door_that_is_opened_on_purpose_is_warned_of() -> None:
    (warning,) = load(local(host="0.0.0.0", listen={"allowUnauthenticated": True})).warnings
    assert (warning.path, warning.line) == ("host", 1)
    assert "whoever reaches it uses every upstream as you" in warning.message


NOT_SERVED: list[tuple[str, str]] = [
    (with_upstream(auth={"type": "oauth"}), "'oauth' with 'auth' (one account for everybody) is not available yet"),
]


@pytest.mark.parametrize(("text", "words"), NOT_SERVED)
def test_what_cannot_be_served_yet_can_be_checked(text: str, words: str) -> None:
    loaded = load(text)
    with pytest.raises(ConfigError) as caught:
        _ = loaded.config
    assert words in caught.value.problems[0].message


def test_an_upstream_that_is_left_out_does_not_stand_in_the_way() -> None:
    upstreams = [{**HTTP, "name": "a", "auth": {"type": "oauth"}, "enabled": False}, {**HTTP, "name": "b"}]
    config = load(with_top(upstreams=upstreams)).config
    assert [upstream.name for upstream in config.upstreams if upstream.enabled] == ["b"]


@pytest.mark.parametrize(
    ("command", "env", "where"),
    [
        (["~/bin/server"], {}, ["upstreams[0].command[0]"]),
        (["server", "--root=$HOME"], {}, ["upstreams[0].command[1]"]),
        (["server"], {"PATH": "$PATH:/opt/bin"}, ["upstreams[0].env.PATH"]),
        (["server", "${HOME}", "~", "5$"], {"TOKEN": "${SECRET}"}, []),
        (["/bin/sh", "-c", "exec server $HOME"], {}, []),
    ],
)
def test_what_only_a_shell_would_replace_is_warned_of(
    command: list[str], env: dict[str, str], where: list[str]
) -> None:
    text = json.dumps({"upstreams": [{"name": "a", "command": command, "env": env}]})
    loaded = load(text, environ={"HOME": "/home/ada", "SECRET": "pa$word-pa$word"})
    assert [problem.path for problem in loaded.warnings] == where
    assert all("no shell reads it" in problem.message for problem in loaded.warnings)
