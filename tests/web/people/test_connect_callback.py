"""The callbacks of upstreams' logins: who finishes is who began, and a code goes to nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from aggregator.store.sqlite import open_sqlite_store

from ..account_fakes import GMAIL, SLACK, FakeAccounts, FakeOAuth, issuer_of, sharing
from ..connecting import World, begun, came_back
from ..deployment import (
    ANNA,
    BEN,
    FROM_OWN_PAGE,
    ISSUER,
    PROVIDER,
    START,
    Browser,
    Deployment,
    Flaky,
    header,
    hidden_fields,
    location,
    target_of,
    text_of,
)


@pytest.mark.requirement("UP4", "UP10")
async def test_a_link_to_the_authorization_server_opened_in_another_browser_fails_and_no_code_leaves() -> None:
    """COSF: the attacker begins, the victim allows; the victim's account must not become the attacker's."""
    world = World()
    attacker, victim = await world.signed_in(BEN), await world.signed_in(ANNA)
    url = await begun(attacker)
    page = await came_back(victim, world.fakes.oauth.allow(url))
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
    page = await came_back(victim, world.fakes.oauth.allow(victims, code=injected))
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
    page = await came_back(browser, callback)
    assert page.status == 403
    assert "Another person" in text_of(page)
    assert "anna" not in text_of(page)
    assert (world.redeemed, world.saved) == ([], {})
    assert (await came_back(browser, callback)).status == 403


@pytest.mark.requirement("UP10")
@pytest.mark.parametrize(("person", "status"), [(ANNA, 200), (BEN, 403)])
async def test_who_was_signed_out_on_the_way_signs_in_and_is_compared_never_adopted(person: Any, status: int) -> None:
    world = World()
    browser = await world.signed_in(ANNA)
    callback = world.fakes.oauth.allow(await begun(browser))
    [code] = world.fakes.oauth.codes
    browser.jar.pop("__Host-mcp-session")
    sent_off = await came_back(browser, callback)
    assert location(sent_off).startswith(PROVIDER)
    assert code not in location(sent_off)
    assert world.redeemed == []
    arrived = await browser.get(world.deployment.provider.log_in(location(sent_off), person))
    assert code not in location(arrived)
    page = await came_back(browser, target_of(location(arrived)))
    assert page.status == status
    assert world.saved == ({("anna", "gmail"): "anna@gmail.example"} if status == 200 else {})
    assert world.redeemed == ([code] if status == 200 else [])
    assert browser.flows == {}


@pytest.mark.requirement("AZ15")
async def test_a_login_ends_at_an_address_without_its_code_that_may_be_loaded_again() -> None:
    """A browser that is started anew loads its tabs; one that then says "was not connected" would lie."""
    world = World()
    browser = await world.signed_in()
    answered = await browser.get(world.fakes.oauth.allow(await begun(browser, then="slack")))
    assert answered.status == 303
    assert location(answered) == f"{ISSUER}/connected/gmail?then=slack"
    assert header(answered, "referrer-policy") == "no-referrer"
    pages = [text_of(await browser.get("/connected/gmail?then=slack,<b>,unknown")) for _ in range(2)]
    assert pages[0] == pages[1]
    for words in ("anna@gmail.example", "anna@example.com", "Go on with slack"):
        assert words in pages[0]
    assert "<b>" not in pages[0]
    assert location(await browser.get("/connected/slack")) == f"{ISSUER}/connect/slack"
    assert location(await Browser(world.deployment).get("/connected/gmail")).startswith(PROVIDER)
    ben = await world.signed_in(BEN)
    assert location(await ben.get("/connected/gmail")) == f"{ISSUER}/connect/gmail"


@pytest.mark.requirement("UP4")
async def test_an_answer_counts_once() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    jar = dict(browser.jar)
    assert (await came_back(browser, callback)).status == 200
    browser.jar = jar
    assert (await came_back(browser, callback)).status == 400
    assert len(world.redeemed) == 1


@pytest.mark.requirement("UP4")
async def test_an_answer_after_ten_minutes_is_too_late() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    world.deployment.clock.pass_by(600)
    assert (await came_back(browser, callback)).status == 403
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
    assert [(await came_back(browser, callback)).status, (await came_back(twin, callback)).status] == [200, 400]


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
    page = await came_back(browser, world.fakes.oauth.allow(await begun(browser), iss=iss))
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
    page = await came_back(browser, answer)
    assert page.status == 403
    assert "not allowed" not in text_of(page)
    assert "555" not in text_of(page)
    assert (await came_back(browser, world.fakes.oauth.allow(url))).status == 200, "the flow was not spent"


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
    page = await came_back(browser, answer)
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
    assert (await came_back(browser, callback)).status == 403
    assert world.redeemed == []


@pytest.mark.requirement("UP4")
@pytest.mark.parametrize("promised", [True, False])
async def test_upstreams_with_one_callback_path_are_told_apart_by_iss_alone(promised: bool) -> None:
    upstreams = sharing("/upstream-auth/callback", GMAIL, SLACK)
    world = World(fakes=FakeAccounts(upstreams, oauth=FakeOAuth(promises_iss=promised)))
    browser = await world.signed_in()
    assert (await came_back(browser, world.fakes.oauth.allow(await begun(browser), iss=None))).status == 403
    assert (
        await came_back(browser, world.fakes.oauth.allow(await begun(browser), iss=issuer_of("slack")))
    ).status == 403
    assert world.redeemed == []
    assert (await came_back(browser, world.fakes.oauth.allow(await begun(browser)))).status == 200
    assert (await came_back(browser, world.fakes.oauth.allow(await begun(browser, "slack")))).status == 200
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


async def test_an_upstream_alone_at_its_own_callback_path_needs_no_iss() -> None:
    upstreams = (*sharing("/oauth/done", GMAIL), SLACK)
    world = World(fakes=FakeAccounts(upstreams, oauth=FakeOAuth(promises_iss=False)))
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser), iss=None)
    assert callback.startswith("/oauth/done?")
    assert (await came_back(browser, callback)).status == 200


async def test_two_tabs_do_not_disturb_each_other() -> None:
    world = World()
    browser = await world.signed_in()
    one, other = await begun(browser), await begun(browser, "slack")
    assert (await came_back(browser, world.fakes.oauth.allow(one))).status == 200
    assert (await came_back(browser, world.fakes.oauth.allow(other))).status == 200
    assert set(world.saved) == {("anna", "gmail"), ("anna", "slack")}


@pytest.mark.requirement("UP10")
async def test_two_people_connecting_at_once_never_cross() -> None:
    world = World()
    anna, ben = await world.signed_in(ANNA), await world.signed_in(BEN)
    annas, bens = await begun(anna), await begun(ben)
    at_anna, at_ben = world.fakes.oauth.allow(annas), world.fakes.oauth.allow(bens)
    assert (await came_back(anna, at_ben)).status == 403
    assert (await came_back(ben, at_anna)).status == 403
    assert (await came_back(ben, at_ben)).status == 200
    assert set(world.saved) == {("ben", "gmail")}
    assert (await came_back(anna, at_anna)).status == 200
    assert set(world.saved) == {("ben", "gmail"), ("anna", "gmail")}


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
    assert (await came_back(browser, world.fakes.oauth.allow(url, code=None))).status == 400
    assert (await came_back(browser, world.fakes.oauth.allow(url))).status == 200


async def test_a_login_flow_does_not_pass_for_a_connect_flow() -> None:
    world = World()
    browser = await world.signed_in()
    begun_login = await browser.begin(await world.deployment.register())
    state = location(begun_login).partition("state=")[2].partition("&")[0]
    assert (await browser.get(f"/upstream-auth/callback/gmail?state={state}&code=x")).status == 403


async def test_a_code_that_is_not_taken_connects_nothing() -> None:
    world = World()
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    world.fakes.oauth.codes.clear()
    page = await came_back(browser, callback)
    assert page.status == 502
    assert "refuses the code" in text_of(page)
    assert world.saved == {}


async def test_without_the_store_the_flow_is_not_spent_and_the_code_not_sent() -> None:
    store = Flaky(Deployment().store)
    world = World(store=store)
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    store.away = True
    assert (await came_back(browser, callback)).status == 503
    assert world.redeemed == []
    store.away = False
    assert (await came_back(browser, callback)).status == 200


async def test_tokens_are_kept_although_the_browser_has_left(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.fakes.connecting.slow = 5.0
    browser = await world.signed_in()
    callback = world.fakes.oauth.allow(await begun(browser))
    with trio.move_on_after(1):
        await came_back(browser, callback)
    assert set(world.saved) == {("anna", "gmail")}


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` just before its task runs on for the `step`-th time."""

    def __init__(self, step: int) -> None:
        self.scope = trio.CancelScope()
        self.task = trio.lowlevel.current_task()
        self.left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel("a test")


