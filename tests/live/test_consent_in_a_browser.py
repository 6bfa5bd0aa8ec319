"""The consent page in a real Chromium: what its headers must not break, and what a keyboard can do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, socket
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config as HypercornConfig

from aggregator.web.app import Application
from aggregator.web.gate import Gate
from tests.parts.processes import PATIENCE, free_port
from tests.web.deployment import ANNA, Deployment, FakeProvider, authorize_target

from .conftest import wait_on

pytestmark = pytest.mark.live

POPUP_PAGE = b"""<!doctype html><title>client</title>
<button onclick="window.open(location.hash.slice(1))">Connect</button>
<p id=got></p><script>addEventListener("message", e => { got.textContent = e.data })</script>"""
POPUP_CALLBACK = b"<!doctype html><script>opener.postMessage(location.search, '*')</script>"


class World(BaseHTTPRequestHandler):
    """The rest of the web: the identity provider, where everybody is Anna, and a client's pages."""

    provider: FakeProvider
    issuer: str
    callbacks: list[dict[str, str]]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/authorize":
            self._answer(303, location=self.issuer + self.provider.log_in(self.path, ANNA))
        elif path == "/client":
            self._answer(200, POPUP_PAGE)
        elif path == "/popup":
            self._answer(200, POPUP_CALLBACK)
        elif path == "/cb":
            self.callbacks.append(dict(parse_qsl(urlsplit(self.path).query)))
            self._answer(200, b"<!doctype html><link rel=icon href=data:,><h1>Back at the client</h1>")
        else:
            self._answer(404)

    def _answer(self, status: int, body: bytes = b"", location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        if location is not None:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class World6(ThreadingHTTPServer):
    address_family = AF_INET6


@dataclass
class Scene:
    deployment: Deployment
    world: str
    world6: str
    callbacks: list[dict[str, str]]

    def begin(self, redirect_uri: str, **changes: str | None) -> str:
        metadata = {"redirect_uris": [redirect_uri], "client_name": "Acme Chat", "token_endpoint_auth_method": "none"}
        registered = httpx2.post(
            f"{self.deployment.config.issuer_url}/register", json=metadata, trust_env=False, timeout=PATIENCE
        )
        return self.deployment.config.issuer_url + authorize_target(registered.json(), **changes)

    def read_code(self) -> dict[str, str]:
        [answer] = self.callbacks
        return answer


async def _no_mcp(*_: object) -> None:
    raise AssertionError("nobody calls /mcp here")


@contextmanager
def serving(deployment: Deployment, port: int) -> Iterator[None]:
    gate = Gate(deployment.config)
    app = Application(gate, "/mcp", _no_mcp, deployment.routes.values(), (), deployment.pages)
    settings = HypercornConfig()
    settings.bind = [f"127.0.0.1:{port}"]
    settings.errorlog = logging.getLogger("hypercorn.silent")
    stop: list[trio.lowlevel.TrioToken | trio.Event] = []
    ready = threading.Event()

    async def http_and_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
        else:
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})

    async def main() -> None:
        end = trio.Event()
        stop.extend((trio.lowlevel.current_trio_token(), end))
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(hypercorn.trio.serve, http_and_lifespan, settings, shutdown_trigger=end.wait, mode="asgi")
            )
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield
    finally:
        token, end = stop
        token.run_sync_soon(end.set)  # type: ignore[union-attr]
        thread.join(PATIENCE)
        assert not thread.is_alive()


def has_ipv6() -> bool:
    try:
        with socket(AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def scene() -> Iterator[Scene]:
    port = free_port()
    provider, callbacks = FakeProvider(), []  # type: ignore[var-annotated]
    issuer = f"http://localhost:{port}"
    handler = type("BoundWorld", (World,), {"provider": provider, "issuer": issuer, "callbacks": callbacks})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler)]
    if has_ipv6():
        servers.append(World6(("::1", 0), handler))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    provider.url = f"http://127.0.0.1:{servers[0].server_port}"
    deployment = Deployment(provider=provider, issuer_url=issuer, client_schemes=("cursor",))
    with serving(deployment, port):
        yield Scene(deployment, provider.url, f"http://[::1]:{servers[-1].server_port}", callbacks)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("where", ["world", "world6"])
