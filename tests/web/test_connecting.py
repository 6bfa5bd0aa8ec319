"""From ``/connect/<upstream>`` to the callback: who finishes is who began, and a code goes to nobody else."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import trio

from aggregator.store import Connection
from aggregator.web.http import Response

from .account_fakes import CHALLENGE, CLOCKS, GMAIL, SLACK, FakeAccounts, FakeOAuth, issuer_of, sharing
from .deployment import (
    ANNA,
    BEN,
    FROM_OWN_PAGE,
    ISSUER,
    PROVIDER,
    Browser,
    Deployment,
    Flaky,
    header,
    hidden_fields,
    location,
    target_of,
    text_of,
)


class World:
    """A deployment, its people's accounts, and browsers."""

    def __init__(self, *, fakes: FakeAccounts | None = None, **settings: Any) -> None:
        self.fakes = fakes or FakeAccounts()
        self.deployment = Deployment(accounts=self.fakes.accounts(), upstreams=self.fakes.upstreams, **settings)

    async def signed_in(self, person: Any = ANNA) -> Browser:
        browser = Browser(self.deployment)
        await browser.sign_in(person)
        return browser

    @property
    def saved(self) -> dict[tuple[str, str], str | None]:
        found = self.fakes.connecting.saved
        return {(principal.subject, upstream): issued.account for (principal, upstream), issued in found.items()}

    @property
    def redeemed(self) -> list[str]:
        return self.fakes.oauth.redeemed


async def begun(browser: Browser, upstream: str = "gmail", **form: str) -> str:
    """Press Connect; where the browser stands then."""
    page = await browser.get(f"/connect/{upstream}")
    return destination(await browser.post(f"/connect/{upstream}", hidden_fields(page) | form, *FROM_OWN_PAGE))


def destination(page: Response) -> str:
    """Where a page leads on to, by itself and by its link."""
    assert page.status == 200, text_of(page)
    [url] = re.findall(r'<meta http-equiv="refresh" content="0;url=([^"]*)">', text_of(page))
    assert f'href="{url}"' in text_of(page)
    return unescape(url)


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


@pytest.mark.requirement("UP4", "UP9")
async def test_a_person_connects_their_account_and_reads_which_one() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser)
    assert url.startswith(issuer_of("gmail"))
    assert world.fakes.oauth.begun == [("gmail", CHALLENGE, None)]
    page = await browser.get(world.fakes.oauth.allow(url))
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
    connected = await browser.get(callback)
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
    pages = [connect, going, await browser.get(callback), await browser.get(callback)]
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


@pytest.mark.requirement("UP4", "UP10")
async def test_a_link_to_the_authorization_server_opened_in_another_browser_fails_and_no_code_leaves() -> None:
    """COSF: the attacker begins, the victim allows; the victim's account must not become the attacker's."""
    world = World()
    attacker, victim = await world.signed_in(BEN), await world.signed_in(ANNA)
    url = await begun(attacker)
    page = await victim.get(world.fakes.oauth.allow(url))
    assert page.status == 403
    assert "another browser" in text_of(page)
    assert (world.redeemed, world.saved) == ([], {})


@pytest.mark.requirement("UP4")
async def test_an_attackers_answer_in_the_victims_flow_connects_nothing() -> None:
    """The other way round: the attacker's code, put into a flow that the victim has begun."""
    world = World()
    attacker, victim = await world.signed_in(BEN), await world.signed_in(ANNA)
    attackers, victims = await begun(attacker), await begun(victim)
    injected = world.fakes.oauth.allow(attackers).partition("code=")[2].partition("&")[0]
    page = await victim.get(world.fakes.oauth.allow(victims, code=injected))
    assert page.status == 502
    assert world.saved == {}


@pytest.mark.requirement("UP10")
async def test_another_person_in_the_same_browser_does_not_get_the_account() -> None:
    world = World()
    browser = await world.signed_in(ANNA)
    url = await begun(browser)
    await browser.get("/sign-in")
    csrf = hidden_fields(await browser.get("/clients"))["csrf"]
    await browser.post("/sign-out", {"csrf": csrf}, *FROM_OWN_PAGE)
    await browser.sign_in(BEN)
    callback = world.fakes.oauth.allow(url)
    page = await browser.get(callback)
    assert page.status == 403
    assert "Another person" in text_of(page)
    assert "anna" not in text_of(page)
    assert (world.redeemed, world.saved) == ([], {})
    assert (await browser.get(callback)).status == 403


@pytest.mark.requirement("UP10")
@pytest.mark.parametrize(("person", "status"), [(ANNA, 200), (BEN, 403)])
async def test_who_was_signed_out_on_the_way_signs_in_and_is_compared_never_adopted(person: Any, status: int) -> None:
    world = World()
    browser = await world.signed_in(ANNA)
    callback = world.fakes.oauth.allow(await begun(browser))
    [code] = world.fakes.oauth.codes
    browser.jar.pop("__Host-mcp-session")
    sent_off = await browser.get(callback)
    assert location(sent_off).startswith(PROVIDER)
    assert code not in location(sent_off)
    assert world.redeemed == []
    arrived = await browser.get(world.deployment.provider.log_in(location(sent_off), person))
    assert code not in location(arrived)
    page = await browser.get(target_of(location(arrived)))
    assert page.status == status
    assert world.saved == ({("anna", "gmail"): "anna@gmail.example"} if status == 200 else {})
    assert world.redeemed == ([code] if status == 200 else [])
    assert browser.flows == {}


