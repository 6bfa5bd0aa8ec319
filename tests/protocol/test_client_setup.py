"""Each client's own format, letter by letter, and that no name or URL breaks out of it."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from aggregator.protocol.client_setup import NAME, ClientSetup, Way, client_setups, name_for

U = "https://mcp.example.com/mcp"
ENCODED = "https%3A%2F%2Fmcp.example.com%2Fmcp"
JSON = '{"type":"http","url":"https://mcp.example.com/mcp"}'
IN_CODE = "%7B%22name%22%3A%22n%22%2C%22type%22%3A%22http%22%2C%22url%22%3A%22https%3A%2F%2Fmcp.example.com%2Fmcp%22%7D"
PLAIN = "eyJ1cmwiOiJodHRwczovL21jcC5leGFtcGxlLmNvbS9tY3AifQ%3D%3D"
EXPECTED = [
    ("Claude Code", "command", f"claude mcp add --transport http --scope user n {U}"),
    ("Claude Code", "command", f"claude mcp add-json --scope user n '{JSON}'"),
    ("Claude Code", "command", "claude mcp login n"),
    ("Codex", "command", f"codex mcp add n --url {U}"),
    ("Codex", "command", "codex mcp login n"),
    ("Codex", "file", f'[mcp_servers.n]\nurl = "{U}"'),
    ("Gemini CLI", "command", f"gemini mcp add --scope user --transport http n {U}"),
    ("VS Code", "link", f"vscode:mcp/install?{IN_CODE}"),
    ("VS Code", "command", "code --add-mcp '" + '{"name":"n",' + JSON[1:] + "'"),
    ("VS Code Insiders", "link", f"vscode-insiders:mcp/install?{IN_CODE}"),
    ("Cursor", "link", f"cursor://anysphere.cursor-deeplink/mcp/install?name=n&config={PLAIN}"),
    ("LM Studio", "link", f"lmstudio://add_mcp?name=n&config={PLAIN}"),
    (
        "Goose",
        "link",
        f"goose://extension?type=streamable_http&url={ENCODED}&id=n&name=n&description=MCP%20servers%20behind%20n",
    ),
]
FILES: list[tuple[str, dict[str, Any]]] = [
    ("Claude Code", {"mcpServers": {"n": {"type": "http", "url": U}}}),
    ("VS Code", {"servers": {"n": {"type": "http", "url": U}}}),
    ("Cursor", {"mcpServers": {"n": {"url": U}}}),
    ("Kiro", {"mcpServers": {"n": {"url": U}}}),
    ("LM Studio", {"mcpServers": {"n": {"url": U}}}),
    ("Windsurf", {"mcpServers": {"n": {"serverUrl": U}}}),
    (
        "A client that can only start commands",
        {"mcpServers": {"n": {"command": "npx", "args": ["-y", "mcp-remote", U]}}},
    ),
]


def ways(client: str, url: str = U) -> tuple[Way, ...]:
    [setup] = [setup for setup in client_setups("n", url) if setup.client == client]
    return setup.ways


@pytest.mark.parametrize(("client", "kind", "text"), EXPECTED)
def test_each_client_gets_its_own_format(client: str, kind: str, text: str) -> None:
    assert (kind, text) in [(way.kind, way.text) for way in ways(client)]


@pytest.mark.parametrize(("client", "content"), FILES)
def test_each_file_is_what_its_client_reads(client: str, content: dict[str, Any]) -> None:
    [text] = [way.text for way in ways(client) if way.kind == "file"]
    assert json.loads(text) == content


def test_every_client_has_a_way_and_every_way_its_words() -> None:
    setups: tuple[ClientSetup, ...] = client_setups("n", U)
    assert len({setup.client for setup in setups}) == len(setups)
    for setup in setups:
        assert setup.ways
        for way in setup.ways:
            assert way.label
            assert bool(way.text) is (way.kind != "step")


def test_steps_name_the_url() -> None:
    for client in ("Claude on the web and desktop", "Any other client"):
        assert any(U in way.label for way in ways(client))


def test_no_link_tells_a_third_party_where_we_are() -> None:
    """An app's own scheme stays on the person's computer; a vendor's https redirector sees our URL."""
    links = [way.text for setup in client_setups("n", U) for way in setup.ways if way.kind == "link"]
    assert {urlsplit(link).scheme for link in links} == {"vscode", "vscode-insiders", "cursor", "lmstudio", "goose"}


@pytest.mark.parametrize("url", ["https://h.example/a'b\"c;$(x)&d=e#f+g/mcp", "http://[::1]:3000/mcp"])
def test_no_url_breaks_out_of_its_format(url: str) -> None:
    for setup in client_setups("n", url):
        for way in setup.ways:
            if way.kind == "command" and "login" not in way.text:
                assert any(url in word or json.dumps(url) in word for word in shlex.split(way.text))
    for client in ("Cursor", "LM Studio"):
        query = parse_qs(urlsplit(ways(client, url)[0].text).query)
        assert json.loads(base64.b64decode(query["config"][0])) == {"url": url}
    assert json.loads(unquote(ways("VS Code", url)[0].text.partition("?")[2]))["url"] == url
    assert parse_qs(urlsplit(ways("Goose", url)[0].text).query)["url"] == [url]


@pytest.mark.parametrize(
    ("issuer_url", "name"),
    [
        ("https://mcp.example.com", "mcp-example-com"),
        ("https://MCP.Example.com:8443/team", "mcp-example-com"),
        ("http://localhost:3000", NAME),
        ("http://[::1]:3000", NAME),
        ("http://10.0.0.7", NAME),
        ("https://" + "a" * 60 + ".example", "a" * 40),
    ],
)
def test_the_name_is_the_hosts_where_that_says_something(issuer_url: str, name: str) -> None:
    assert name_for(issuer_url) == name
