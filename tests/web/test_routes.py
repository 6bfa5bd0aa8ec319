"""The whole way from registration to a token, and the incidents of others that must not happen here."""

from __future__ import annotations

import logging

import pytest

from aggregator.errors import Refusal

from .deployment import (
    ANNA,
    BEN,
    LOOPBACK,
    VERIFIER,
    Browser,
    Deployment,
    authorize_target,
    header,
    location,
    query_of,
    read,
    target_of,
    text_of,
)


async def test_paths_are_unique_and_only_cookieless_ones_are_open_to_scripts() -> None:
    deployment = Deployment()
    pages = {path for path, route in deployment.routes.items() if route.page}
    open_ones = {path for path, route in deployment.routes.items() if route.cors}
    assert {"/", "/authorize", "/authorize/return", "/callback", "/consent", "/sign-in", "/clients"} <= pages
    assert open_ones == {
        path for path in open_ones if path in ("/register", "/token", "/revoke") or "well-known" in path
    }
    assert not pages & open_ones


@pytest.mark.requirement("CO1")
async def test_a_link_with_an_attackers_redirect_stops_at_a_page_that_names_it() -> None:
    """FastMCP GHSA-c2jp-c369-7pvx: with a session at the provider, one click gave the code away."""
    deployment = Deployment()
    attackers = await deployment.register("https://evil.example/cb", client_name="Claude")
    page = await Browser(deployment).to_consent(attackers)
    assert page.status == 200
    assert header(page, "location") is None
    assert "<strong>evil.example</strong>" in text_of(page)
    assert await deployment.store.grants_of(ANNA.principal) == ()


@pytest.mark.requirement("CO5")
async def test_approved_in_one_jar_and_replayed_in_another_gives_nothing() -> None:
    """CVE-2026-27124: the attacker's browser began, the victim's ended."""
    deployment = Deployment()
    attacker, victim = Browser(deployment), Browser(deployment)
    client = await deployment.register("https://evil.example/cb")
    at_provider = location(await attacker.begin(client))
    answered = deployment.provider.log_in(at_provider, ANNA)
    assert (await victim.get(answered)).status == 403
    assert deployment.provider.exchanges == 0
    own = await attacker.get(deployment.provider.log_in(at_provider, BEN))
    assert (await victim.get(target_of(location(own)))).status == 403


async def test_two_flows_in_one_browser_do_not_disturb_each_other() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    one, other = await deployment.register(client_name="One"), await deployment.register(LOOPBACK, client_name="Other")
    first, second = await browser.begin(one, state="1"), await browser.begin(other, state="2")
    second_page = await browser.get(
        target_of(location(await browser.get(deployment.provider.log_in(location(second), BEN))))
    )
    first_page = await browser.get(
        target_of(location(await browser.get(deployment.provider.log_in(location(first), ANNA))))
    )
    assert "One" in text_of(first_page)
    assert "Other" in text_of(second_page)
    answer_two = query_of(location(await browser.decide(second_page)))
    answer_one = query_of(location(await browser.decide(first_page)))
    assert (answer_one["state"], answer_two["state"]) == ("1", "2")
    annas = read(await deployment.redeem(one, answer_one["code"]))
    bens = read(await deployment.redeem(other, answer_two["code"]))
    assert deployment.authenticate(annas["access_token"]).principal == ANNA.principal
    assert deployment.authenticate(bens["access_token"]).principal == BEN.principal


@pytest.mark.requirement("AZ2", "AZ5", "TK3")
async def test_neither_the_redirect_check_nor_pkce_can_be_skipped_by_leaving_something_out() -> None:
    """CVE-2025-4143 and 4144 of workers-oauth-provider."""
    deployment = Deployment()
    client = await deployment.register(LOOPBACK)
    for changes in ({"code_challenge": None}, {"code_challenge_method": None}):
        answer = query_of(location(await Browser(deployment).begin(client, **changes)))
        assert answer["error"] == "invalid_request"
    code = (await Browser(deployment).obtain_answer(client))["code"]
    form = {"grant_type": "authorization_code", "client_id": client["client_id"], "code": code}
    assert read(await deployment.post("/token", form))["error"] == "invalid_grant"
    assert (await deployment.post("/token", form | {"code_verifier": VERIFIER})).status == 200


async def test_no_header_of_a_request_changes_where_anybody_is_sent() -> None:
    deployment = Deployment()
    client = await deployment.register(LOOPBACK)
    spoofed = (("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http"))
    browser = Browser(deployment)
    login = await browser.get(authorize_target(client), *spoofed)
    answered = await browser.get(deployment.provider.log_in(location(login), ANNA), *spoofed)
    page = await browser.get(target_of(location(answered)), *spoofed)
    response = await browser.decide(page)
    for text in (location(login), location(answered), text_of(page), location(response)):
        assert "evil" not in text


@pytest.mark.requirement("RS5")
async def test_no_secret_of_the_whole_way_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    deployment = Deployment()
    client = await deployment.register(token_endpoint_auth_method="client_secret_post")
    browser = Browser(deployment)
    page = await browser.to_consent(client)
    cookies = tuple(browser.jar.values())
    assert len(cookies) == 2
    code = query_of(location(await browser.decide(page)))["code"]
    secret = {"client_secret": client["client_secret"]}
    tokens = read(await deployment.redeem(client, code, **secret))
    again = await deployment.redeem(client, code, **secret)
    refusals = [again.body.decode()]
    for text in (tokens["access_token"], tokens["refresh_token"], code):
        with pytest.raises(Refusal) as caught:
            deployment.authenticate(text)
        refusals.append(str(caught.value) + repr(caught.value.headers))
    everything = caplog.text + text_of(page) + "".join(refusals) + repr(deployment.bearer) + repr(deployment.keys)
    for canary in (*cookies, code, tokens["access_token"], tokens["refresh_token"], client["client_secret"], VERIFIER):
        assert canary not in everything
