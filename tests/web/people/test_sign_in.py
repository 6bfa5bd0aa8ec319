"""The session in the browser: made by a login, bound to that browser, ended here or everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.errors import Unsealable
from aggregator.protocol.oauth.browser import open_session
from aggregator.protocol.principal import Person

from ..account_fakes import FakeAccounts
from ..deployment import (
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
    query_of,
    target_of,
    text_of,
)

SESSION = "__Host-mcp-session"


def deployed(**settings: Any) -> Deployment:
    fakes = FakeAccounts()
    return Deployment(accounts=fakes.accounts(), upstreams=fakes.upstreams, **settings)


async def test_a_sign_in_leads_to_the_page_it_was_for() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    arrived = await browser.sign_in(to="/clients")
    assert (arrived.status, location(arrived)) == (303, f"{ISSUER}/clients")
    assert browser.flows == {}
    assert "anna@example.com" in text_of(await browser.get("/clients"))


@pytest.mark.requirement("CO4")
@pytest.mark.parametrize(
    ("issuer_url", "name", "secure"),
    [(ISSUER, SESSION, True), ("http://localhost:3000", "mcp-session", False)],
)
async def test_the_cookie_is_out_of_reach_of_scripts_other_hosts_and_plain_http(
    issuer_url: str, name: str, secure: bool
) -> None:
    arrived = await Browser(Deployment(issuer_url=issuer_url)).sign_in(to="/clients")
    [cookie] = [value for key, value in arrived.headers if key == "set-cookie" and "session" in value]
    pair, *attributes = cookie.split("; ")
    assert pair.startswith(name + "=")
    assert set(attributes) == {"Max-Age=28800", "Path=/", "HttpOnly", "SameSite=Lax", *(["Secure"] if secure else [])}


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/connect/unknown",
        "/connect/clocks",
        "/sign-out",
        "connections",
        "",
        "/connections?x=1",
    ],
)
async def test_only_our_own_pages_are_gone_to(to: str) -> None:
    deployment = deployed()
    browser = Browser(deployment)
    assert location(await browser.sign_in(to=to)) == f"{ISSUER}/connections"
    assert location(await browser.get(f"/sign-in?to={to}")) == f"{ISSUER}/connections"


async def test_who_is_signed_in_is_not_asked_again() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    await browser.sign_in()
    assert location(await browser.get("/sign-in?to=/connect/gmail")) == f"{ISSUER}/connect/gmail"


async def test_a_login_for_a_client_signs_in_on_our_pages_too() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    await browser.to_consent(await deployment.register())
    assert "Connect Gmail" in text_of(await browser.get("/connect/gmail"))


@pytest.mark.requirement("CO5")
async def test_a_sign_in_ends_in_the_browser_that_began_it_and_once() -> None:
    deployment = deployed()
    attacker, victim = Browser(deployment), Browser(deployment)
    begun = location(await attacker.get("/sign-in"))
    answered = deployment.provider.log_in(begun, BEN)
    assert (await victim.get(answered)).status == 403
    assert victim.jar == {}
    jar = dict(attacker.jar)
    assert (await attacker.get(answered)).status == 303
    attacker.jar = jar
    assert (await attacker.get(deployment.provider.log_in(begun, BEN))).status == 400


async def test_a_sign_in_never_passes_for_a_clients_login_nor_a_session_for_either() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    begun = location(await browser.get("/sign-in"))
    state = query_of(begun)["state"]
    assert (await browser.get(f"/consent?flow={state}")).status == 403
    [sealed] = browser.flows.values()
    browser.jar = {SESSION: sealed}
    assert (await browser.get("/clients")).status == 303
    with pytest.raises(Unsealable):
        open_session(deployment.keys, sealed, now=deployment.clock())


async def test_a_session_ends_after_eight_hours() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    await browser.sign_in()
    deployment.clock.pass_by(8 * 3600 - 1)
    assert (await browser.get("/clients")).status == 200
    deployment.clock.pass_by(1)
    assert location(await browser.get("/clients")).startswith(PROVIDER)


async def test_a_session_is_no_older_than_the_operator_lets_a_login_be() -> None:
    base = Deployment().config.auth
    deployment = Deployment(auth=type(base)(issuer=PROVIDER, relogin_after=600))
    browser = Browser(deployment)
    await browser.sign_in(to="/clients")
    deployment.clock.pass_by(600)
    assert (await browser.get("/clients")).status == 303


async def test_signing_out_ends_the_session_here_and_nothing_else() -> None:
    deployment = deployed()
    tokens = await deployment.tokens(await deployment.register())
    here, there = Browser(deployment), Browser(deployment)
    await here.sign_in()
    await there.sign_in()
    form = hidden_fields(await here.get("/clients"))
    copy = Browser(deployment, dict(here.jar))
    response = await here.post("/sign-out", {"csrf": form["csrf"]}, *FROM_OWN_PAGE)
    assert (response.status, location(response)) == (303, f"{ISSUER}/")
    assert here.jar == {}
    assert (await copy.get("/clients")).status == 303, "a copy of the cookie is worth nothing either"
    assert (await there.get("/clients")).status == 200
    assert deployment.authenticate(tokens["access_token"]).principal == ANNA.principal


async def test_signing_out_everywhere_ends_every_session_and_every_client_of_that_person() -> None:
    deployment = deployed()
    client = await deployment.register()
    annas, bens = await deployment.tokens(client), await deployment.tokens(client, BEN)
    here, there, ben = Browser(deployment), Browser(deployment), Browser(deployment)
    await here.sign_in()
    await there.sign_in()
    await ben.sign_in(BEN)
    csrf = hidden_fields(await here.get("/clients"))["csrf"]
    assert (await here.post("/sign-out-everywhere", {"csrf": csrf}, *FROM_OWN_PAGE)).status == 303
    assert (await there.get("/clients")).status == 303
    assert (await ben.get("/clients")).status == 200
    assert (await deployment.refresh(client, annas["refresh_token"])).status == 400
    assert (await deployment.refresh(client, bens["refresh_token"])).status == 200
    with pytest.raises(Exception, match="401"):
        deployment.authenticate(annas["access_token"])
    deployment.clock.pass_by(1)
    await here.sign_in()
    assert (await here.get("/clients")).status == 200


@pytest.mark.requirement("CO3")
@pytest.mark.parametrize("path", ["/sign-out", "/sign-out-everywhere", "/clients/revoke", "/connections/disconnect"])
async def test_forms_of_other_sites_and_other_sessions_change_nothing(path: str) -> None:
    deployment = deployed()
    browser, other = Browser(deployment), Browser(deployment)
    await browser.sign_in()
    await other.sign_in(BEN)
    own = hidden_fields(await browser.get("/connections"))["csrf"]
    foreign = hidden_fields(await other.get("/connections"))["csrf"]
    sent = [
        await browser.post(path, {"csrf": own}, ("origin", "https://evil.example")),
        await browser.post(path, {"csrf": own}, ("origin", "null"), ("sec-fetch-site", "cross-site")),
        await browser.post(path, {"csrf": foreign}, *FROM_OWN_PAGE),
        await browser.post(path, {}, *FROM_OWN_PAGE),
        await Browser(deployment).post(path, {"csrf": own}, *FROM_OWN_PAGE),
    ]
    assert [response.status for response in sent] == [403] * 5
    assert SESSION in browser.jar
    assert (await browser.get("/clients")).status == 200


async def test_without_the_store_nobody_is_taken_for_signed_in() -> None:
    store = Flaky(Deployment().store)
    deployment = deployed(store=store)
    browser = Browser(deployment)
    await browser.sign_in()
    store.away = True
    assert (await browser.get("/connections")).status == 503
    store.away = False
    assert (await browser.get("/connections")).status == 200


async def test_a_refused_person_is_not_signed_in_and_reads_why() -> None:
    deployment = deployed()
    deployment.provider.refuses = "this account is not allowed in"
    browser = Browser(deployment)
    page = await browser.sign_in()
    assert page.status == 403
    assert "This account is not allowed in" in text_of(page)
    assert browser.jar == {}


async def test_the_providers_no_is_told_in_our_words() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    state = query_of(location(await browser.get("/sign-in")))["state"]
    page = await browser.get(f"/callback?state={state}&error=access_denied&error_description=theirs")
    assert page.status == 403
    assert "theirs" not in text_of(page)
    assert header(page, "location") is None
    assert browser.jar == {}


async def test_a_provider_that_is_away_is_named() -> None:
    deployment = deployed()
    deployment.provider.down = True
    page = await Browser(deployment).get("/connections")
    assert (page.status, header(page, "retry-after")) == (503, "30")
    assert PROVIDER in text_of(page)


@pytest.mark.parametrize(("old", "new"), [("/login", "/sign-in"), ("/dashboard", "/connections")])
async def test_the_predecessors_pages_lead_to_ours_without_what_their_address_carried(old: str, new: str) -> None:
    response = await Browser(deployed()).get(f"{old}?token=secret-token")
    assert (response.status, location(response)) == (303, ISSUER + new)


async def test_a_label_that_hides_characters_is_shown_without_them() -> None:
    deployment = deployed()
    browser = Browser(deployment)
    await browser.sign_in(Person(ANNA.principal, "an\u202ena<b>"))
    assert "anna&lt;b&gt;" in text_of(await browser.get("/clients"))


async def test_a_page_opens_by_signing_in_first_below_an_issuer_with_a_path() -> None:
    deployment = Deployment(issuer_url="https://h.example/team")
    browser = Browser(deployment)
    begun = await browser.get("/team/clients")
    answered = "/team" + deployment.provider.log_in(location(begun), ANNA)
    assert target_of(location(await browser.get(answered))) == "/team/clients"
