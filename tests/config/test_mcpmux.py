"""Files of mcpmux, unmodified: what they mean here, and what is said about those that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config import load_config
from aggregator.config.mcpmux import AUTH, BACKEND, LISTEN, RETRY, SHOWN, STORE, TOP
from aggregator.config.model import (
    Account,
    BrowserLogin,
    ConnectRetry,
    Listen,
    LocalConfig,
    Secret,
    StdioUpstream,
    TokenCommand,
    Upstream,
)
from aggregator.errors import ConfigError

from .loading import KEY, load, problems_of

EXAMPLE = Path(__file__).parent / "mcpmux" / "example.yaml"
ENVIRON = {
    "HOME": "/home/anna",
    "GITHUB_TOKEN": "gh",
    "WIKI_TOKEN": "wt",
    "SEARCH_KEY": "sk",
    "DOMAIN": "cgr.example.com",
    "SLACK_SECRET": "ss",
}


def expected() -> LocalConfig:
    def http(name: str, url: str, **more: Any) -> Upstream:
        keys: dict[str, Any] = {"auth_type": "none", "tool_timeout": 600.0, **more}
        return Upstream(name=name, url=url, prefix=name, **keys)

    return LocalConfig(
        auth=None,
        upstreams=(
            StdioUpstream(
                name="github",
                prefix="github",
                description="The team's repositories",
                command=("docker", "run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"),
                env={"GITHUB_TOKEN": Secret("gh"), "LEVEL": Secret("3"), "TRACE": Secret("no")},
                tool_timeout=600.0,
            ),
            StdioUpstream(
                name="files",
                prefix="files",
                command=("npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/anna"),
                tool_timeout=600.0,
            ),
            http("open", "http://127.0.0.1:9000/mcp"),
            http("plain", "https://plain.example.com/mcp"),
            http(
                "wiki",
                "https://wiki.example.com/mcp",
                auth_type="bearer",
                headers=(("Authorization", Secret("Bearer wt")),),
            ),
            http(
                "search",
                "https://search.example.com/mcp",
                auth_type="header",
                headers=(("X-Api-Key", Secret("sk")),),
            ),
            http(
                "chainguard",
                "https://mcp.cgr.example.com/mcp",
                auth_type="command",
                token_command=TokenCommand(("chainctl", "auth", "token", "--audience", "mcp"), 3000.0),
            ),
            http(
                "linear",
                "https://mcp.linear.app/mcp",
                auth_type="oauth",
                browser_login=BrowserLogin(client_name="my mux", scope_filter=("read", "write")),
            ),
            http(
                "slack",
                "https://mcp.slack.com/mcp",
                auth_type="oauth",
                account=Account(client_id="1234567890.1234567890", client_secret=Secret("ss")),
                browser_login=BrowserLogin(
                    client_name="mcpmux", callback_port=8085, open_browser=False, allow_issuer_mismatch=True
                ),
            ),
            http(
                "google",
                "https://mail.google.example.com/mcp",
                auth_type="oauth",
                browser_login=BrowserLogin(
                    client_name="mcpmux",
                    client_id_command=("pass", "show", "google/id"),
                    client_secret_command=("pass", "show", "google/secret"),
                    callback_port=8085,
                ),
            ),
        ),
        issuer_url="http://localhost:8080",
        storage="/home/anna/.local/state/mcp-aggregator/local.sqlite",
        host="127.0.0.1",
        port=8080,
        tool_timeout=600.0,
        listen=Listen(transport="http", path="/mcp"),
        connect_retry=ConnectRetry(enabled=True, max_delay=900.0, attempt_timeout=90.0),
        eager_auth=True,
    )


def test_a_file_with_every_option_loads_unmodified_and_means_what_it_says() -> None:
    loaded = load_config(str(EXAMPLE), environ=ENVIRON, cwd=Path("/"))
    assert loaded.settings == expected()
    assert loaded.warnings == ()


def test_the_example_has_every_option() -> None:
    text = EXAMPLE.read_text()
    for key in (*TOP, *LISTEN[:3], *RETRY, *STORE, *BACKEND, *(key for keys in AUTH.values() for key in keys)):
        assert f"{key}:" in text


@pytest.mark.parametrize("name", ["mcpmux.yaml", "conf/mcpmux/config.yaml", "conf/mcpmux.yaml"])
def test_it_is_found_where_mcpmux_looks_for_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("backends: [{name: a, transport: http, endpoint: 'http://localhost:1/mcp'}]\n")
    loaded = load_config(environ={"XDG_CONFIG_HOME": str(tmp_path / "conf")}, cwd=tmp_path)
    assert [upstream.name for upstream in loaded.settings.upstreams] == ["a"]


SMALL = "backends:\n  - {name: a, transport: http, endpoint: http://localhost:1/mcp}\n"


def test_the_smallest_file_has_mcpmuxs_defaults() -> None:
    assert load(SMALL).settings == LocalConfig(
        auth=None,
        upstreams=(Upstream("a", "http://localhost:1/mcp", "a", auth_type="none", tool_timeout=600.0),),
        issuer_url="http://localhost:8080",
        host="127.0.0.1",
        port=8080,
        tool_timeout=600.0,
        listen=Listen(transport="stdio"),
    )


def test_keys_without_a_value_have_their_default() -> None:
    text = "listen:\neager_auth:\nconnect_retry: {max_delay: }\ntoken_store:\n" + SMALL.replace("}", ", auth: }")
    loaded = load(text)
    assert loaded.settings == load(SMALL).settings
    assert loaded.warnings == ()


def test_empty_texts_are_defaults_as_go_has_it() -> None:
    text = """\