@pytest.mark.requirement("UP4")
async def test_an_answer_counts_once() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    jar = dict(browser.jar)
    assert (await browser.get(callback)).status == 200
    browser.jar = jar
    assert (await browser.get(callback)).status == 400
    assert len(world.redeemed) == 1


@pytest.mark.requirement("UP4")
async def test_an_answer_after_ten_minutes_is_too_late() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    world.deployment.clock.pass_by(600)
    assert (await browser.get(callback)).status == 403
    assert world.redeemed == []


@pytest.mark.requirement("UP4")
async def test_two_processes_count_one_answer_once() -> None:
    world = World()
    other = Deployment(
        store=world.deployment.store,
        clock=world.deployment.clock,
        accounts=world.fakes.accounts(),
        upstreams=world.fakes.upstreams,
    )
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    twin = Browser(other, dict(browser.jar))
    assert [(await browser.get(callback)).status, (await twin.get(callback)).status] == [200, 400]


@pytest.mark.requirement("UP4")
@pytest.mark.parametrize(
    ("promised", "iss", "status"),
    [
        (True, issuer_of("gmail"), 200),
        (True, None, 403),
        (True, "https://evil.example", 403),
        (True, issuer_of("gmail") + "/", 403),
        (True, issuer_of("gmail").upper(), 403),
        (False, issuer_of("gmail"), 200),
        (False, None, 200),
        (False, "https://evil.example", 403),
    ],
)
async def test_the_issuer_of_the_answer_is_held_against_the_one_asked(
    promised: bool, iss: str | None, status: int
) -> None:
    """Mix-up (RFC 9207): the four rows, and equality without normalisation."""
    world = World(fakes=FakeAccounts(oauth=FakeOAuth(promises_iss=promised)))
    browser = await world.signed_in()
    page = await browser.get(world.fakes.oauth.allow(await begun(browser), iss=iss))
    assert page.status == status
    assert bool(world.redeemed) is bool(world.saved) is (status == 200)


@pytest.mark.requirement("UP4")
async def test_an_error_of_another_issuer_is_neither_shown_nor_acted_on() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser)
    answer = world.fakes.oauth.allow(
        url, code=None, error="access_denied", error_description="call +1 555", iss="https://evil.example"
    )
    page = await browser.get(answer)
    assert page.status == 403
    assert "not allowed" not in text_of(page)
    assert "555" not in text_of(page)
    assert (await browser.get(world.fakes.oauth.allow(url))).status == 200, "the flow was not spent"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("access_denied", 403, "Access was not allowed there"),
        ("temporarily_unavailable", 502, "no time right now"),
        ("<b>x</b>", 502, "did not complete the login"),
    ],
)
async def test_the_authorization_servers_no_is_told_in_our_words(error: str, status: int, words: str) -> None:
    world = World()
    browser = await world.signed_in()
    answer = world.fakes.oauth.allow(
        await begun(browser),
        code=None,
        error=error,
        error_description="<i>theirs</i>",
        error_uri="https://evil.example",
    )
    page = await browser.get(answer)
    assert page.status == status
    assert words in text_of(page)
    assert 'href="/connect/gmail"' in text_of(page)
    for theirs in ("theirs", "evil", "<b>"):
        assert theirs not in text_of(page)
    assert browser.flows == {}
    assert (world.redeemed, world.saved) == ([], {})


@pytest.mark.requirement("UP4")
async def test_the_answer_of_one_upstream_at_the_address_of_another_connects_nothing() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser)).replace("/gmail?", "/slack?")
    assert (await browser.get(callback)).status == 403
    assert world.redeemed == []


@pytest.mark.requirement("UP4")
@pytest.mark.parametrize("promised", [True, False])
async def test_upstreams_with_one_callback_path_are_told_apart_by_iss_alone(promised: bool) -> None:
    upstreams = sharing("/upstream-auth/callback", GMAIL, SLACK)
    world = World(fakes=FakeAccounts(upstreams, oauth=FakeOAuth(promises_iss=promised)))
    browser = await world.signed_in()
    assert (await browser.get(world.fakes.oauth.allow(await begun(browser), iss=None))).status == 403
    assert (await browser.get(world.fakes.oauth.allow(await begun(browser), iss=issuer_of("slack")))).status == 403
    assert world.redeemed == []
    assert (await browser.get(world.fakes.oauth.allow(await begun(browser)))).status == 200
    assert (await browser.get(world.fakes.oauth.allow(await begun(browser, "slack")))).status == 200
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


