"""Every page there is, made from plain values: to be looked at, and held to what is true of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aggregator.errors import Refusal
from aggregator.protocol.catalog import Source, build_catalog
from aggregator.protocol.oauth.browser import BrowserSession
from aggregator.protocol.oauth.redirects import parse_redirect_uri
from aggregator.protocol.principal import Person, Principal
from aggregator.protocol.tool_search import Search, find_tools
from aggregator.web.http import Response
from aggregator.web.pages import Pages
from aggregator.web.people.clients_page import Moment, SignedInClient
from aggregator.web.people.connections_page import Row

Said = Callable[[str], str]

AWAY = "https://login.mail.example/authorize?client_id=x&state=y"
HOSTILE = (
    "\"><script>alert(1)</script><img src=x onerror=alert(1)>'{{7*7}} a-name-so-long-that-no-line-can-hold-it-" * 2
)
SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "body": {"type": "string"}},
    "required": ["to"],
}


def gallery(pages: Pages, hostile: str | None = None) -> dict[str, Response]:
    """Each page by name. With `hostile` it stands wherever a text comes from somebody else."""

    def said(usual: str) -> str:
        return usual if hostile is None else hostile

    person = Person(Principal("https://idp.example.com", "anna"), said("anna@example.com"))
    viewer = BrowserSession("s", person, "form-secret")
    redirect = parse_redirect_uri("http://127.0.0.1:50123/cb")
    far = parse_redirect_uri("https://chat.example.com/cb")
    upstream = {"name": "mail", "title": said("Mail"), "host": "mcp.mail.example"}
    connect: dict[str, Any] = {
        **upstream,
        "viewer": viewer,
        "description": said("Read and send letters."),
        "account": said("anna@work"),
    }
    connected: dict[str, Any] = {"viewer": viewer, "title": said("Mail"), "account": said("anna@work"), "then": ""}
    silent = said("Its authorization server did not answer.")
    not_connected: dict[str, Any] = {"status": 502, "viewer": viewer, "message": silent}
    when = Moment("21 November 2026, 07:15 UTC", "2026-11-21T07:15:00Z")
    clients = [
        SignedInClient("g1", said("Acme Chat"), "chat.example.com", when, when),
        SignedInClient("g2", "", "an app on this computer", when, None),
    ]
    tools = tools_context(said)
    return {
        "landing": pages.landing(),
        "local-landing": pages.local_landing("http://localhost:3000/mcp", True),
        "listen-token": pages.render("listen_token.html", viewer=None, state=said("state")),
        "landing-signed-in": pages.landing(viewer),
        "error": pages.error(502, said("Title"), said("Message."), "Do this.", "0f5a", code=said("server_error")),
        "not-found": pages.refusal(Refusal(404, "not_found", "Nothing is here; the MCP endpoint is /mcp."), "0f5a"),
        "consent": pages.consent(
            redirect=redirect, client_name=said("Acme Chat"), account=person.label, flow="f", csrf="c"
        ),
        "consent-document": pages.consent(
            redirect=far,
            client_name=said("Acme Chat"),
            account=person.label,
            flow="f",
            csrf="c",
            source="document",
            client_host="chat.example.com",
        ),
        "send-back": pages.send_back(
            403, said("Not signed in"), said("Message."), redirect=redirect, answer="x", request_id="0f5a"
        ),
        "connect": pages.render("connect.html", is_connected=False, **connect),
        "connect-again": pages.render("connect.html", is_connected=True, **connect),
        "going": pages.render("going.html", viewer=viewer, title=said("Mail"), host="login.mail.example", url=AWAY),
        "connected": pages.render("connected.html", following=None, **connected),
        "connected-and-on": pages.render("connected.html", following=("wiki", said("Wiki")), **connected),
        "not-connected": pages.render(
            "not_connected.html",
            title=said("Mail was not connected"),
            name="mail",
            upstream=said("Mail"),
            following=("wiki", said("Wiki")),
            then="",
            lasting=True,
            request_id="0f5a",
            **not_connected,
        ),
        "no-such-upstream": pages.render(
            "no_such_upstream.html", status=404, viewer=viewer, known=[("mail", said("Mail"))], request_id="0f5a"
        ),
        "connections": pages.render(
            "connections.html", viewer=viewer, place="/connections", rows=rows(said), expired=1
        ),
        "connections-none": pages.render("connections.html", viewer=viewer, place="/connections", rows=[], expired=0),
        "clients": pages.render("clients.html", viewer=viewer, place="/clients", clients=clients, mcp_url="u"),
        "clients-none": pages.render(
            "clients.html", viewer=viewer, place="/clients", clients=[], mcp_url="https://mcp.example.com/mcp"
        ),
        "tools": pages.render("tools.html", viewer=viewer, place="/tools", **tools),
    }


def rows(said: Said) -> list[Row]:
    host = "mcp.mail.example"
    return [
        Row("mail", said("Mail"), host, "Connected", "good", said("as anna@work"), 12, "Disconnect", "Reconnect"),
        Row(
            "crm",
            said("Customers"),
            host,
            "Login needed",
            "bad",
            said("The login has ended."),
            0,
            "Reconnect",
            "Forget",
        ),
        Row("wiki", said("Wiki"), host, "Not connected", "wait", "", 0, "Connect"),
        Row("files", said("Files"), host, "Trying again", "wait", said("503; next try at 07:20 UTC"), 3, "Disconnect"),
        Row("news", said("News"), host, "Unreachable", "bad", said("connection refused"), 0, None),
        Row("time", said("Time"), host, "Shared", "good", "the same for everyone", 2, None),
    ]


def tools_context(said: Said) -> dict[str, Any]:
    listed = (
        {
            "name": said("send"),
            "title": said("Send a letter"),
            "description": said("Send a letter to anybody.\n\nReturns the letter's number."),
            "inputSchema": {**SCHEMA, "description": said("What to send")},
            "annotations": {"destructiveHint": True},
        },
        {
            "name": "search",
            "description": said("Search letters."),
            "inputSchema": SCHEMA,
            "annotations": {"readOnlyHint": True},
        },
    )
    many = tuple({"name": f"folder-{number}", "inputSchema": SCHEMA} for number in range(60))
    catalog = build_catalog([Source("mail", "mail", said("Mail"), (*listed, *many))], name_length=64)
    return {
        "found": find_tools(catalog, Search()),
        "titles": {"mail": said("Mail")},
        "is_search": False,
        "previous": None,
        "following": "page=2",
    }
