"""From text to `Config`: the predecessor's examples, all problems at once, and what comes later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config import load_config
from aggregator.config.mask import SHOWN
from aggregator.config.model import Account, Auth, Config, KnownClient, Limits, Secret, Tokens, ToolFilter, Upstream
from aggregator.errors import ConfigError

from .loading import EXAMPLES, KEY, load, minimal, problems_of, with_auth, with_top, with_upstream


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_predecessors_examples_load_unmodified(path: Path) -> None:
    loaded = load_config(str(path), environ={}, cwd=Path("/"))
    raw = json.loads(path.read_text())
    assert loaded.config.auth is not None
    assert loaded.config.auth.issuer == raw["auth"]["issuer"]
    assert loaded.config.auth.client_id == raw["auth"].get("clientId", "mcp-aggregator")
    assert [(up.name, up.url) for up in loaded.config.upstreams] == [(up["name"], up["url"]) for up in raw["upstreams"]]


def test_the_predecessors_full_example_means_what_it_says() -> None:
    config = load((EXAMPLES / "full.json").read_text()).config
    assert config == Config(
        auth=Auth("https://keycloak.example.com/realms/myrealm", client_secret=Secret("optional-secret")),
        upstreams=(
            Upstream("gmail", "https://gmail-mcp.example.com/mcp", prefix="gmail"),
            Upstream("calendar", "https://calendar-mcp.example.com/mcp", prefix="calendar"),
        ),
        issuer_url="https://mcp.example.com",
        storage="/data/aggregator.sqlite",
        secret=Secret("some-persistent-secret"),
    )


def test_defaults_of_the_file_and_of_the_values_agree() -> None:
    assert load(with_top()).config == Config(
        auth=Auth("https://idp.example.com"),
        upstreams=(Upstream("gmail", "https://gmail.example.com/mcp", prefix="gmail"),),
        issuer_url="http://localhost:3000",
        secret=Secret(KEY),
    )


def test_every_key_that_works_arrives() -> None:
    text = """
$schema: ./config.schema.json
auth:
  issuer: http://idp.internal:8080/realm
  clientId: us
  clientSecret: s
  scopes: [openid, email]
  userClaim: email
  allow: {hd: example.com, groups: [eng, ops]}
  allowHttpIssuer: true
tokens: {access: 5m, refresh: 90d, refreshIdle: 36h, code: 500ms}
upstreams:
  - name: gmail
    url: http://127.0.0.1:9000/mcp?team=a
    displayName: Mail
    description: The team's mail
    enabled: false
    prefix: ""
    auth: {type: none}
    headers: {X-Team: a, X-Key: "${KEY}"}
    instructions: true
    tools: {include: ["a*"], exclude: ["*b"]}
    discoveryTimeout: 1
    toolTimeout: 1500
  - name: wiki
    url: https://wiki.example.com/mcp
    clientId: "1.2"
    clientSecret: c
    scopes: [a, b]
    authorizationServer: http://as.internal/x
    authorizationParams: {access_type: offline}
    sendResource: false
    callbackPath: /upstream-auth/callback
    allowPrivateNetwork: true
  - {name: search, url: "https://s.example.com/mcp", auth: {type: bearer, token: t0ken}, headers: {X-Team: b}}
  - {name: maps, url: "https://m.example.com/mcp", auth: {type: header, header: X-Api-Key, value: k}}
storage: ./here.sqlite
host: 127.0.0.1
port: 0
issuerUrl: https://MCP.example.com:443/tools/
allowedOrigins: ["https://App.example.com:443/", "vscode-webview://abc"]
allowedHosts: ["Aggregator.internal:3000"]
secret: correct horse battery staple
clients:
  - {clientId: desktop, name: Desktop, redirectUris: ["http://127.0.0.1/cb", "cursor://x/cb"]}
  - {clientId: web, redirectUris: ["https://app.example.com/cb"], clientSecret: a secret of the web client}
