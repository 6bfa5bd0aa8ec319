"""Asking the identity provider again, over HTTP: what is kept of a login, and what a later answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.oidc import Refreshed, Withdrawn
from aggregator.protocol.principal import Principal
from aggregator.upstream.identity.provider import DEADLINE, IdentityProvider

from ...protocol.signing import ISSUER, Signer
from .fake_identity_provider import FakeIdentityProvider, Reply, answer, hang, refuse
from .logging_in import CONFIDENTIAL, opened, whole_login

OFFLINE = replace(CONFIDENTIAL, scopes=("openid", "offline_access"))
ALICE = Principal(ISSUER, "alice")


async def token_of(provider: IdentityProvider, fake: FakeIdentityProvider) -> str:
    login = await whole_login(provider, fake)
    assert login.refresh_token is not None
    return login.refresh_token


async def refreshed(provider: IdentityProvider, fake: FakeIdentityProvider) -> Refreshed:
    outcome = await provider.refresh(await token_of(provider, fake), ALICE)
    assert isinstance(outcome, Refreshed)
    return outcome


async def test_a_refresh_token_is_kept_only_if_the_configuration_asked_for_it() -> None:
    """Keycloak gives one with every login; it ends with the session in the browser, half an hour later."""
    fake = FakeIdentityProvider()
    fake.gives_unasked = True
    async with opened(fake) as provider:
        assert (await whole_login(provider, fake)).refresh_token is None
    async with opened(fake, OFFLINE) as provider:
        assert (await whole_login(provider, fake)).refresh_token is not None


async def test_a_person_who_is_still_there_is_vouched_for_and_the_token_rotates() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        first = await token_of(provider, fake)
        outcome = await provider.refresh(first, ALICE)
        assert isinstance(outcome, Refreshed)
        await provider.readmit(outcome, ALICE)
        assert outcome.refresh_token not in (None, first)
        assert fake.forms[-1] == {"grant_type": "refresh_token", "refresh_token": first}
        assert isinstance(await provider.refresh(first, ALICE), Withdrawn)
        assert isinstance(await provider.refresh(outcome.refresh_token or "", ALICE), Refreshed)


async def test_a_person_who_was_disabled_is_withdrawn() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        token = await token_of(provider, fake)
        fake.disabled.add("alice")
        assert await provider.refresh(token, ALICE) == Withdrawn("Session not active")


@pytest.mark.parametrize(
    "reply",
    [
        answer(429, b"slow down", retry_after="60"),
        answer(500, b"{}", content_type="application/json"),
        answer(502, b"<html>Bad Gateway</html>", content_type="text/html"),
        answer(200, b"<html>a captive portal</html>", content_type="text/html"),
        answer(401, b'{"error": "invalid_client"}', content_type="application/json"),
        refuse,
    ],
)
async def test_an_outage_says_nothing_of_the_person_and_names_the_provider(reply: Reply) -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        token = await token_of(provider, fake)
        fake.replies["/token"] = reply
        with pytest.raises(IdentityProviderUnavailable, match=ISSUER):
            await provider.refresh(token, ALICE)


async def test_silence_ends_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        token = await token_of(provider, fake)
        fake.replies["/token"] = hang
        begun = trio.current_time()
        with pytest.raises(IdentityProviderUnavailable, match="did not answer"):
            await provider.refresh(token, ALICE)
        assert trio.current_time() - begun == pytest.approx(DEADLINE)


async def test_the_token_of_a_login_elsewhere_is_not_shown_to_the_provider_of_now() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        outcome = await provider.refresh("theirs", Principal("https://old.example", "alice"))
        assert isinstance(outcome, Withdrawn)
        assert "https://old.example" in outcome.words
    assert fake.forms == []


async def test_an_answer_without_an_id_token_is_enough() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        await provider.readmit(Refreshed(None, "a", "r"), ALICE)


async def test_who_lost_the_group_that_let_them_in_is_not_readmitted() -> None:
    fake = FakeIdentityProvider()
    fake.claims["groups"] = ["eng"]
    async with opened(fake, replace(OFFLINE, allow={"groups": ("eng",)})) as provider:
        await provider.readmit(await refreshed(provider, fake), ALICE)
        login = await token_of(provider, fake)
        fake.claims["groups"] = ["alumni"]
        outcome = await provider.refresh(login, ALICE)
        assert isinstance(outcome, Refreshed)
        with pytest.raises(LoginRefused, match="not allowed in"):
            await provider.readmit(outcome, ALICE)


async def test_who_bears_another_name_by_now_is_not_readmitted_under_the_old_one() -> None:
    fake = FakeIdentityProvider()
    fake.claims["preferred_username"] = "alice"
    async with opened(fake, replace(OFFLINE, user_claim="preferred_username")) as provider:
        outcome = await refreshed(provider, fake)
        await provider.readmit(outcome, ALICE)
        with pytest.raises(LoginRefused, match="another person"):
            await provider.readmit(outcome, Principal(ISSUER, "bob"))


async def test_claims_that_only_the_login_told_keep_nobody_out() -> None:
    """Providers leave claims out of refreshed ID tokens; userinfo is asked, and then the answer stays open."""
    fake = FakeIdentityProvider()
    fake.claims["groups"] = ["eng"]
    async with opened(fake, replace(OFFLINE, allow={"groups": ("eng",)})) as provider:
        token = await token_of(provider, fake)
        del fake.claims["groups"]
        outcome = await provider.refresh(token, ALICE)
        assert isinstance(outcome, Refreshed)
        with pytest.raises(IdentityProviderUnavailable, match="lacks the claim 'groups'"):
            await provider.readmit(outcome, ALICE)
    fake.metadata["userinfo_endpoint"] = ISSUER + "/userinfo"
    for groups, admitted in ((["eng"], True), (["alumni"], False)):
        fake.userinfo = {"groups": groups}
        fake.claims["groups"] = ["eng"]
        async with opened(fake, replace(OFFLINE, allow={"groups": ("eng",)})) as provider:
            token = await token_of(provider, fake)
            del fake.claims["groups"]
            outcome = await provider.refresh(token, ALICE)
            assert isinstance(outcome, Refreshed)
            if admitted:
                await provider.readmit(outcome, ALICE)
            else:
                with pytest.raises(LoginRefused):
                    await provider.readmit(outcome, ALICE)


async def test_an_id_token_of_somebody_elses_key_says_nothing() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, OFFLINE) as provider:
        forged = Signer(serial=9).id_token(sub="alice", iss=ISSUER)
        with pytest.raises(IdentityProviderUnavailable):
            await provider.readmit(Refreshed(forged, None, None), ALICE)