def test_allow_leads_back_to_a_client_on_another_origin(scene: Scene, page: Any, where: str) -> None:
    """`form-action` covers the redirect that answers the form, and CSP cannot name an IPv6 host."""
    if where == "world6" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    page.goto(scene.begin(getattr(scene, where) + "/cb", state="a b"))
    page.get_by_role("button", name="Allow").click()
    page.get_by_role("heading", name="Back at the client").wait_for()
    answer = scene.read_code()
    assert (answer["state"], answer["iss"]) == ("a b", scene.deployment.config.issuer_url)
    assert answer["code"].startswith("mcpa_ac_")
    assert page.problems == []
    assert [cookie["name"] for cookie in page.context.cookies()] == ["mcp-session"]  # the flow's own is gone


@pytest.mark.requirement("AZ4")
def test_an_app_is_handed_its_answer_and_the_page_says_so(scene: Scene, page: Any) -> None:
    """The browser gives a URI of an app's own scheme away and goes on showing the page it came from."""
    asked: list[str] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["url"]))
    page.goto(scene.begin("cursor://anysphere.cursor-mcp/cb", state="a b"))
    page.get_by_role("button", name="Allow").click()
    page.get_by_role("heading", name="Access allowed").wait_for()
    page.get_by_role("button", name="Return to the app on this computer").click()
    wait_on(page, lambda: any(url.startswith("cursor:") for url in asked))
    [handed] = [url for url in asked if url.startswith("cursor:")]
    answer = dict(parse_qsl(urlsplit(handed).query))
    assert answer["state"] == "a b"
    assert answer["code"].startswith("mcpa_ac_")
    assert page.get_by_role("heading", name="Access allowed").is_visible()
    assert [text for text in page.problems if "Content Security Policy" in text] == []


def test_cancel_by_keyboard_alone(scene: Scene, page: Any) -> None:
    page.goto(scene.begin(scene.world + "/cb"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Allow"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Back at the client").wait_for()
    assert scene.read_code()["error"] == "access_denied"


def test_reload_and_back_do_no_harm(scene: Scene, page: Any) -> None:
    page.goto(scene.begin(scene.world + "/cb"))
    page.reload()
    page.get_by_role("button", name="Allow").click()
    page.get_by_role("heading", name="Back at the client").wait_for()
    page.go_back()
    page.get_by_role("heading", name="This sign-in cannot go on here").wait_for()
    assert len(scene.callbacks) == 1


def test_a_popup_can_still_tell_the_page_that_opened_it(scene: Scene, page: Any) -> None:
    page.goto(f"{scene.world}/client#{scene.begin(scene.world + '/popup')}")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Connect").click()
    opened.value.get_by_role("button", name="Allow").click()
    page.wait_for_function("got.textContent.includes('code=')")


def test_two_tabs_with_two_clients_do_not_disturb_each_other(scene: Scene, page: Any) -> None:
    other = page.context.new_page()
    page.goto(scene.begin(scene.world + "/cb", state="one"))
    other.goto(scene.begin(scene.world + "/cb", state="two"))
    page.get_by_role("button", name="Allow").click()
    page.get_by_role("heading", name="Back at the client").wait_for()
    other.get_by_role("button", name="Allow").click()
    other.get_by_role("heading", name="Back at the client").wait_for()
    assert [answer["state"] for answer in scene.callbacks] == ["one", "two"]


@pytest.mark.requirement("AZ14", "CO3")
def test_the_page_cannot_be_shown_in_a_frame(scene: Scene, page: Any) -> None:
    page.goto(scene.begin(scene.world + "/cb"))
    consent = page.url
    page.goto(scene.world + "/client")
    page.evaluate(
        "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f) }", consent
    )
    wait_on(page, lambda: len(page.frames) > 1 and page.frames[1].url not in ("", "about:blank"))
    assert page.frames[1].url.startswith("chrome-error:")


def test_the_button_of_an_error_page_leads_back(scene: Scene, page: Any) -> None:
    scene.deployment.provider.refuses = "this account is not allowed in"
    page.goto(scene.begin(scene.world + "/cb"))
    page.get_by_role("button", name="Return to the app on this computer").click()
    page.get_by_role("heading", name="Back at the client").wait_for()
    assert scene.read_code()["error"] == "access_denied"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_styled_in_light_and_dark(scene: Scene, page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(scene.begin(scene.world + "/cb"))
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert colours[0] != colours[1]
    assert (colours[0] == "rgb(21, 23, 26)") is (scheme == "dark")
    assert page.problems == []