clientSchemes: [cursor, com.example.app]
clientDocuments: false
discoveryTimeout: 2000
toolTimeout: 30000
inputTimeout: 90s
outbound: {proxy: "http://us:pw@proxy.example.com:3128"}
drain: 3s
limits: {body: 64KiB, nameLength: 128, callsPerPerson: 3}
"""
    assert load(text, {"KEY": "v"}).config == Config(
        auth=Auth(
            issuer="http://idp.internal:8080/realm",
            client_id="us",
            client_secret=Secret("s"),
            scopes=("openid", "email"),
            user_claim="email",
            allow={"hd": ("example.com",), "groups": ("eng", "ops")},
            allow_http_issuer=True,
        ),
        upstreams=(
            Upstream(
                name="gmail",
                url="http://127.0.0.1:9000/mcp?team=a",
                prefix="",
                display_name="Mail",
                description="The team's mail",
                enabled=False,
                auth_type="none",
                headers=(("X-Team", Secret("a")), ("X-Key", Secret("v"))),
                instructions=True,
                tools=ToolFilter(("a*",), ("*b",)),
                discovery_timeout=0.001,
                tool_timeout=1.5,
            ),
            # An upstream that sets no timeout has those of the top.
            Upstream(
                name="wiki",
                url="https://wiki.example.com/mcp",
                prefix="wiki",
                account=Account(
                    client_id="1.2",
                    client_secret=Secret("c"),
                    scopes=("a", "b"),
                    authorization_server="http://as.internal/x",
                    authorization_params={"access_type": "offline"},
                    send_resource=False,
                    callback_path="/upstream-auth/callback",
                    allow_private_network=True,
                ),
                discovery_timeout=2.0,
                tool_timeout=30.0,
            ),
            Upstream(
                name="search",
                url="https://s.example.com/mcp",
                prefix="search",
                auth_type="bearer",
                headers=(("X-Team", Secret("b")), ("Authorization", Secret("Bearer t0ken"))),
                discovery_timeout=2.0,
                tool_timeout=30.0,
            ),
            Upstream(
                name="maps",
                url="https://m.example.com/mcp",
                prefix="maps",
                auth_type="header",
                headers=(("X-Api-Key", Secret("k")),),
                discovery_timeout=2.0,
                tool_timeout=30.0,
            ),
        ),
        issuer_url="https://mcp.example.com/tools",
        storage="./here.sqlite",
        host="127.0.0.1",
        port=0,
        allowed_origins=("https://app.example.com", "vscode-webview://abc"),
        allowed_hosts=("aggregator.internal:3000",),
        secret=Secret("correct horse battery staple"),
        discovery_timeout=2.0,
        tool_timeout=30.0,
        input_timeout=90.0,
        proxy=Secret("http://us:pw@proxy.example.com:3128"),
        drain=3.0,
        tokens=Tokens(300.0, 90 * 86400.0, 36 * 3600.0, 0.5),
        limits=Limits(64 * 1024, 128, 3),
        clients=(
            KnownClient("desktop", "Desktop", ("http://127.0.0.1/cb", "cursor://x/cb")),
            KnownClient("web", "web", ("https://app.example.com/cb",), Secret("a secret of the web client")),
        ),
        client_schemes=("cursor", "com.example.app"),
        client_documents=False,
    )


FIVE_IN_YAML = """\
auth:
  issuer: htps://idp.example.com
  clientID: us
upstreams:
  - name: gmail
    url: https://gmail.example.com/mcp
  - name: gmail
    url: https://calendar.example.com/mcp
