"""``/callback``: only the browser that began a login can end it, once."""

from __future__ import annotations

import pytest

from aggregator.web.http import Response

from ..deployment import (
    ANNA,
    BEN,
    FROM_OWN_PAGE,
    ISSUER,
    LOOPBACK,
    PROVIDER,
    Browser,
    Deployment,
    Flaky,
    header,
    hidden_fields,
    location,
    query_of,
    text_of,
)


async def begun(deployment: Deployment, *redirect_uris: str) -> tuple[Browser, str, str]:
    """A browser at the identity provider: the browser, the address it stands at, and the flow's id."""
    browser = Browser(deployment)
    at = location(await browser.begin(await deployment.register(*redirect_uris)))
    return browser, at, query_of(at)["state"]


async def test_a_login_leads_to_the_consent_page_of_its_flow() -> None:
    deployment = Deployment()
    browser, at, state = await begun(deployment)
    response = await browser.get(deployment.provider.log_in(at, ANNA))
    assert response.status == 303
    assert location(response) == f"{ISSUER}/consent?flow={state}"
    assert list(browser.jar) == ["__Host-mcp-flow-" + state, "__Host-mcp-session"]


@pytest.mark.requirement("CO5")
async def test_an_address_captured_in_one_browser_fails_in_another_and_no_code_is_sent_on() -> None:
    deployment = Deployment()
    _, at, _ = await begun(deployment)
    response = await Browser(deployment).get(deployment.provider.log_in(at, ANNA))
    assert response.status == 403
    assert header(response, "location") is None
    assert "another browser" in text_of(response)
    assert deployment.provider.exchanges == 0


@pytest.mark.requirement("CO5")
async def test_another_flow_of_the_same_browser_does_not_help() -> None:
    deployment = Deployment()
    _, attackers, _ = await begun(deployment)
    victim, _, _ = await begun(deployment)
    assert (await victim.get(deployment.provider.log_in(attackers, BEN))).status == 403
    [name] = victim.jar
    victim.jar["__Host-mcp-flow-" + query_of(attackers)["state"]] = victim.jar[name]
    assert (await victim.get(deployment.provider.log_in(attackers, BEN))).status == 403
    assert deployment.provider.exchanges == 0


@pytest.mark.requirement("CO5")
async def test_a_login_ends_at_most_once() -> None:
    deployment = Deployment()
    browser, at, _ = await begun(deployment)
    jar = dict(browser.jar)
    first = deployment.provider.log_in(at, ANNA)
    assert (await browser.get(first)).status == 303
    browser.jar = jar
    assert (await browser.get(deployment.provider.log_in(at, ANNA))).status == 400
    assert deployment.provider.exchanges == 1


@pytest.mark.requirement("CO5")
async def test_a_login_that_takes_longer_than_ten_minutes_begins_again() -> None:
    deployment = Deployment()
    browser, at, _ = await begun(deployment)
    deployment.clock.pass_by(600)
    assert (await browser.get(deployment.provider.log_in(at, ANNA))).status == 403
    assert deployment.provider.exchanges == 0


@pytest.mark.parametrize(
    "query", ["", "code=x", "state=", "state=x&code=y", "state=../../x&code=y", "code=x&state=%00"]
)
async def test_an_answer_to_no_flow_of_ours_is_refused(query: str) -> None:
    deployment = Deployment()
    browser, _, _ = await begun(deployment)
    assert (await browser.get("/callback?" + query)).status == 403


async def test_an_answer_with_neither_code_nor_error_spends_nothing() -> None:
    deployment = Deployment()
    browser, at, state = await begun(deployment)
    assert (await browser.get(f"/callback?state={state}")).status == 400
    assert (await browser.get(deployment.provider.log_in(at, ANNA))).status == 303


