"""A web page of another origin as an MCP client: the official TypeScript SDK in a real Chromium, over CORS.

The Inspector's own page speaks to its Node back end and never to a server, so it shows nothing of CORS.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers import open_python_server
from tests.parts.web_modules import file_of, import_map

from .asking import bearer_for
from .deployment import open_deployment

pytestmark = pytest.mark.live

PAGE = """<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>A client on the web</title>
<script type=importmap>%s</script>
<script type=module>
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
const kept = (key) => JSON.parse(sessionStorage.getItem(key) ?? 'null') ?? undefined;
const keep = (key, value) => sessionStorage.setItem(key, JSON.stringify(value));
const provider = {
  redirectUrl: location.origin + '/client',
  clientMetadata: {
    client_name: 'A page', redirect_uris: [location.origin + '/client'], token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  },
  state: () => { keep('state', crypto.randomUUID()); return kept('state'); },
  clientInformation: () => kept('client'), saveClientInformation: (client) => keep('client', client),
  tokens: () => kept('tokens'), saveTokens: (tokens) => keep('tokens', tokens),
  codeVerifier: () => kept('verifier'), saveCodeVerifier: (text) => keep('verifier', text),
  discoveryState: () => kept('discovery'), saveDiscoveryState: (state) => keep('discovery', state),
  redirectToAuthorization: (url) => { location.href = url; },
};
window.talk = async (url, token, mode) => {
  try {
    const options = token
      ? { requestInit: { headers: { Authorization: `Bearer ${token}` } } } : { authProvider: provider };
    const answer = new URLSearchParams(location.search);
    if (answer.has('code')) {
      if (answer.get('state') !== kept('state')) throw new Error('another state');
      await new StreamableHTTPClientTransport(new URL(url), options).finishAuth(answer);
    }
    const client = new Client({ name: 'page', version: '1' }, { versionNegotiation: { mode } });
    const transport = new StreamableHTTPClientTransport(new URL(url), options);
    await client.connect(transport);
    const { tools } = await client.listTools();
    const result = await client.callTool({ name: 'up__echo', arguments: { message: 'from a page' } });
    const protocol = client.getNegotiatedProtocolVersion();
    await transport.terminateSession?.();
    await client.close();
    return { protocol, tools: tools.map((tool) => tool.name), text: result.content[0].text };
  } catch (error) {
    if (error instanceof UnauthorizedError) return { sent: true };
    return { error: `${error.name}: ${error.message}` };
  }
};
document.title = 'ready';
</script>"""


class Site(BaseHTTPRequestHandler):
    """The origin of the page."""

    page: bytes

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        file = file_of(path)
        body, kind = (self.page, "text/html") if path == "/client" else (b"", "text/plain")
        if file is not None:
            body, kind = file.read_bytes(), "text/javascript"
        self.send_response(200 if body else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving_pages() -> Iterator[str]:
    modules = {"imports": import_map(["@modelcontextprotocol/client"])}
    handler = type("Handler", (Site,), {"page": (PAGE % json.dumps(modules)).encode()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def running(allowed: tuple[str, ...]) -> Iterator[str]:
    """An aggregator in a thread of its own, since playwright blocks the test's; its URL."""
    told: queue.Queue[str | BaseException] = queue.Queue()
    stop: list[Any] = []

    async def main() -> None:
        end = trio.Event()
        stop.extend((trio.lowlevel.current_trio_token(), end))
        async with (
            open_python_server(free_port()) as up,
            open_deployment({"up": up}, upstream_fields={"auth_type": "none"}, allowed_origins=allowed) as deployment,
        ):
            told.put(deployment.url)
            await end.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as exc:
            told.put(exc)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    url = told.get(timeout=PATIENCE)
    if isinstance(url, BaseException):
        raise url
    try:
        yield url
    finally:
        token, end = stop
        token.run_sync_soon(end.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert told.empty(), told.get()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with serving_pages() as origin:
        yield origin


@pytest.fixture(scope="module")
def aggregator(origin: str) -> Iterator[str]:
    with running((origin,)) as url:
        yield url


def talk(page: Any, url: str, token: str | None, mode: str = "auto") -> dict[str, Any]:
    page.wait_for_function("document.title === 'ready'")
    answer: dict[str, Any] = page.evaluate(
        "([url, token, mode]) => talk(url, token, mode)", [f"{url}/mcp", token, mode]
    )
    return answer


@pytest.mark.requirement("TR1")
@pytest.mark.parametrize(("mode", "protocol"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_a_page_of_an_allowed_origin_is_a_client_like_any_other(
    page: Any, origin: str, aggregator: str, mode: str, protocol: str
) -> None:
    page.goto(f"{origin}/client")
    answer = talk(page, aggregator, bearer_for(aggregator), mode)
    assert "error" not in answer, (answer, page.problems)
    assert answer["protocol"] == protocol
    assert {"up__echo", "gateway__status"} <= set(answer["tools"])
    assert "from a page" in answer["text"]


def test_a_page_of_an_allowed_origin_logs_its_person_in(page: Any, origin: str, aggregator: str) -> None:
    """Discovery, registration and the token endpoint answer a script; the rest is navigation."""
    page.goto(f"{origin}/client")
    page.wait_for_function("document.title === 'ready'")
    page.evaluate("url => { talk(url, null, 'auto') }", f"{aggregator}/mcp")
    page.locator("input[name=login]").fill("ada")
    page.locator("input[name=password]").fill("any password")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{origin}/client?**")
    answer = talk(page, aggregator, None)
    assert "error" not in answer, (answer, page.problems)
    assert "from a page" in answer["text"]


@pytest.mark.requirement("TR1")
def test_a_page_of_another_origin_reads_nothing(page: Any, aggregator: str) -> None:
    with serving_pages() as other:
        page.goto(f"{other}/client")
        answer = talk(page, aggregator, bearer_for(aggregator))
    assert "Failed to fetch" in answer["error"]
    assert any("CORS" in problem for problem in page.problems)