listen: {transport: "", address: "", path: ""}
connect_retry: {max_delay: "", attempt_timeout: ""}
backends:
  - {name: a, transport: http, endpoint: http://localhost:1/mcp, description: "", auth: {type: ""}}
"""
    assert load(text).settings == load(SMALL).settings


def test_a_ttl_of_no_time_is_the_usual_one() -> None:
    for ttl in ("0", "-5m", '""'):
        text = SMALL.replace("}", f", auth: {{type: command, command: [x], ttl: {ttl}}}}}")
        (upstream,) = load(text).settings.upstreams
        assert upstream.token_command == TokenCommand(("x",), 300.0)


def test_logins_are_forgotten_where_the_file_says_so() -> None:
    environ = {"HOME": "/h"}
    assert load(SMALL, environ).settings.storage == "/h/.local/state/mcp-aggregator/local.sqlite"
    assert load(SMALL + "token_store: {enabled: false}\n", environ).settings.storage == "memory"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("localhost:9", "localhost", 9), ("[::1]:9", "::1", 9), ("127.0.0.2:9", "127.0.0.2", 9)],
)
def test_addresses_on_this_machine(address: str, host: str, port: int) -> None:
    settings = load(SMALL + f"listen: {{transport: http, address: '{address}'}}\n").settings
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize("address", [":9", "0.0.0.0:9", "mux.example.com:9", "[::]:9"])
def test_an_address_beyond_this_machine_needs_a_word(address: str) -> None:
    front = f"listen:\n  transport: http\n  address: '{address}'\n"
    (problem,) = problems_of(front + SMALL)
    assert (problem.path, problem.line, problem.column) == ("listen.address", 3, 12)
    assert "give 'listen.token', or 'listen.allow_unauthenticated: true'" in problem.message
    assert load(front + f"  token: {KEY}\n" + SMALL).settings.listen.token == Secret(KEY)
    loaded = load(front + "  allow_unauthenticated: true\n" + SMALL)
    assert loaded.settings.listen.allow_unauthenticated
    (warning,) = loaded.warnings
    assert (warning.path, warning.line, warning.column) == ("listen.address", 3, 12)
    assert "whoever reaches it uses every upstream as you" in warning.message
    assert load(front.replace("http", "stdio") + SMALL).warnings == ()


BROKEN = """\
listen: {transport: sse, path: mcp}
connect_retry:
  max_delay: soon
  attempt_timeout: 0s
backends:
  - transport: http
    endpoint: http://a.example.com/mcp
  - {name: b, transport: ftp}
  - {name: b, transport: command}
  - name: c
    transport: http
  - {name: d, transport: http, endpoint: d.example.com}
  - {name: e e, transport: command, command: [x]}
  - name: f
    transport: http
    endpoint: https://f.example.com/mcp
    auth: {type: basic}
  - {name: g, transport: http, endpoint: https://g.example.com/mcp, auth: {type: header, value: hunter2}}
  - name: h
    transport: http
    endpoint: https://h.example.com/mcp
    auth:
      type: command
      ttl: ${TTL}
  - name: i
    transport: http
    endpoint: https://i.example.com/mcp
    auth:
      type: oauth
      callback_port: 70000
      client_id: x
      client_id_command: [y]
      client_secret: hunter2
      client_secret_command: [z]
      open_browser: maybe
      scopes: read
  - {name: j, transport: http, endpoint: https://j.example.com/mcp, auth: {type: header, header: Host, value: x}}
  - {name: k, transport: http, endpoint: https://k.example.com/mcp, auth: {type: bearer, token: "hunter2 hunter2"}}
"""
EVERYTHING = [
    ("listen.transport", "must be 'stdio' or 'http', got 'sse'", (1, 21)),
    ("connect_retry.max_delay", "'soon' is not a duration; write one like '30s', '5m' or '1h30m'", (3, 14)),
    ("connect_retry.attempt_timeout", "must be positive, got '0s'", (4, 20)),
    ("backends[0].name", "is required", (6, 5)),
    ("backends[1].transport", "must be 'command' or 'http', got 'ftp'", (8, 26)),
    ("backends[2].command", "is required for transport 'command'", (9, 5)),
    ("backends[2].name", "'b' is the name of backends[1] already", (9, 12)),
    ("backends[3].endpoint", "is required for transport 'http'", (10, 5)),
    ("backends[4].endpoint", "'d.example.com' is not an http(s) URL", (12, 42)),
    ("backends[5].name", "'e e' is not a name; expected 1 to 32 of the characters A-Z a-z 0-9 _ . -", (13, 12)),
    ("backends[6].auth.type", "'basic' is unknown; expected one of 'none', 'bearer', 'header'", (17, 18)),
    ("backends[7].auth.header", "(the header's name) is required for auth.type 'header'", (18, 75)),
    ("backends[8].auth.command", "is required for auth.type 'command'", (23, 7)),
    ("backends[8].auth.ttl", "'${TTL}' is not a duration", (24, 12)),
    ("backends[9].auth.callback_port", "70000 is not a port", (30, 22)),
    ("backends[9].auth.client_id_command", "set only one of auth.client_id and auth.client_id_command", (32, 7)),
    ("backends[9].auth.client_secret_command", "set only one of auth.client_secret and", (34, 7)),
    ("backends[9].auth.open_browser", "'maybe' is neither true nor false", (35, 21)),
    ("backends[9].auth.scopes", "a text is not a list", (36, 15)),
    ("backends[10].auth.header", "'Host' belongs to the connection", (37, 98)),
    ("backends[11].auth.token", "holds a space", (38, 97)),
]


def test_everything_that_is_wrong_is_told_at_once_each_at_its_place() -> None:
    found = problems_of(BROKEN, {"TTL": "hunter2"})
    assert [(problem.path, (problem.line, problem.column)) for problem in found] == [
        (path, place) for path, _, place in EVERYTHING
    ]
    for problem, (_, message, _) in zip(found, EVERYTHING, strict=True):
        assert problem.message.startswith(message)
        assert "hunter2" not in problem.message


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("backends:\n", "backends", "at least one backend is required"),
        ("backends: []\n", "backends", "at least one backend is required"),
        ("backends: {a: 1}\n", "backends", "a mapping is not a list"),
        ("backends: [a]\n", "backends[0]", "a text is not a mapping of keys"),
        (SMALL + "listen: {transport: http, path: mcp}\n", "listen.path", "must start with '/', got 'mcp'"),
        (SMALL + "listen: {transport: http, address: '8080'}\n", "listen.address", "'8080' is not an address"),
        (SMALL + "listen: {transport: http, address: 'a:99999'}\n", "listen.address", "'a:99999' is not an address"),
        (SMALL + "listen: {token: hunter2}\n", "listen.token", "has 7 characters, which can be guessed"),
        (SMALL + "token_store: yes please\n", "token_store", "a text is not a mapping of keys"),
        (SMALL + "eager_auth: 1\n", "eager_auth", "1 is neither true nor false"),
        (SMALL + "eager_auth: true\neager_auth: true\n", "eager_auth", "stands twice"),
        (SMALL.replace("}", ", auth: none}"), "backends[0].auth", "a text is not a mapping of keys"),
        (SMALL.replace("localhost", "u:hunter2@localhost"), "backends[0].endpoint", "holds a user name or password"),
        ("backends: [{name: a, transport: command, command: x y}]\n", "backends[0].command", "a text is not a list"),
        ("backends: [{name: a, transport: command, command: [[x]]}]\n", "backends[0].command[0]", "is not a text"),
    ],
)
def test_a_wrong_shape_is_named(text: str, path: str, words: str) -> None:
    found = [(problem.path, problem.message) for problem in problems_of(text)]
    assert found[0][0] == path
    assert words in found[0][1]
    assert "hunter2" not in repr(found)


def test_what_mcpmux_lets_pass_without_a_word_is_a_warning() -> None:
    text = """\
lisen: {}
backends:
  - name: a
    transport: command
    command: [x]
    auth: {type: basic, user: hunter2}
    endpont: x
  - name: b
    transport: http
    endpoint: https://b.example.com/mcp
    env: {A: hunter2}
    auth: {type: bearer, token: "", ttl: soon}
  - {name: c, transport: http, endpoint: https://c.example.com/mcp, auth: {type: header, header: X-Key}}
"""
    loaded = load(text)
    assert [(warning.path, warning.line, warning.column) for warning in loaded.warnings] == [
        ("lisen", 1, 1),
        ("backends[0].auth", 6, 5),
        ("backends[0].endpont", 7, 5),
        ("backends[1].env", 11, 5),
        ("backends[1].auth.token", 12, 33),
        ("backends[1].auth.ttl", 12, 37),
        ("backends[2].auth.value", 13, 75),
    ]
    assert [warning.suggestion for warning in loaded.warnings][:3] == ["listen", None, "endpoint"]
    assert "does nothing here" in loaded.warnings[1].message
    assert "is empty; requests go without it" in loaded.warnings[4].message
    assert [upstream.headers for upstream in loaded.settings.upstreams] == [(), (), ()]


def test_a_credential_that_crosses_a_network_readable_to_all_is_warned_of() -> None:
    text = SMALL.replace("}", ", auth: {type: bearer, token: hunter2}}")
    assert load(text).warnings == ()
    (warning,) = load(text.replace("localhost", "tools.internal")).warnings
    assert (warning.path, warning.line) == ("backends[0].endpoint", 2)
    assert "auth.type 'bearer'" in warning.message


def test_variables_that_are_not_set_are_told_once_and_not_in_comments() -> None:
    text = """\
# ${COMMENTED} costs $5
backends:
  - name: a
    transport: http
    endpoint: https://a.example.com/mcp
    auth: {type: bearer, token: "${TOKEN}"}  # ${COMMENTED}
  - {name: b, transport: command, command: [x, "$TOKEN", "${ARGUMENT:-hunter2}", "a$1"]}
"""
    warnings = load(text).warnings
    assert [(warning.line, warning.column) for warning in warnings] == [(6, 33), (6, 34), (7, 59), (7, 84)]
    messages = [warning.message for warning in warnings if not warning.path]
    assert messages == [
        "the environment variable TOKEN is not set, so it is empty here",
        "the environment variable ARGUMENT is not set, so it is empty here, and files of mcpmux know no default",
        "'$' begins the name of a variable here, which is empty; a '$' must itself come from a variable",
    ]


def test_a_variable_may_change_the_structure_and_places_still_lead_to_the_file() -> None:
    environ = {"BACKENDS": "[{name: a, transport: http, endpoint: 'http://localhost:1/mcp'},\n {name: b}]"}
    text = "listen: {transport: stdio}\nbackends: ${BACKENDS}\nconnect_retry: {max_delay: x}\n"
    found = problems_of(text, environ)
    assert [(problem.path, problem.line, problem.column) for problem in found] == [
        ("backends[1].transport", 2, 11),
        ("connect_retry.max_delay", 3, 28),
    ]


def test_a_file_that_is_yaml_only_once_expanded_loads() -> None:
    text = "backends:\n  - {name: a, transport: command, command: [x], env: {A: ${A}, B: $B}}\n"
    (upstream,) = load(text, {"A": "1", "B": "2"}).settings.upstreams
    assert isinstance(upstream, StdioUpstream)
    assert upstream.env == {"A": Secret("1"), "B": Secret("2")}
    (problem,) = problems_of(text + "eager_auth: x\n", {"A": "1", "B": "2"})
    assert (problem.path, problem.line, problem.column) == ("eager_auth", 3, 13)


@pytest.mark.parametrize("environment", ['"A=B": c', '"": c', 'A: "hunter2\\0"'])
def test_an_environment_that_no_program_can_have_is_refused(environment: str) -> None:
    text = f"backends: [{{name: a, transport: command, command: [x], env: {{{environment}}}}}]\n"
    (problem,) = problems_of(text)
    assert problem.path.startswith("backends[0].env")
    assert "hunter2" not in problem.message


def test_yaml_that_a_variable_breaks_is_told_at_the_variable_and_without_its_value() -> None:
    with pytest.raises(ConfigError) as caught:
        load(SMALL + 'listen: {token: "${TOKEN}"}\n', {"TOKEN": 'hunter2": "'})
    (problem,) = caught.value.problems
    assert (problem.line, problem.message.startswith("not valid YAML")) == (3, True)
    assert "hunter2" not in repr(caught.value.problems) + caught.value.text


def test_no_problem_and_no_excerpt_holds_a_secret() -> None:
    text = """\
listen: {transport: http, address: 0.0.0.0:1, tokn: c4nary}
backends:
  - {name: a, transport: http, endpoint: "https://c4nary@a.example.com/mcp?key=c4nary#", auth: {type: bearer,
     token: c4nary c4nary}}
  - {name: b, transport: http, endpoint: "https://b.example.com/${T}/mcp#", auth: {type: "${T}", value: c4nary}}
  - {name: c, transport: command, command: [x, --key, c4nary], env: {KEY: c4nary, OTHER: "${T}"}, trnsport: c4nary}
  - {name: "${T} ${T}", transport: "${T}"}  # c4nary
  - {name: e, transport: http, endpoint: https://e.example.com/mcp, auth: {type: oauth, client_secret: c4nary,
     client_secret_command: [c4nary], callback_port: "${T}", scopes: "${T}", open_browser: "${T}"}}
"""
    with pytest.raises(ConfigError) as caught:
        load(text, {"T": "c4nary"})
    assert len(caught.value.problems) >= 9
    assert "c4nary" not in repr(caught.value.problems)
    assert "c4nary" not in caught.value.text


def test_an_excerpt_is_the_line_as_written_without_what_may_be_secret() -> None:
    text = """\
backends:
  - {name: a, transport: http, endpoint: "https://${HOST}/mcp?k=c4nary", auth: {type: bearer, token: "${T}c4nary"}}
  - {name: b, transport: command, command: [x, $T, c4nary], env: {A: $T}, description: $HOST $T}
  - {name: c, transport: ${T}}
"""
    with pytest.raises(ConfigError) as caught:
        load(text, {"HOST": "h.example.com", "T": "c4nary"})
    assert (
        caught.value.text
        == """\
backends:
  - {name: a, transport: http, endpoint: "https://${HOST}/mcp?********", auth: {type: bearer, token: ************}}
  - {name: b, transport: command, command: [*, **, ******], env: {A: **}, description: $HOST $T}
  - {name: c, transport: ${T}}
"""
    )


def test_there_are_no_excerpts_where_a_variable_moves_what_comes_after_it() -> None:
    text = '{"backends": [{"name": "$E", "transport": "x", "c4nary": "c4nary"}]}'
    with pytest.raises(ConfigError) as caught:
        load(text, {"E": "\\ud83d\\ude00"})
    assert caught.value.text == ""


def test_only_keys_of_mcpmux_are_shown() -> None:
    known = {*TOP, *LISTEN, *RETRY, *STORE, *BACKEND, "type", *(key for keys in AUTH.values() for key in keys)}
    assert known >= SHOWN
    assert not {"token", "value", "command", "env", "client_id", "client_secret"} & SHOWN


def test_every_key_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mcpmux.md").read_text()
    for key in KEYS:
        assert re.search(rf"\b{key}\b", text), key


KEYS = sorted({*TOP, *LISTEN, *RETRY, *BACKEND, "type", *(key for keys in AUTH.values() for key in keys)})
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["$A", "http", "oauth", "a", "5m", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), values), st.lists(values, max_size=2))
def test_every_mapping_is_a_configuration_or_refused_in_words(value: dict[str, Any], backends: list[Any]) -> None:
    for problem in problems_of(json.dumps({**value, "backends": backends}), {"A": "b"}):
        assert problem.message
        assert problem.line == 1