async def test_cancelled_anywhere_an_answer_is_either_as_good_as_new_or_connects(tmp_path: Path) -> None:
    outcomes = []
    for step in range(1, 40):
        async with open_sqlite_store(str(tmp_path / f"{step}.sqlite"), Deployment().keys, clock=lambda: START) as store:
            world = World(store=store)
            browser = await world.signed_in()
            callback = world.fakes.oauth.allow(await begun(browser))
            instrument = CancelAtStep(step)
            trio.lowlevel.add_instrument(instrument)
            try:
                with instrument.scope:
                    await came_back(browser, callback)
            finally:
                trio.lowlevel.remove_instrument(instrument)
            if not world.redeemed:
                assert (await came_back(browser, callback)).status == 200, (
                    f"step {step}: the flow was spent for nothing"
                )
            assert set(world.saved) == {("anna", "gmail")}, f"step {step}: tokens were lost"
            outcomes.append(instrument.scope.cancelled_caught)
            if instrument.left > 0:
                break
    assert instrument.left > 0, "there are more steps than were tried"
    assert any(outcomes)


@pytest.mark.parametrize(("failures", "status"), [(3, 200), (4, 503)])
async def test_a_store_that_is_away_for_seconds_costs_no_tokens(
    autojump_clock: trio.testing.MockClock, failures: int, status: int
) -> None:
    world = World()
    world.fakes.connecting.failures = failures
    browser = await world.signed_in()
    page = await came_back(browser, world.fakes.oauth.allow(await begun(browser)))
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
    page = await came_back(browser, callback)
    assert trio.current_time() == pytest.approx(30)
    assert page.status == 503
    assert "within 30 s" in text_of(page)


async def test_an_account_name_of_theirs_is_text_and_nothing_else() -> None:
    world = World(fakes=FakeAccounts(oauth=FakeOAuth(gives_account="<script>alert(1)</script>\u202e")))
    browser = await world.signed_in()
    page = text_of(await came_back(browser, world.fakes.oauth.allow(await begun(browser))))
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "\u202e" not in page
