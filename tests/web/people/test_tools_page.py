"""The tools page: for whom, what a search shows, and that an upstream's texts stay texts."""

from __future__ import annotations

from typing import Any

import trio

from aggregator.config.model import Upstream
from aggregator.protocol.catalog import Catalog, Source, build_catalog
from aggregator.protocol.principal import Principal
from aggregator.web.people.tools_page import CatalogOf

from ..deployment import ANNA, BEN, Browser, Deployment, text_of

HOSTILE = '"><script>alert(1)</script>\u202e{{ 7*7 }}'
UPSTREAMS = (Upstream("mail", "https://mail.example/mcp", "mail", display_name="Mail & Co"),)


def catalog(*tools: dict[str, Any]) -> Catalog:
    return build_catalog([Source("mail", "mail", "Mail & Co", tools)], name_length=64)


def serving(*tools: dict[str, Any]) -> CatalogOf:
    """A catalog that Anna has and nobody else."""

    async def catalog_of(principal: Principal) -> Catalog:
        await trio.lowlevel.checkpoint()
        return catalog(*(tools if principal == ANNA.principal else ()))

    return catalog_of


SEND = {
    "name": "send",
    "description": "Send a letter.\nTo anybody.",
    "inputSchema": {"type": "object"},
    "annotations": {"destructiveHint": True},
}
MANY = tuple({"name": f"tool-{n}", "inputSchema": {}} for n in range(120))


async def signed_in(*tools: dict[str, Any], person: Any = ANNA) -> Browser:
    browser = Browser(Deployment(catalog_of=serving(*tools), upstreams=UPSTREAMS))
    await browser.sign_in(person)
    return browser


async def test_whoever_is_not_signed_in_signs_in_first() -> None:
    deployment = Deployment(catalog_of=serving(SEND), upstreams=UPSTREAMS)
    answer = await Browser(deployment).get("/tools")
    assert answer.status == 303
    assert b"send" not in answer.body


async def test_the_page_shows_whose_tool_it_is_and_what_it_takes() -> None:
    page = text_of(await (await signed_in(SEND)).get("/tools"))
    assert "<code>mail__send</code> from <strong><bdi>Mail &amp; Co</bdi></strong>" in page
    assert "says: destructive" in page
    assert "Send a letter." in page
    assert "Input schema" in page
    assert 'aria-current="page">Tools' in page
    assert "anna@example.com" in page


async def test_one_person_does_not_see_the_tools_of_another() -> None:
    page = text_of(await (await signed_in(SEND, person=BEN)).get("/tools"))
    assert "mail__send" not in page
    assert "There are none yet" in page


async def test_a_search_finds_without_a_script() -> None:
    browser = await signed_in(SEND, *MANY)
    assert "1 tool found" in text_of(await browser.get("/tools?q=letter"))
    assert "No tool has these words" in text_of(await browser.get("/tools?q=elephant&upstream=mail"))
    assert "0 tools found" in text_of(await browser.get("/tools?upstream=nobody"))


async def test_pages_lead_on_and_back_and_keep_the_search() -> None:
    browser = await signed_in(*MANY)
    first = text_of(await browser.get("/tools?q=tool&upstream=mail"))
    assert "page 1 of 3" in first
    assert 'href="/tools?q=tool&amp;upstream=mail&amp;page=2" rel="next"' in first
    assert 'rel="prev"' not in first
    last = text_of(await browser.get("/tools?q=tool&page=9"))
    assert 'href="/tools?q=tool&amp;page=2" rel="prev"' in last
    assert 'rel="next"' not in last


async def test_hostile_texts_stay_texts() -> None:
    hostile = {
        "name": HOSTILE,
        "title": HOSTILE,
        "description": HOSTILE,
        "inputSchema": {"type": "object", "properties": {HOSTILE: {"description": HOSTILE, "enum": [HOSTILE]}}},
    }
    page = text_of(await (await signed_in(hostile)).get("/tools"))
    assert "<script" not in page
    assert "\u202e" not in page
    assert "{{ 7*7 }}" in page
    again = text_of(await (await signed_in(hostile)).get("/tools?q=%22%3E%3Cscript%3E&upstream=%22%3E%3Cscript%3E"))
    assert "<script" not in again


async def test_two_and_a_half_thousand_tools_stay_below_half_a_megabyte() -> None:
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "x" * 60} for n in range(40)}}
    tools = tuple({"name": f"t{n}", "description": "word " * 100, "inputSchema": schema} for n in range(2500))
    assert len((await (await signed_in(*tools)).get("/tools")).body) < 500_000
