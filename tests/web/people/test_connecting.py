"""``/connect/<upstream>``: the page that asks, and the way to the authorization server."""

from __future__ import annotations

import re

import pytest

from aggregator.store import Connection

from ..account_fakes import CHALLENGE, CLOCKS, GMAIL, SLACK, FakeAccounts, issuer_of
from ..connecting import World, begun, came_back, destination
from ..deployment import ANNA, FROM_OWN_PAGE, ISSUER, PROVIDER, Browser, header, hidden_fields, location, text_of


@pytest.mark.requirement("UP10")
async def test_a_connect_link_asks_who_is_there_and_then_whether_they_want_to() -> None:
    world = World()
    browser = Browser(world.deployment)
    sent_off = await browser.get("/connect/gmail")
    assert location(sent_off).startswith(PROVIDER)
    arrived = await browser.get(world.deployment.provider.log_in(location(sent_off), ANNA))
    assert location(arrived) == f"{ISSUER}/connect/gmail"
    page = text_of(await browser.get("/connect/gmail"))
    for words in ("Connect Gmail", "mcp.gmail.example", "anna@example.com"):
        assert words in page
    assert world.fakes.oauth.begun == []


@pytest.mark.requirement("UP10")
async def test_get_changes_nothing_however_often() -> None:
    world = World()
    browser = await world.signed_in()
    for target in ("/connect/gmail", "/connections", "/clients", "/connect"):
        jar = dict(browser.jar)
        await browser.get(target)
        await browser.get(target)
        assert browser.jar == jar
    assert (world.fakes.oauth.begun, world.saved) == ([], {})


async def test_who_begins_again_without_having_come_back_is_known_to_have_done_so() -> None:
    world = World()
    browser = await world.signed_in()
    oauth = world.fakes.oauth
    url = await begun(browser)
    await begun(browser, "slack")
    await came_back(browser, oauth.allow(await begun(browser)))
    await came_back(browser, oauth.allow(url))
    await begun(browser)
    assert oauth.unanswered == [frozenset(), frozenset(), {"mcp-aggregator"}, frozenset()]


async def test_an_answer_that_was_refused_was_one_all_the_same() -> None:
    """The authorization server is not asked whether it knows us, with a code that is none: it may count those."""
    world = World()
    browser = await world.signed_in()
    oauth = world.fakes.oauth
    refused = await begun(browser)
    assert (await browser.get(oauth.allow(refused, iss="https://other.example"))).status == 403
    await begun(browser)
    assert oauth.unanswered == [frozenset(), frozenset()]
    assert (await came_back(browser, oauth.allow(refused))).status == 200, "the flow went on"


@pytest.mark.requirement("UP4", "UP9")
async def test_a_person_connects_their_account_and_reads_which_one() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser)
    assert url.startswith(issuer_of("gmail"))
    assert world.fakes.oauth.begun == [("gmail", CHALLENGE, None)]
    page = await came_back(browser, world.fakes.oauth.allow(url))
    assert page.status == 200
    for words in ("Gmail is connected", "anna@gmail.example", "anna@example.com", "close this tab"):
        assert words in text_of(page)
    assert world.saved == {("anna", "gmail"): "anna@gmail.example"}
    assert browser.flows == {}


@pytest.mark.requirement("UP9", "UP10")
async def test_no_page_and_no_address_of_ours_holds_a_code_token_verifier_or_person() -> None:
    world = World()
    browser = await world.signed_in()
    page = await browser.get("/connect/gmail")
    going = await browser.post("/connect/gmail", hidden_fields(page), *FROM_OWN_PAGE)
    callback = world.fakes.oauth.allow(destination(going))
    [code] = world.fakes.oauth.codes
    connected = await came_back(browser, callback)
    for shown in (page, going, connected):
        text = text_of(shown)
        for canary in (code, "at-", "rt-", *browser.jar.values()):
            assert canary not in text
    assert "anna" not in destination(going)


@pytest.mark.requirement("AZ14", "AZ15")
async def test_every_page_of_the_way_forbids_frames_scripts_referrers_and_caches() -> None:
    world = World()
    browser = await world.signed_in()
    connect = await browser.get("/connect/gmail")
    going = await browser.post("/connect/gmail", hidden_fields(connect), *FROM_OWN_PAGE)
    callback = world.fakes.oauth.allow(destination(going))
    pages = [connect, going, await came_back(browser, callback), await came_back(browser, callback)]
    pages += [await browser.get(target) for target in ("/connections", "/clients", "/connect")]
    for page in pages:
        policy = header(page, "content-security-policy") or ""
        for directive in ("default-src 'none'", "script-src 'none'", "form-action 'self';", "frame-ancestors 'none'"):
            assert directive in policy
        assert header(page, "x-frame-options") == "DENY"
        assert header(page, "referrer-policy") == "no-referrer"
        assert header(page, "cache-control") == "no-store"
        assert not re.search(r"<script|<style|\s(style|on[a-z]+)=", text_of(page))
        assert text_of(page).count("<h1") == 1


