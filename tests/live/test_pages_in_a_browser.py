"""Every page in a real Chromium: light, dark and narrow, with and without its script, read by axe-core."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio

from aggregator.web.http import Request, Response
from aggregator.web.pages import Pages
from tests.demo.test_identity_provider import ASKED, Clock, browser, provider
from tests.parts.install import node_package
from tests.web.deployment import config
from tests.web.gallery import AWAY, HOSTILE, gallery

pytestmark = pytest.mark.live

PAGES = Pages(config())


async def demo_sign_in() -> Response:
    """The login page of the demo's identity provider."""
    async with browser(provider(Clock())) as client:
        page = await client.get("/authorize", params=ASKED)
        headers = [(name, value) for name, value in page.headers.items() if name != "content-length"]
        return Response(page.status_code, page.content, tuple(headers))


SHOWN = gallery(PAGES) | {"demo-sign-in": trio.run(demo_sign_in)}
SHOWN |= {f"hostile-{name}": page for name, page in gallery(PAGES, HOSTILE).items()}
HOSTILE_NAMES = sorted(gallery(PAGES))
NAMES = [*HOSTILE_NAMES, "demo-sign-in"]
STATIC = {
    route.path.lstrip("/"): trio.run(route.methods["GET"], Request("GET", route.path, "", (), b"", ""))
    for route in PAGES.routes
}
SERIOUS = ("serious", "critical")
MEDIA: dict[str, tuple[str, int]] = {"light": ("light", 1100), "dark": ("dark", 1100), "narrow": ("light", 320)}


class Shelf(BaseHTTPRequestHandler):
    """The finished answers, headers and all."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        response = STATIC.get(name) or SHOWN.get(name) or Response(404)
        self.send_response(response.status)
        for header, value in response.headers:
            self.send_header(header, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def shelf() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(autouse=True)
def nowhere(page: Any) -> list[str]:
    """The page that leads to an upstream's login stays: whoever asks there is answered 204. Who asked is noted."""
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=204)

    page.route("https://login.mail.example/**", answer)
    return asked


@cache
def axe() -> str:
    return node_package("axe-core/axe.min.js").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_and_nothing_is_wider_than_its_screen(shelf: str, page: Any, name: str) -> None:
    for scheme, width in MEDIA.values():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 700})
        page.goto(shelf + name)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.name = ''; one.open = true })")
        page.evaluate(axe())
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]
        assert serious == [], (scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (scheme, width)
    assert [text for text in page.problems if "status of" not in text] == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_hostile_text_runs_or_makes_a_page_wider_than_its_screen(shelf: str, page: Any, name: str) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    page.on("dialog", lambda dialog: page.problems.append(dialog.message))
    page.goto(f"{shelf}hostile-{name}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.locator("img").count() == 0
    assert [text for text in page.problems if "status of" not in text] == []


@pytest.mark.parametrize("name", ["connections", "clients"])
def test_no_name_is_long_enough_to_break_the_words_of_a_table(shelf: str, page: Any, name: str) -> None:
    for width in (1100, 700, 320):
        page.set_viewport_size({"width": width, "height": 700})
        page.goto(f"{shelf}hostile-{name}")
        broken = page.evaluate(
            """[...document.querySelectorAll('thead th, td button, td .badge')].filter(one => {
              const words = document.createRange();
              words.selectNodeContents(one.firstChild);
              return words.getClientRects().length > 1;
            }).map(one => one.textContent)"""
        )
        assert broken == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_copy_button_copies_and_says_so(shelf: str, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(shelf + "landing")
    page.get_by_role("button", name="Copy the URL").click()
    page.get_by_role("status").get_by_text("Copied").wait_for(state="attached")
    assert page.evaluate("navigator.clipboard.readText()") == "https://mcp.example.com/mcp"
    page.locator("summary", has_text="Codex").click()
    page.get_by_role("button", name="Copy for Codex").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('codex mcp add mcp-')")


def test_without_a_clipboard_the_text_is_selected(shelf: str, page: Any) -> None:
    page.add_init_script("delete Navigator.prototype.clipboard")
    page.goto(shelf + "landing")
    page.get_by_role("button", name="Copy the URL").click()
    page.get_by_role("status").get_by_text("Selected").wait_for(state="attached")
    assert page.evaluate("getSelection().toString()") == "https://mcp.example.com/mcp"


def test_without_scripts_no_button_promises_to_copy(shelf: str, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shelf + "landing")
    assert page.get_by_role("button").count() == 0
    page.get_by_text("Cursor", exact=True).click()
    assert page.get_by_role("link", name="Add to Cursor").is_visible()
    context.close()


def test_the_clients_open_by_keyboard_one_at_a_time(shelf: str, page: Any) -> None:
    page.goto(shelf + "landing")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.locator("summary").nth(2).focus()
    page.keyboard.press("Space")
    assert page.evaluate("[...document.querySelectorAll('details')].filter(one => one.open).length") == 1
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_nobody_who_wants_no_motion_gets_any(shelf: str, page: Any) -> None:
    for wish, duration in (("no-preference", "0.12s"), ("reduce", "0s")):
        page.emulate_media(reduced_motion=wish)
        page.goto(shelf + "connections")
        assert page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == duration


def test_the_page_on_the_way_to_an_upstream_goes_on_by_itself_and_by_its_link(
    shelf: str, page: Any, nowhere: list[str]
) -> None:
    """A redirect would be stopped by form-action, which cannot name every authorization server."""
    page.goto(shelf + "going")
    page.get_by_role("link", name="Continue to login.mail.example").click()
    page.wait_for_timeout(200)
    assert set(nowhere) == {AWAY}
    assert len(nowhere) == 2