port: 70000
secret: tooshort
"""
FIVE_IN_JSON = """\
{
  "auth": {"issuer": "htps://idp.example.com", "clientID": "us"},
  "upstreams": [
\t{"name": "gmail", "url": "https://gmail.example.com/mcp"},
\t{"name": "gmail", "url": "https://calendar.example.com/mcp"}
  ],
  "port": 70000, "secret": "tooshort"
}
"""
FIVE = [
    ("auth.issuer", "'htps://idp.example.com' is not an http(s) URL", "https://idp.example.com"),
    ("auth.clientID", "is not a known key", "clientId"),
    ("upstreams[1].name", "'gmail' is the name of upstreams[0] already", None),
    ("port", "70000 is not a port; expected a whole number from 0 to 65535", None),
    (
        "secret",
        "has 8 characters, which can be guessed; 16 is the least: make one with 'mcp-aggregator secret new'",
        None,
    ),
]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        (FIVE_IN_YAML, [(2, 11), (3, 3), (7, 11), (9, 7), (10, 9)]),
        (FIVE_IN_JSON, [(2, 22), (2, 48), (5, 11), (7, 11), (7, 28)]),
    ],
    ids=["yaml", "json"],
)
def test_five_mistakes_are_five_problems_in_file_order(text: str, positions: list[tuple[int, int]]) -> None:
    found = problems_of(text)
    assert [(problem.path, problem.message, problem.suggestion) for problem in found] == FIVE
    assert [(problem.line, problem.column) for problem in found] == positions


NOT_YET: list[tuple[str, str]] = [
    (with_top(storage="postgresql://u:p4ssw0rd@db/x"), "storage"),
    (with_top(storage="postgres://db/x"), "storage"),
    (with_top(socket="/run/x.sock"), "socket"),
]


@pytest.mark.parametrize(("text", "path"), NOT_YET, ids=[f"{path}-{n}" for n, (_, path) in enumerate(NOT_YET)])
def test_what_comes_later_is_refused_in_one_clear_sentence(text: str, path: str) -> None:
    (problem,) = problems_of(text)
    assert problem.path == path
    assert "not available yet" in problem.message
    assert "p4ssw0rd" not in problem.message


def test_a_file_is_of_one_program_or_of_the_other() -> None:
    (problem,) = problems_of("upstreams: []\nbackends: {}\n")
    assert (problem.path, problem.line, problem.column) == ("backends", 2, 1)
    assert "one file is one or the other" in problem.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("[]", "holds a list"),
        ("just words", "holds 'just words'"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_problem(text: str, words: str) -> None:
    (problem,) = problems_of(text)
    assert problem.message.startswith(words)
    assert "expected a mapping" in problem.message


SHAPES: list[tuple[str, str, str, str | None]] = [
    ('{"auth": {}}', "auth.issuer", "is missing", None),
    ('{"auth": {"issuer": "https://i.example.com"}}', "upstreams", "is missing", None),
    ("{}", "upstreams", "is missing", None),
    (with_top(upstreams=[]), "upstreams", "is empty; give at least one", None),
    (with_top(upstreams={"name": "a"}), "upstreams", "a mapping is not a list", None),
    (with_top(upstreams=["a"]), "upstreams[0]", "'a' is not a mapping of keys", None),
    (
        with_top(upstreams=[{"name": "a"}]),
        "upstreams[0].url",
        "is missing; give it, or 'command' to start the server here",
        None,
    ),
    (with_top(auth="x"), "auth", "'x' is not a mapping of keys", None),
    (with_auth(scopes="openid"), "auth.scopes", "'openid' is not a list; write [...] around it", None),
    (with_auth(client_secret="x"), "auth.client_secret", "is not a known key", "clientId"),
    (with_upstream(toolTimout=5), "upstreams[0].toolTimout", "is not a known key", "toolTimeout"),
    (with_upstream(tools={"includes": []}), "upstreams[0].tools.includes", "is not a known key", "include"),
    (with_upstream(auth="none"), "upstreams[0].auth", "'none' is not a mapping of keys", "{type: none}"),
    (with_auth(allow={"hd": None}), "auth.allow.hd", "has no value; give one or remove the key", None),
    (with_top(zzzzzz=1), "zzzzzz", "is not a known key", None),
    (
        with_top(mcpServers={}),
        "mcpServers",
        "is for clients; here it is 'upstreams', a list of {name: x, command: [npx, -y, server]}",
        None,
    ),
    (with_top(limits=None), "limits", "has no value; give one or remove the key", None),
]


@pytest.mark.parametrize(("text", "path", "message", "suggestion"), SHAPES, ids=[row[1] for row in SHAPES])
def test_a_wrong_shape_is_named(text: str, path: str, message: str, suggestion: str | None) -> None:
    found = [(problem.path, problem.message) for problem in problems_of(text)]
    assert (path, message) in found
    if suggestion and path != "auth.client_secret":
        assert problems_of(text)[0].suggestion == suggestion


def test_snake_case_keys_are_recognised() -> None:
    (problem,) = problems_of(with_auth(client_secret="x"))
    assert problem.suggestion == "clientSecret"


def test_each_value_has_one_problem_at_most() -> None:
    text = 'auth: {issuer: "${UNSET}", scopes: }\nupstreams: [{name: "${UNSET}", url: *gone}]\nsecret: ${UNSET}\n'
    paths = [problem.path for problem in problems_of(text)]
    assert sorted(paths) == ["auth.issuer", "auth.scopes", "secret", "upstreams[0].name", "upstreams[0].url"]


def test_values_come_from_the_environment_and_become_what_they_should_be() -> None:
    text = """