async def test_an_upstream_alone_at_its_own_callback_path_needs_no_iss() -> None:
    upstreams = (*sharing("/oauth/done", GMAIL), SLACK)
    world = World(fakes=FakeAccounts(upstreams, oauth=FakeOAuth(promises_iss=False)))
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser), iss=None)
    assert callback.startswith("/oauth/done?")
    assert (await browser.get(callback)).status == 200


async def test_two_tabs_do_not_disturb_each_other() -> None:
    world = World()
    browser = await world.signed_in()
    one, other = await begun(browser), await begun(browser, "slack")
    assert (await browser.get(world.fakes.oauth.allow(one))).status == 200
    assert (await browser.get(world.fakes.oauth.allow(other))).status == 200
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


@pytest.mark.requirement("UP10")
async def test_two_people_connecting_at_once_never_cross() -> None:
    world = World()
    anna, ben = await world.signed_in(ANNA), await world.signed_in(BEN)
    annas, bens = await begun(anna), await begun(ben)
    at_anna, at_ben = world.fakes.oauth.allow(annas), world.fakes.oauth.allow(bens)
    assert (await anna.get(at_ben)).status == 403
    assert (await ben.get(at_anna)).status == 403
    assert (await ben.get(at_ben)).status == 200
    assert set(world.saved) == {("ben", "gmail")}
    assert (await anna.get(at_anna)).status == 200
    assert set(world.saved) == {("ben", "gmail"), ("anna", "gmail")}


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


@pytest.mark.parametrize("query", ["", "state=x", "state=&code=y", "state=../../x&code=y", "code=x", "error=x"])
async def test_an_answer_to_no_flow_of_ours_is_refused(query: str) -> None:
    world = World()
    browser = await world.signed_in()
    await begun(browser)
    assert (await browser.get(f"/upstream-auth/callback/gmail?{query}")).status == 403


async def test_an_answer_with_neither_code_nor_error_spends_nothing() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser)
    assert (await browser.get(world.fakes.oauth.allow(url, code=None))).status == 400
    assert (await browser.get(world.fakes.oauth.allow(url))).status == 200


async def test_a_login_flow_does_not_pass_for_a_connect_flow() -> None:
    world = World()
    browser = await world.signed_in()
    begun_login = await browser.begin(await world.deployment.register())
    state = location(begun_login).partition("state=")[2].partition("&")[0]
    assert (await browser.get(f"/upstream-auth/callback/gmail?state={state}&code=x")).status == 403


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


async def test_a_code_that_is_not_taken_connects_nothing() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    world.fakes.oauth.codes.clear()
    page = await browser.get(callback)
    assert page.status == 502
    assert "refuses the code" in text_of(page)
    assert world.saved == {}


async def test_without_the_store_the_flow_is_not_spent_and_the_code_not_sent() -> None:
    store = Flaky(Deployment().store)
    world = World(store=store)
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    store.away = True
    assert (await browser.get(callback)).status == 503
    assert world.redeemed == []
    store.away = False
    assert (await browser.get(callback)).status == 200


async def test_tokens_are_kept_although_the_browser_has_left(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.fakes.connecting.slow = 5.0
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    with trio.move_on_after(1):
        await browser.get(callback)
    assert set(world.saved) == {("anna", "gmail")}


@pytest.mark.parametrize(("failures", "status"), [(3, 200), (4, 503)])
async def test_a_store_that_is_away_for_seconds_costs_no_tokens(
    autojump_clock: trio.testing.MockClock, failures: int, status: int
) -> None:
    world = World()
    world.fakes.connecting.failures = failures
    browser = await world.signed_in()
    page = await browser.get(world.fakes.oauth.allow(await begun(browser)))
    assert page.status == status
    assert trio.current_time() == pytest.approx(5)
    assert bool(world.saved) is (status == 200)


async def test_a_token_endpoint_that_hangs_is_waited_for_half_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.fakes.oauth.hangs = True
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    page = await browser.get(callback)
    assert trio.current_time() == pytest.approx(30)
    assert page.status == 503
    assert "within 30 s" in text_of(page)


async def test_several_are_connected_one_after_the_other() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser, then="slack,unknown,clocks,gmail")
    page = await browser.get(world.fakes.oauth.allow(url))
    assert "Go on with slack" in text_of(page)
    going = await browser.post("/connect/slack", hidden_fields(page), *FROM_OWN_PAGE)
    page = await browser.get(world.fakes.oauth.allow(destination(going)))
    assert "Go on" not in text_of(page)
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


async def test_where_one_of_several_is_not_allowed_the_page_leads_on_to_the_next() -> None:
    world = World()
    browser = await world.signed_in()
    url = await begun(browser, then="slack")
    page = await browser.get(world.fakes.oauth.allow(url, code=None, error="access_denied"))
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


async def test_an_account_name_of_theirs_is_text_and_nothing_else() -> None:
    world = World(fakes=FakeAccounts(oauth=FakeOAuth(gives_account="<script>alert(1)</script>\u202e")))
    browser = await world.signed_in()
    page = text_of(await browser.get(world.fakes.oauth.allow(await begun(browser))))
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "\u202e" not in page