async def test_below_an_issuer_with_a_path_everything_stands_below_it() -> None:
    world = World(issuer_url="https://h.example/team")
    browser = Browser(world.deployment)
    sent_off = await browser.get("/team/connect/gmail")
    arrived = await browser.get("/team" + world.deployment.provider.log_in(location(sent_off), ANNA))
    assert location(arrived) == "https://h.example/team/connect/gmail"
    page = await browser.get("/team/connect/gmail")
    going = await browser.post("/team/connect/gmail", hidden_fields(page), *FROM_OWN_PAGE)
    callback = world.fakes.oauth.allow(destination(going))
    assert callback.startswith("/team/upstream-auth/callback/gmail?")
    answered = await browser.get(callback)
    assert location(answered) == "https://h.example/team/connected/gmail"
    assert 'href="/team/connections"' in text_of(await browser.get("/team/connected/gmail"))


@pytest.mark.requirement("UP10")
@pytest.mark.parametrize(
    "headers",
    [
        (("origin", "https://evil.example"),),
        (("origin", "null"), ("sec-fetch-site", "cross-site")),
        (("origin", "null"), ("sec-fetch-site", "same-site")),
    ],
)
async def test_a_form_of_another_site_begins_nothing(headers: tuple[tuple[str, str], ...]) -> None:
    world = World()
    browser = await world.signed_in()
    form = hidden_fields(await browser.get("/connect/gmail"))
    assert (await browser.post("/connect/gmail", form, *headers)).status == 403
    assert (await browser.post("/connect/gmail", form | {"csrf": "x"}, *FROM_OWN_PAGE)).status == 403
    assert world.fakes.oauth.begun == []
    assert browser.flows == {}


async def test_what_the_upstream_lacks_is_told_with_a_way_to_try_again() -> None:
    world = World()
    browser = await world.signed_in()
    form = hidden_fields(await browser.get("/connect/gmail"))
    world.fakes.oauth.down = "no authorization server: https://mcp.gmail.example answers 404 <b>"
    page = await browser.post("/connect/gmail", form, *FROM_OWN_PAGE)
    assert page.status == 502
    assert "No authorization server" in text_of(page)
    assert "<b>" not in text_of(page)
    assert browser.flows == {}


async def test_several_are_connected_one_after_the_other() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser, then="slack,unknown,clocks,gmail")
    page = await came_back(browser, world.fakes.oauth.allow(url))
    assert "Go on with slack" in text_of(page)
    going = await browser.post("/connect/slack", hidden_fields(page), *FROM_OWN_PAGE)
    page = await came_back(browser, world.fakes.oauth.allow(destination(going)))
    assert "Go on" not in text_of(page)
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


async def test_where_one_of_several_is_not_allowed_the_page_leads_on_to_the_next() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser, then="slack")
    page = await came_back(browser, world.fakes.oauth.allow(url, code=None, error="access_denied"))
    assert "Go on with slack" in text_of(page)
    world.fakes.oauth.down = "no way there"
    page = await browser.post("/connect/slack", hidden_fields(page) | {"then": "gmail"}, *FROM_OWN_PAGE)
    assert "Go on with Gmail" in text_of(page)


async def test_an_unknown_upstream_is_404_and_names_the_known_ones_to_those_signed_in() -> None:
    world = World(fakes=FakeAccounts((GMAIL, SLACK, CLOCKS)))
    stranger, browser = Browser(world.deployment), await world.signed_in()
    page = await browser.get("/connect")
    assert page.status == 404
    assert 'href="/connect/gmail"' in text_of(page)
    assert "clocks" not in text_of(page)
    page = await stranger.get("/connect")
    assert page.status == 404
    assert "gmail" not in text_of(page)


async def test_connecting_again_says_what_is_connected() -> None:
    world = World()
    browser = await world.signed_in()
    await world.deployment.store.save_connection(
        Connection(ANNA.principal, "gmail", "c1", "at", "rt", account="anna@gmail.example")
    )
    page = text_of(await browser.get("/connect/gmail"))
    assert "Reconnect Gmail" in page
    assert "anna@gmail.example" in page
