"""Pages: their headers, their style sheet, and that they need no script."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from aggregator.errors import Refusal
from aggregator.web import pages
from aggregator.web.http import Request, Response
from aggregator.web.pages import Pages

from .deployment import Deployment, config, header, text_of
from .gallery import HOSTILE, gallery

PAGES = Pages(config())
TEMPLATES = sorted((Path(pages.__file__).parent / "templates").glob("*.html"))
WITH_SCRIPT = {"landing", "landing-signed-in", "local-landing"}
LEADING_BACK = {"consent", "consent-document", "send-back"}


EVERY_PAGE = gallery(PAGES)
HOSTILE_PAGES = gallery(PAGES, HOSTILE)


def test_the_gallery_shows_every_template() -> None:
    """What is true of every page is shown for every page."""
    pages_of = {template.stem.replace("_", "-") for template in TEMPLATES} - {"base", "copy", "setups"}
    assert [name for name in pages_of if not any(shown.startswith(name) for shown in EVERY_PAGE)] == []


@pytest.mark.requirement("AZ14", "AZ15")
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_every_page_forbids_frames_foreign_scripts_referrers_and_caches(name: str) -> None:
    page = EVERY_PAGE[name]
    policy = header(page, "content-security-policy")
    assert policy is not None
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["script-src"] == ("'self'" if name in WITH_SCRIPT else "'none'")
    assert directives["base-uri"] == "'none'"
    assert header(page, "x-frame-options") == "DENY"
    assert header(page, "referrer-policy") == "no-referrer"
    assert header(page, "cache-control") == "no-store"
    assert header(page, "x-content-type-options") == "nosniff"


@pytest.mark.requirement("AZ15")
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_has_an_inline_script_or_style_or_trusts_a_text(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"<script(?! src=\"\{\{ \w+ \}\}\" defer></script>)|<style|javascript:", text)
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", text)
    assert not re.search(r"\|\s*safe|autoescape|Markup", text)
    assert not re.search(r"(src|href|action)=\"(https?:)?//", text)
    assert not re.search(r"\b(href|value|action|id|name)=\{\{", text), "an attribute without quotes is not escaped"


@pytest.mark.requirement("AZ15")
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_no_page_has_anything_inline_or_of_third_parties(name: str) -> None:
    text = text_of(EVERY_PAGE[name])
    assert "<style" not in text
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", text)
    loaded = re.findall(r'<(?:link|script|img)\b[^>]* (?:src|href)="([^"]*)"', text)
    scripts = [PAGES.routes[1].path] if name in WITH_SCRIPT else []
    assert loaded == ["data:,", PAGES.style_path, *scripts]
    assert text.count("<script") == len(scripts)
    assert 'lang="en"' in text
    assert text.count("<h1") == 1


def test_only_pages_that_lead_back_keep_their_opener() -> None:
    """A web client's popup must still reach the page that opened it after the redirect."""
    openers = {name: header(page, "cross-origin-opener-policy") for name, page in EVERY_PAGE.items()}
    assert {name for name, opener in openers.items() if opener is None} == LEADING_BACK
    assert {opener for opener in openers.values() if opener is not None} == {"same-origin"}


@pytest.mark.requirement("AZ15", "MD4")
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_no_text_of_others_becomes_part_of_a_page(name: str) -> None:
    """The same elements with the same attributes, whatever upstreams, clients and people are called."""

    class Elements(HTMLParser):
        def __init__(self, page: Response) -> None:
            super().__init__()
            self.found: list[tuple[str, list[str]]] = []
            self.feed(text_of(page))

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append((tag, [name for name, _ in attrs]))

    assert Elements(HOSTILE_PAGES[name]).found == Elements(EVERY_PAGE[name]).found


def test_a_lone_surrogate_does_not_break_a_page() -> None:
    assert PAGES.error(400, "\ud800", "m", "n", "r").status == 400


def test_a_refusal_becomes_a_page_with_its_headers_and_a_next_step() -> None:
    page = PAGES.refusal(Refusal(503, "temporarily_unavailable", "Away.", headers=(("retry-after", "5"),)), "r7")
    assert (page.status, header(page, "retry-after")) == (503, "5")
    assert "Away." in text_of(page)
    assert "connect again" in text_of(page)
    assert "r7" in text_of(page)
    assert PAGES.refusal(Refusal(418, "x", "y"), "r").status == 418


@pytest.mark.parametrize("status", [400, 403, 404, 405, 408, 413, 418, 421, 429, 500, 503])
def test_an_error_page_has_a_title_a_reference_a_code_and_one_next_step(status: int) -> None:
    page = text_of(PAGES.refusal(Refusal(status, "some_code", "Why."), "r7"))
    assert page.count("What to do:") == 1
    for text in ("Why.", "<code>r7</code>", "<code>some_code</code>", '<a href="/">Home</a>'):
        assert text in page


@pytest.mark.parametrize("issuer_url", ["https://mcp.example.com", "https://h.example/team"])
async def test_the_style_sheet_stands_at_its_hash_for_ever(issuer_url: str) -> None:
    deployment = Deployment(issuer_url=issuer_url)
    assert re.search(r"/static/style\.[0-9a-f]{16}\.css$", deployment.pages.style_path)
    response = await deployment.send("GET", deployment.pages.style_path)
    assert header(response, "cache-control") == "public, max-age=31536000, immutable"
    assert b"light-dark(" in response.body


async def test_the_static_files_are_small() -> None:
    style, script = [
        (await route.methods["GET"](Request("GET", route.path, "", (), b"", ""))) for route in PAGES.routes
    ]
    assert len(style.body) < 5 * 1024
    assert len(script.body) < 1024
    assert header(script, "content-type") == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("issuer_url", ["https://mcp.example.com", "https://h.example/team"])
async def test_the_landing_page_names_the_mcp_url(issuer_url: str) -> None:
    deployment = Deployment(issuer_url=issuer_url)
    root = "/" if issuer_url.endswith(".com") else "/team/"
    page = text_of(await deployment.send("GET", root, (("host", "evil.example"),)))
    assert f"{issuer_url}/mcp" in page
    assert "evil" not in page
