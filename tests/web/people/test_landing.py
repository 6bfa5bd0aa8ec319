"""The root, for people, for programs, and for clients that lost their way."""

from __future__ import annotations

import json

import pytest

from aggregator.store.memory import MemoryStore

from ..deployment import Browser, Clock, Deployment, Flaky, header, text_of


async def test_a_program_gets_the_endpoint_in_json() -> None:
    answer = await Deployment().send("GET", "/", (("accept", "application/json"),))
    assert header(answer, "content-type") == "application/json"
    assert json.loads(answer.body) == {
        "name": "mcp-aggregator",
        "mcp": "https://mcp.example.com/mcp",
        "protectedResourceMetadata": "https://mcp.example.com/.well-known/oauth-protected-resource/mcp",
    }


@pytest.mark.parametrize("accept", ["text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "text/html, application/json"])
async def test_everybody_else_gets_the_page(accept: str) -> None:
    answer = await Deployment().send("GET", "/", (("accept", accept),))
    assert header(answer, "content-type") == "text/html; charset=utf-8"
    assert header(answer, "vary") == "accept"


async def test_a_client_that_posts_to_the_root_is_told_the_endpoint() -> None:
    answer = await Deployment().send("POST", "/", (("host", "evil.example"),), b'{"jsonrpc":"2.0"}')
    assert answer.status == 404
    assert "https://mcp.example.com/mcp" in json.loads(answer.body)["error"]["message"]


async def test_the_page_has_a_way_for_each_client() -> None:
    page = text_of(await Deployment().send("GET", "/"))
    assert "claude mcp add --transport http --scope user mcp-example-com https://mcp.example.com/mcp" in page
    assert 'href="vscode:mcp/install?%7B' in page
    assert "cursor://anysphere.cursor-deeplink/mcp/install?name=mcp-example-com&amp;config=" in page
    for third_party in ("vscode.dev", "cursor.com", "kiro.dev"):
        assert third_party not in page


async def test_whoever_is_signed_in_is_named_and_can_sign_out() -> None:
    browser = Browser(Deployment())
    assert "Sign out" not in text_of(await browser.get("/"))
    await browser.sign_in()
    page = text_of(await browser.get("/"))
    assert "Signed in as <bdi>anna@example.com</bdi>" in page
    assert "Sign out" in page


async def test_the_endpoint_can_be_read_while_the_store_is_away() -> None:
    clock = Clock()
    store = Flaky(MemoryStore(clock=clock))
    browser = Browser(Deployment(store=store, clock=clock))
    await browser.sign_in()
    store.away = True
    answer = await browser.get("/")
    assert answer.status == 200
    assert "https://mcp.example.com/mcp" in text_of(answer)
