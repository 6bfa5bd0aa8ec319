"""The well-known documents over the wire."""

from __future__ import annotations

import pytest

from aggregator.config.model import Account, Upstream

from ..deployment import Deployment, header, read

SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"


@pytest.mark.requirement("MD1", "MD2")
@pytest.mark.parametrize(
    ("issuer_url", "path"),
    [
        ("https://mcp.example.com", SERVER),
        ("https://mcp.example.com", RESOURCE),
        ("https://mcp.example.com", RESOURCE + "/mcp"),
        ("https://h.example/team", SERVER + "/team"),
        ("https://h.example/team", SERVER),
        ("https://h.example/team", "/team" + SERVER),
        ("https://h.example/team", RESOURCE + "/team/mcp"),
        ("https://h.example/team", "/team" + RESOURCE + "/mcp"),
    ],
)
async def test_documents_are_json_open_to_every_origin(issuer_url: str, path: str) -> None:
    deployment = Deployment(issuer_url=issuer_url)
    response = await deployment.send("GET", path)
    assert response.status == 200
    document = read(response)
    assert document.get("issuer", issuer_url) == issuer_url
    assert document.get("resource", issuer_url + "/mcp") == issuer_url + "/mcp"
    assert document.get("authorization_servers", [issuer_url]) == [issuer_url]
    assert deployment.routes[path].cors
    assert header(response, "cache-control") == "public, max-age=300"


@pytest.mark.requirement("MD1", "RS8")
async def test_spoofed_headers_leave_the_documents_byte_for_byte_alike() -> None:
    deployment = Deployment()
    spoofed = tuple(
        (name, value)
        for value in ("evil.example", 'x", error="y', "evil.example/a?b#c")
        for name in ("host", "x-forwarded-host", "x_forwarded_host", "x-forwarded-proto", "forwarded", "x-original-url")
    )
    for path in (SERVER, RESOURCE, RESOURCE + "/mcp"):
        plain = await deployment.send("GET", path)
        assert await deployment.send("GET", path, spoofed) == plain
        assert b"offline_access" not in plain.body
        assert b"evil" not in plain.body


async def test_every_endpoint_named_in_the_metadata_is_there() -> None:
    for issuer_url in ("https://mcp.example.com", "https://h.example/team"):
        deployment = Deployment(issuer_url=issuer_url)
        origin = "https://" + issuer_url.split("/")[2]
        document = read(await deployment.send("GET", SERVER))
        for key, value in document.items():
            if key.endswith("_endpoint"):
                assert value.removeprefix(origin) in deployment.routes


@pytest.mark.parametrize(("issuer_url", "path"), [("https://mcp.example.com", ""), ("https://h.example/team", "/team")])
async def test_our_own_document_as_a_client_stands_at_our_client_id(issuer_url: str, path: str) -> None:
    usual = Upstream("mail", "https://mail.example/mcp", "mail")
    shared = Upstream("wiki", "https://wiki.example/mcp", "wiki", account=Account(callback_path="/back"))
    none = Upstream("open", "https://open.example/mcp", "open", auth_type="none")
    deployment = Deployment(issuer_url=issuer_url, upstreams=(usual, shared, none))
    response = await deployment.send("GET", path + "/.well-known/oauth-client")
    document = read(response)
    assert response.status == 200
    assert document["client_id"] == f"{issuer_url}/.well-known/oauth-client"
    assert document["redirect_uris"] == [f"{issuer_url}/back", f"{issuer_url}/upstream-auth/callback/mail"]
    assert document["token_endpoint_auth_method"] == "none"
