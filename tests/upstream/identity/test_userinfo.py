"""`upstream.identity_provider`: claims that only the userinfo endpoint tells. Time is virtual."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.principal import Principal

from ...protocol.signing import ISSUER
from .fake_identity_provider import ACCESS_TOKEN, FakeIdentityProvider, answer, drip, hang, refuse
from .logging_in import CONFIDENTIAL, log_in, opened

ASKS_FOR_GROUPS = replace(CONFIDENTIAL, allow={"groups": ("eng",)})


def with_userinfo(**claims: Any) -> FakeIdentityProvider:
    fake = FakeIdentityProvider()
    fake.metadata["userinfo_endpoint"] = ISSUER + "/userinfo"
    fake.userinfo = claims
    return fake


@pytest.mark.requirement("OI7")
async def test_claims_that_only_userinfo_has_decide_a_login() -> None:
    fake = with_userinfo(groups=["eng"], email="alice@example.com", email_verified=True)
    async with opened(fake, replace(ASKS_FOR_GROUPS, user_claim="email")) as provider:
        assert (await log_in(provider, fake)).principal == Principal(ISSUER, "alice@example.com")
        fake.userinfo["groups"] = ["sales"]
        with pytest.raises(LoginRefused, match="'groups' has no value"):
            await log_in(provider, fake)
    assert fake.cookies_seen == []


async def test_userinfo_is_not_asked_when_the_id_token_says_enough_or_there_is_none() -> None:
    fake = with_userinfo(groups=["eng"])
    async with opened(fake) as provider:
        await log_in(provider, fake)
    fake.claims = {"groups": ["sales"]}
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with pytest.raises(LoginRefused, match="'groups' has no value"):
            await log_in(provider, fake)
    silent = FakeIdentityProvider()
    async with opened(silent, ASKS_FOR_GROUPS) as provider:
        with pytest.raises(LoginRefused, match=r"no claim 'groups'.*auth\.scopes"):
            await log_in(provider, silent)
    assert fake.count("/userinfo") == silent.count("/userinfo") == 0


@pytest.mark.requirement("OI5")
async def test_userinfo_is_asked_only_with_the_token_of_a_valid_login() -> None:
    fake = with_userinfo(groups=["eng"])
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with pytest.raises(LoginRefused, match="nonce"):
            await log_in(provider, fake, nonce="of another browser")
    assert fake.count("/userinfo") == 0


@pytest.mark.requirement("OI7")
async def test_userinfo_about_somebody_else_ends_the_login() -> None:
    fake = with_userinfo(groups=["eng"], sub="mallory")
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with pytest.raises(LoginRefused, match="another person"):
            await log_in(provider, fake)


async def test_who_leaves_while_userinfo_is_asked_breaks_nothing(autojump_clock: MockClock) -> None:
    fake = with_userinfo(groups=["eng"])
    fake.replies["/userinfo"] = hang
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with trio.move_on_after(1) as scope:
            await log_in(provider, fake)
        assert scope.cancelled_caught
        fake.replies.clear()
        assert (await log_in(provider, fake)).label == "alice"


async def test_a_token_of_another_type_is_not_shown_to_userinfo() -> None:
    fake = with_userinfo(groups=["eng"])
    fake.token_type = "DPoP"
    async with opened(fake) as provider:
        assert (await log_in(provider, fake)).label == "alice"
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with pytest.raises(IdentityProviderUnavailable, match="type Bearer"):
            await log_in(provider, fake)
    assert fake.count("/userinfo") == 0


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, b"<html>"),
        answer(200, b"a.b.c", content_type="application/jwt"),
        answer(200, b"x" * 10_000_000),
        answer(200, b"\x1f\x8b", content_encoding="gzip"),
        answer(302, location="https://elsewhere.example.com/"),
        answer(401, www_authenticate='Bearer error="invalid_token"'),
        answer(503),
        refuse,
        hang,
        drip(b" ", every=1, times=10_000),
    ],
)
async def test_an_ill_userinfo_endpoint_is_the_providers_fault(autojump_clock: MockClock, reply: Any) -> None:
    fake = with_userinfo()
    fake.replies["/userinfo"] = reply
    async with opened(fake, ASKS_FOR_GROUPS) as provider:
        with trio.fail_after(11), pytest.raises(IdentityProviderUnavailable, match="userinfo") as caught:
            await log_in(provider, fake)
        assert ACCESS_TOKEN not in str(caught.value)
        fake.replies.clear()
        fake.userinfo = {"groups": ["eng"]}
        assert (await log_in(provider, fake)).label == "alice"