auth: {issuer: "https://${HOST}/realm", allowHttpIssuer: "${HTTP}", clientSecret: "${S:-none given}"}
upstreams: [{name: a, url: "${URL:-https://a.example.com/mcp}", toolTimeout: "${MS}"}]
port: ${PORT}
drain: ${DRAIN:-5s}
limits: {body: "${BODY}"}
"""
    environ = {"HOST": "idp.example.com", "HTTP": "true", "MS": "1500", "PORT": "8080", "BODY": "1MiB"}
    config = load(text, environ).config
    assert config.auth == Auth(
        "https://idp.example.com/realm", client_secret=Secret("none given"), allow_http_issuer=True
    )
    assert (config.port, config.drain, config.limits.body) == (8080, 5.0, 2**20)
    assert (config.upstreams[0].url, config.upstreams[0].tool_timeout) == ("https://a.example.com/mcp", 1.5)


def test_a_number_from_the_environment_that_is_none_says_so_as_the_file_does() -> None:
    text = json.dumps(minimal(port="${PORT}"))
    (problem,) = problems_of(text, {"PORT": "hunter2"})
    assert "'${PORT}' is not a port once filled from the environment" in problem.message
    assert "hunter2" not in problem.message


def test_an_unset_variable_is_a_problem_at_its_place() -> None:
    (problem,) = problems_of("auth: {issuer: https://i.example.com}\nupstreams:\n- {name: a, url: 'https://${H}/'}\n")
    assert (problem.path, problem.line, problem.column) == ("upstreams[0].url", 3, 18)
    assert "H is not set" in problem.message


def test_secrets_come_from_files_less_one_line_break(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "client").write_text("two\n\n")
    text = json.dumps(
        {
            **minimal(secret={"file": "${DIR}/key"}),
            "auth": {"issuer": "https://i.example.com", "clientSecret": {"file": "client"}},
        }
    )
    config = load(text, {"DIR": str(tmp_path)}, cwd=tmp_path).config
    assert config.secret == Secret(KEY)
    assert config.secret.file == str(tmp_path / "key")
    assert config.auth is not None
    assert config.auth.client_secret == Secret("two\n")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"file": "/nonexistent/x"}, "the file '/nonexistent/x' cannot be read: No such file or directory"),
        ({"file": "empty"}, "the file 'empty' is empty"),
        ({"file": "binary"}, "is not UTF-8 text"),
        ({"file": 3}, "3 is not a text"),
        ({"files": "x"}, "a mapping is not a secret"),
        ("", "an empty text"),
        (1234567890123456, "is not a text; put it in quotes"),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_problem(value: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (problem,) = problems_of(with_top(secret=value), cwd=tmp_path)
    assert words in problem.message
    assert "1234567890123456" not in problem.message


OTHER_KEY = "3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8"


def test_a_list_of_secrets_has_one_that_seals_and_others_that_open(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    loaded = load(with_top(secret=["${NEW}", {"file": "key"}]), {"NEW": OTHER_KEY}, cwd=tmp_path)
    assert loaded.config.secret == Secret(OTHER_KEY)
    assert loaded.config.other_secrets == (Secret(KEY),)
    assert load(with_top(secret=[KEY])).config == load(with_top()).config


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "secret", "is empty; give at least one"),
        ([KEY, "tooshort"], "secret[1]", "has 8 characters"),
        ([{"file": "/nonexistent/x"}, KEY], "secret[0]", "cannot be read"),
        ([[KEY]], "secret[0]", "a list is not a secret"),
        ([KEY, None], "secret[1]", "has no value"),
    ],
)
def test_what_is_wrong_in_a_list_of_secrets_is_told_at_its_place(value: Any, path: str, words: str) -> None:
    (problem,) = problems_of(with_top(secret=value))
    assert problem.path == path
    assert problem.line is not None
    assert words in problem.message


def test_a_passphrase_in_a_list_of_secrets_is_warned_of_at_its_place() -> None:
    (warning,) = load(with_top(secret=[KEY, "correct horse battery staple"])).warnings
    assert warning.path == "secret[1]"
    assert "is a passphrase" in warning.message


PLAIN = "http://tools.internal:8080/mcp"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"url": PLAIN, "auth": {"type": "bearer", "token": "hunter2"}}, "auth.type 'bearer'"),
        ({"url": PLAIN, "auth": {"type": "header", "header": "X-Key", "value": "hunter2"}}, "auth.type 'header'"),
        ({"url": PLAIN, "auth": {"type": "command", "command": ["token"]}}, "auth.type 'command'"),
        ({"url": PLAIN, "auth": {"type": "none"}, "headers": {"Authorization": "Basic hunter2"}}, "'Authorization'"),
        ({"url": PLAIN, "auth": {"type": "none"}, "headers": {"cookie": "hunter2"}}, "'cookie'"),
        ({"url": PLAIN, "clientId": "c", "clientSecret": "hunter2"}, "every token of whoever logs in"),
    ],
)
def test_a_credential_that_crosses_a_network_readable_to_all_is_warned_of(changes: Any, what: str) -> None:
    (warning,) = load(with_upstream(**changes)).warnings
    assert (warning.path, warning.line) == ("upstreams[0].url", 1)
    assert what in warning.message
    assert "use https" in warning.message
    assert "hunter2" not in repr(warning)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": PLAIN, "auth": {"type": "none"}, "headers": {"X-Team": "a"}},
        {"url": PLAIN, "auth": {"type": "bearer", "token": "t"}, "enabled": False},
        {"url": PLAIN},
        {"url": PLAIN, "clientId": "c", "allowPrivateNetwork": True},
        {"url": "http://127.0.0.1:8080/mcp", "auth": {"type": "bearer", "token": "t"}},
        {"url": "http://[::1]:8080/mcp", "auth": {"type": "bearer", "token": "t"}},
        {"auth": {"type": "bearer", "token": "t"}},
    ],
)
def test_what_shows_no_credential_to_a_network_is_not_warned_of(changes: Any) -> None:
    assert load(with_upstream(**changes)).warnings == ()


def test_no_problem_and_no_excerpt_holds_a_secret() -> None:
    text = """
