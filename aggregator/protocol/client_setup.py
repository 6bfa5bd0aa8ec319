"""How each MCP client is told about a server: commands, links, files and steps, in the formats of its vendor.

One table for the landing page, the documents and whoever else shows such a
thing, so that they cannot drift apart. Pure: a name and a URL in, texts out.

Links are of the app's own scheme. The https redirectors that some vendors offer
instead (insiders.vscode.dev/redirect, cursor.com/install-mcp, kiro.dev/launch)
would tell a third party where this server is; Kiro, which has nothing else,
gets a file.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

NAME = "mcp-aggregator"
MAX_NAME = 40  # clients put the name before every tool's, and some count the characters of both together


@dataclass(frozen=True, slots=True)
class Way:
    """One way to add the server, or one step of it. `label` says what to do with `text`, in plain words.

    A ``command`` goes to a shell, a ``link`` is opened, a ``file`` is merged into the file named by `label`, a
    ``step`` is read and has no `text`.
    """

    kind: Literal["command", "link", "file", "step"]
    label: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """One client, by the name people know it under, and the ways to add the server to it, best first."""

    client: str
    ways: tuple[Way, ...]


def name_for(issuer_url: str) -> str:
    """A name for the deployment that every client takes: the host's, in letters, digits and hyphens.

    A host that is loopback or an address says nothing; then it is `NAME`.
    """
    host = (urlsplit(issuer_url).hostname or "").lower()
    if host == "localhost" or _is_address(host):
        return NAME
    return re.sub(r"[^a-z0-9]+", "-", host)[:MAX_NAME].strip("-") or NAME


def client_setups(name: str, url: str) -> tuple[ClientSetup, ...]:
    """Every client that we know, in the order in which a page shows them.

    `name` is as `name_for` makes it. Formats as of 2026-11.
    """
    sign_in = "The client opens a login in your browser the first time."
    named = quote(name, safe="")
    typed = {"type": "http", "url": url}
    plain = {"url": url}
    in_code = {"name": name, **typed}
    return (
        ClientSetup(
            "Claude Code",
            (
                # Options before the name; without --transport the URL is stored as a command.
                Way("command", "Run", _shell("claude mcp add --transport http --scope user", name, url)),
                Way("command", "or, as JSON", _shell("claude mcp add-json --scope user", name, _compact(typed))),
                Way("command", "Then sign in; /mcp inside Claude Code does the same", _shell("claude mcp login", name)),
                Way("file", "or, for everybody in a project, in .mcp.json", _servers("mcpServers", name, typed)),
            ),
        ),
        ClientSetup(
            "Claude on the web and desktop",
            (
                Way("step", "This works where Anthropic's servers can reach the URL."),
                Way("step", "Open Settings, then Connectors. In a Team or Enterprise plan the owner does this first."),
                Way("step", f"Choose “Add custom connector”. Name: {name}. URL: {url}"),
                Way("step", "Press Connect and sign in."),
            ),
        ),
        ClientSetup(
            "Codex",
            (
                Way("command", "Run", _shell("codex mcp add", name, "--url", url)),
                Way("command", "Then sign in", _shell("codex mcp login", name)),
                Way("file", "or in ~/.codex/config.toml", f"[mcp_servers.{name}]\nurl = {json.dumps(url)}"),
            ),
        ),
        ClientSetup(
            "Gemini CLI",
            (
                # Both options are needed: the defaults are the project and a command.
                Way("command", "Run", _shell("gemini mcp add --scope user --transport http", name, url)),
                Way("step", f"Then, inside Gemini CLI, sign in with /mcp auth {name}"),
            ),
        ),
        ClientSetup(
            "VS Code",
            (
                Way("link", "Add to VS Code", f"vscode:mcp/install?{_percent(in_code)}"),
                Way("command", "or run", _shell("code --add-mcp", _compact(in_code))),
                Way("file", "or, for everybody in a project, in .vscode/mcp.json", _servers("servers", name, typed)),
            ),
        ),
        ClientSetup(
            "VS Code Insiders",
            (
                Way("link", "Add to VS Code Insiders", f"vscode-insiders:mcp/install?{_percent(in_code)}"),
                Way("command", "or run", _shell("code-insiders --add-mcp", _compact(in_code))),
            ),
        ),
        ClientSetup(
            "Cursor",
            (
                Way(
                    "link",
                    "Add to Cursor",
                    f"cursor://anysphere.cursor-deeplink/mcp/install?name={named}&config={_base64(plain)}",
                ),
                Way("file", "or in ~/.cursor/mcp.json", _servers("mcpServers", name, plain)),
            ),
        ),
        ClientSetup("Kiro", (Way("file", "In ~/.kiro/settings/mcp.json", _servers("mcpServers", name, plain)),)),
        ClientSetup(
            "LM Studio",
            (
                Way("link", "Add to LM Studio", f"lmstudio://add_mcp?name={named}&config={_base64(plain)}"),
                Way("file", "or in mcp.json", _servers("mcpServers", name, plain)),
            ),
        ),
        ClientSetup(
            "Goose",
            (
                Way(
                    "link",
                    "Add to Goose",
                    f"goose://extension?type=streamable_http&url={quote(url, safe='')}&id={named}&name={named}"
                    f"&description={quote('MCP servers behind ' + name, safe='')}",
                ),
            ),
        ),
        ClientSetup(
            "Windsurf",
            (Way("file", "In ~/.codeium/windsurf/mcp_config.json", _servers("mcpServers", name, {"serverUrl": url})),),
        ),
        ClientSetup(
            "A client that can only start commands",
            (
                Way(
                    "file",
                    "In its configuration; this needs Node.js",
                    _servers("mcpServers", name, {"command": "npx", "args": ["-y", "mcp-remote", url]}),
                ),
            ),
        ),
        ClientSetup(
            "Any other client",
            (Way("step", f"Give it this URL, as a “Streamable HTTP” server: {url}"), Way("step", sign_in)),
        ),
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shell(command: str, *arguments: str) -> str:
    return " ".join((command, *map(shlex.quote, arguments)))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _percent(value: Any) -> str:
    return quote(_compact(value), safe="")


def _base64(value: Any) -> str:
    # Standard base64, whose "+", "/" and "=" mean something else in a query.
    return quote(base64.b64encode(_compact(value).encode()).decode(), safe="")


def _servers(key: str, name: str, server: Any) -> str:
    return json.dumps({key: {name: server}}, indent=2, ensure_ascii=False)
