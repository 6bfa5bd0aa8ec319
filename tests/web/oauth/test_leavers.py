"""People who leave: how long a login lasts, and what signing out everywhere ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aggregator.config.model import Auth, Tokens
from aggregator.errors import Refusal
from aggregator.store.memory import MemoryStore
from aggregator.upstream.identity.login_checks import CHECK_INTERVAL, open_login_checks
from aggregator.web.http import Response

from ..deployment import (
    ANNA,
    BEN,
    PROVIDER,
    Browser,
    Clock,
    Deployment,
    FakeProvider,
    hidden_fields,
    location,
    query_of,
    read,
    text_of,
)

DAY = 86400.0


def deployment(relogin_after: float = 7 * DAY, **tokens: float) -> Deployment:
    return Deployment(auth=Auth(PROVIDER, relogin_after=relogin_after), tokens=Tokens(**tokens))


def error(response: Response) -> tuple[int, str]:
    return response.status, read(response)["error"]


async def use_daily(site: Deployment, client: dict[str, Any], tokens: dict[str, Any], days: int) -> dict[str, Any]:
    """Refresh once a day, as a client that is in use does."""
    for _ in range(days):
        site.clock.pass_by(DAY)
        response = await site.refresh(client, tokens["refresh_token"])
        assert response.status == 200, response.body
        tokens = read(response)
    return tokens


@pytest.mark.requirement("TK8", "TK9")
async def test_a_grant_in_daily_use_ends_a_week_after_the_login() -> None:
    site = deployment()
    client = await site.register()
    tokens = await use_daily(site, client, await site.tokens(client), 6)
    site.clock.pass_by(DAY - 5)
    tokens = read(await site.refresh(client, tokens["refresh_token"]))
    assert 0 < tokens["expires_in"] <= 5  # no token outlives the login
    site.clock.pass_by(5)
    assert error(await site.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")
    with pytest.raises(Refusal):
        site.authenticate(tokens["access_token"])
    assert (await site.refresh(client, (await site.tokens(client))["refresh_token"])).status == 200


@pytest.mark.requirement("TK9")
@pytest.mark.parametrize(
    ("relogin_after", "tokens", "days"),
    [
        (7 * DAY, {}, 6),
        (30 * DAY, {}, 29),
        (90 * DAY, {}, 29),  # tokens.refresh is first
        (90 * DAY, {"refresh": 90 * DAY}, 89),
    ],
)
async def test_the_earliest_end_counts(relogin_after: float, tokens: dict[str, float], days: int) -> None:
    site = deployment(relogin_after, **tokens)
    client = await site.register()
    last = await use_daily(site, client, await site.tokens(client), days)
    site.clock.pass_by(DAY)
    assert error(await site.refresh(client, last["refresh_token"])) == (400, "invalid_grant")


@pytest.mark.requirement("TK9")
async def test_a_grant_that_is_not_refreshed_ends_before_the_login_does() -> None:
    site = deployment(30 * DAY, refresh_idle=2 * DAY)
    client = await site.register()
    tokens = await site.tokens(client)
    site.clock.pass_by(2 * DAY)
    assert error(await site.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")


async def test_a_login_for_one_client_is_one_for_all_of_the_persons_clients() -> None:
    site = deployment()
    one, other = await site.register(), await site.register()
    tokens = await use_daily(site, one, await site.tokens(one), 5)
    await site.tokens(other)
    tokens = await use_daily(site, one, tokens, 6)
    site.clock.pass_by(DAY)
    assert error(await site.refresh(one, tokens["refresh_token"])) == (400, "invalid_grant")


async def test_a_login_of_somebody_else_prolongs_nothing() -> None:
    site = deployment()
    client = await site.register()
    tokens = await use_daily(site, client, await site.tokens(client), 6)
    await site.tokens(client, BEN)
    site.clock.pass_by(DAY)
    assert error(await site.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")


@pytest.mark.requirement("TK8")
async def test_a_shorter_time_counts_for_tokens_already_issued_and_ends_their_grant() -> None:
    site = deployment(30 * DAY)
    client = await site.register()
    tokens = await use_daily(site, client, await site.tokens(client), 3)
    strict = Deployment(store=site.store, clock=site.clock, auth=Auth(PROVIDER, relogin_after=DAY))
    assert error(await strict.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")
    assert await site.store.grants_of(ANNA.principal) == ()
    with pytest.raises(Refusal):
        strict.authenticate(tokens["access_token"])


@pytest.mark.requirement("TK8")
async def test_signing_a_person_out_ends_tokens_and_codes_and_logins_in_progress() -> None:
    site = deployment()
    client = await site.register()
    tokens = await site.tokens(client)
    code = (await Browser(site).obtain_answer(client))["code"]
    asked, of_ben = Browser(site), Browser(site)
    page, bens_page = await asked.to_consent(client), await of_ben.to_consent(client, BEN)
    site.clock.pass_by(1)
    assert len(await site.store.sign_out_person(ANNA.principal, now=site.clock())) == 2

    assert error(await site.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")
    assert error(await site.redeem(client, code)) == (400, "invalid_grant")
    answer = query_of(location(await asked.decide(page)))
    assert (answer["error"], answer["state"]) == ("access_denied", "client state")
    assert "log in again" in answer["error_description"]
    assert await site.store.grants_of(ANNA.principal) == ()

    assert "code" in query_of(location(await of_ben.decide(bens_page)))
    site.clock.pass_by(1)
    assert (await site.redeem(client, (await Browser(site).obtain_answer(client))["code"])).status == 200


async def test_a_login_that_had_not_come_back_from_the_provider_is_a_fresh_one() -> None:
    site = deployment()
    client = await site.register()
    browser = Browser(site)
    at_provider = location(await browser.begin(client))
    await site.store.sign_out_person(ANNA.principal, now=site.clock())
    site.clock.pass_by(1)
    answered = await browser.get(site.provider.log_in(at_provider, ANNA))
    path, _, query = location(answered).partition("/consent?")
    page = await browser.get(f"/consent?{query}")
    assert path == site.config.issuer_url
    assert "code" in query_of(location(await browser.decide(page)))


async def test_signing_a_client_out_ends_its_questions_too_and_an_app_is_told_so() -> None:
    site = Deployment(client_schemes=("com.example.app",))
    client = await site.register("com.example.app:/cb")
    browser = Browser(site)
    page = await browser.to_consent(client)
    site.clock.pass_by(1)
    of_ben = Browser(site)
    await of_ben.decide(await of_ben.to_consent(client, BEN))
    (grant,) = await site.store.grants_of(BEN.principal)
    await site.store.sign_out_client(grant.client, now=site.clock())
    answered = await browser.decide(page)
    assert "Access not allowed" in text_of(answered)


@asynccontextmanager
async def checked() -> AsyncIterator[Deployment]:
    """A deployment whose identity provider gives refresh tokens."""
    provider, clock = FakeProvider(), Clock()
    provider.gives_refresh_tokens = True
    store = MemoryStore(clock=clock)
    async with open_login_checks(store, provider, clock=clock) as checks:
        yield Deployment(store=store, clock=clock, provider=provider, login_checks=checks)


@pytest.mark.requirement("TK8")
async def test_the_next_refresh_of_somebody_who_was_disabled_ends_the_grant() -> None:
    async with checked() as site:
        client = await site.register()
        tokens, of_ben = await site.tokens(client), await site.tokens(client, BEN)
        site.clock.pass_by(CHECK_INTERVAL)
        tokens = read(await site.refresh(client, tokens["refresh_token"]))
        site.provider.disabled.add("anna")
        site.clock.pass_by(CHECK_INTERVAL)
        assert error(await site.refresh(client, tokens["refresh_token"])) == (400, "invalid_grant")
        with pytest.raises(Refusal):
            site.authenticate(tokens["access_token"])
        assert await site.store.grants_of(ANNA.principal) == ()
        assert (await site.refresh(client, of_ben["refresh_token"])).status == 200


async def test_an_identity_provider_that_is_down_keeps_nobody_from_refreshing() -> None:
    async with checked() as site:
        client = await site.register()
        tokens = await site.tokens(client)
        site.provider.down = True
        for _ in range(3):
            site.clock.pass_by(CHECK_INTERVAL)
            response = await site.refresh(client, tokens["refresh_token"])
            assert response.status == 200
            tokens = read(response)


@pytest.mark.requirement("TK7")
async def test_a_refresh_token_of_another_client_or_generation_asks_the_provider_nothing() -> None:
    async with checked() as site:
        client, stranger = await site.register(), await site.register()
        tokens = await site.tokens(client)
        site.clock.pass_by(CHECK_INTERVAL)
        before = site.provider.exchanges
        assert error(await site.refresh(stranger, tokens["refresh_token"])) == (400, "invalid_grant")
        assert error(await site.refresh(client, tokens["access_token"])) == (400, "invalid_grant")
        assert site.provider.exchanges == before


@pytest.mark.parametrize("signed_out", [False, True])
async def test_the_providers_token_of_a_login_that_becomes_no_grant_is_not_kept(signed_out: bool) -> None:
    async with checked() as site:
        client = await site.register()
        browser = Browser(site)
        page = await browser.to_consent(client)
        if signed_out:
            await site.store.sign_out_person(ANNA.principal, now=site.clock())
        await browser.decide(page, "allow" if signed_out else "cancel")
        assert not await site.store.forget_login_token(hidden_fields(page)["flow"])