auth: {issuer: "https://u:hunter2@idp.example.com", clientSecert: hunter2, clientSecret: {flie: hunter2}}
upstreams:
  - {name: a, url: "https://a.example.com/mcp?key=hunter2#x", headers: {Authorization: hunter2}}
  - {name: b, url: "https://hunter2@b.example.com/mcp", auth: {type: bearer, token: hunter2}}  # was hunter2
secret: hunter2
storage: redis://:hunter2@cache
listen: {token: hunter2}
"""
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert len(caught.value.problems) >= 9
    assert "hunter2" not in caught.value.text
    assert "hunter2" not in repr(caught.value.problems)


ANY_KEY = sorted(SHOWN | {"secret", "clientSecret", "headers", "file", "x"})
TOP_KEY = ["auth", "upstreams", "tokens", "limits", "secret", "storage", "port", "x"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["${A}", "gmail", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted(SHOWN | {"secret", "clientSecret", "headers", "file", "x"})), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["auth", "upstreams", "tokens", "limits", "secret", "storage", "port", "x"]), values
    )
)
def test_every_mapping_is_a_configuration_or_refused_in_words(value: dict[str, Any]) -> None:
    """Whatever stands in the file: no exception but `ConfigError`, each problem with a place and words."""
    for text in (json.dumps(value), json.dumps(minimal(**value))):
        for problem in problems_of(text, {"A": "b"}):
            assert problem.message
            assert problem.line is not None


def test_without_a_port_of_its_own_the_public_url_is_on_any_free_one() -> None:
    assert load(with_top(port=0)).config.issuer_url == "http://localhost:0"