@pytest.mark.requirement("AZ10", "AZ11")
@pytest.mark.parametrize(
    ("error", "passed_on"),
    [
        ("access_denied", "access_denied"),
        ("login_required", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("server_error", "server_error"),
        ("<script>alert(1)</script>", "server_error"),
    ],
)
async def test_the_providers_no_reaches_the_client_in_oauths_words(error: str, passed_on: str) -> None:
    deployment = Deployment()
    browser, _, state = await begun(deployment, LOOPBACK)
    target = f"/callback?state={state}&error={error}&error_description=%3Cb%3Etext+of+theirs%3C%2Fb%3E"
    response = await browser.get(target)
    assert response.status == 303
    answer = query_of(location(response))
    assert (answer["error"], answer["state"], answer["iss"]) == (passed_on, "client state", ISSUER)
    assert "theirs" not in answer["error_description"]
    assert browser.jar == {}
    assert deployment.provider.exchanges == 0


@pytest.mark.requirement("AZ19")
async def test_for_a_client_elsewhere_the_providers_no_is_a_page_with_a_button() -> None:
    deployment = Deployment()
    browser, _, state = await begun(deployment)
    page = await browser.get(f"/callback?state={state}&error=access_denied&error_description=%3Cb%3Etheirs")
    assert page.status == 403
    assert "theirs" not in text_of(page)
    response = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert query_of(location(response))["error"] == "access_denied"


async def test_an_error_in_the_name_of_another_issuer_is_not_acted_on() -> None:
    deployment = Deployment()
    browser, _, state = await begun(deployment, LOOPBACK)
    response = await browser.get(f"/callback?state={state}&error=access_denied&iss=https://evil.example")
    assert response.status == 403
    assert header(response, "location") is None


@pytest.mark.parametrize("redirect_uri", [LOOPBACK, "https://client.example/cb"])
async def test_a_refused_person_reads_who_refused_and_what_to_do(redirect_uri: str) -> None:
    deployment = Deployment()
    deployment.provider.refuses = "this account is not allowed in: its claim 'hd' has no value <that> auth.allow lists"
    browser, at, _ = await begun(deployment, redirect_uri)
    page = await browser.get(deployment.provider.log_in(at, ANNA))
    assert page.status == 403
    assert "This account is not allowed in" in text_of(page)
    assert "&lt;that&gt;" in text_of(page)
    assert "ask the people who run this server" in text_of(page)
    assert browser.jar == {}
    response = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert query_of(location(response))["error"] == "access_denied"


async def test_a_provider_that_goes_away_during_the_login_is_named() -> None:
    deployment = Deployment()
    browser, at, _ = await begun(deployment)
    target = deployment.provider.log_in(at, ANNA)
    deployment.provider.down = True
    page = await browser.get(target)
    assert page.status == 503
    assert PROVIDER in text_of(page)
    response = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert query_of(location(response))["error"] == "temporarily_unavailable"


async def test_without_the_store_the_flow_is_not_spent() -> None:
    store = Flaky(Deployment().store)
    deployment = Deployment(store=store)
    browser, at, _ = await begun(deployment)
    target = deployment.provider.log_in(at, ANNA)
    store.away = True
    response: Response = await browser.get(target)
    assert (response.status, header(response, "retry-after")) == (503, "5")
    assert deployment.provider.exchanges == 0
    store.away = False
    assert (await browser.get(target)).status == 303


@pytest.mark.requirement("CO5")
async def test_two_processes_end_one_login_once() -> None:
    one = Deployment()
    other = Deployment(store=one.store, clock=one.clock, provider=one.provider)
    browser, at, _ = await begun(one)
    target = one.provider.log_in(at, ANNA)
    twin = Browser(other, dict(browser.jar))
    statuses = [(await browser.get(target)).status, (await twin.get(target)).status]
    assert statuses == [303, 400]


async def test_a_login_may_begin_on_one_process_and_end_on_another() -> None:
    one = Deployment()
    other = Deployment(store=one.store, clock=one.clock, provider=one.provider)
    browser, at, _ = await begun(one)
    browser.deployment = other
    assert (await browser.get(one.provider.log_in(at, ANNA))).status == 303
