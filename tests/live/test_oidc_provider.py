"""Login at a real, certified OpenID provider (npm oidc-provider), as each kind of client."""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from aggregator.config.model import Auth, Secret
from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.oidc import Refreshed, Withdrawn
from aggregator.protocol.principal import Login, Person, Principal
from aggregator.upstream.identity.provider import IdentityProvider, open_identity_provider

from ..parts.browser import walk_login
from ..parts.servers import BASIC, CLIENT_SECRET, POST, PUBLIC, open_oidc_provider

pytestmark = pytest.mark.live

REDIRECT_URI = "http://127.0.0.1:9/callback"  # nothing listens there: the browser stops before


async def answer_of(provider: IdentityProvider, *, nonce: str, verifier: str, user: str = "alice") -> tuple[str, str]:
    """What comes back to the redirect URI: the code and the issuer."""
    url = await provider.authorization_url(state="the-state", nonce=nonce, code_verifier=verifier)
    landed = parse_qs(urlsplit(await walk_login(url, REDIRECT_URI, user)).query)
    assert landed["state"] == ["the-state"]
    return landed["code"][0], landed["iss"][0]


async def log_in(provider: IdentityProvider, user: str = "alice") -> Person:
    return (await whole_login(provider, user)).person


async def whole_login(provider: IdentityProvider, user: str = "alice") -> Login:
    nonce, verifier = secrets.token_urlsafe(), secrets.token_urlsafe(48)
    code, issuer = await answer_of(provider, nonce=nonce, verifier=verifier, user=user)
    return await provider.finish(code=code, nonce=nonce, code_verifier=verifier, issuer=issuer)


@pytest.mark.requirement("OI1", "OI4", "OI5", "OI6", "OI7")
@pytest.mark.parametrize(("client_id", "secret"), [(BASIC, CLIENT_SECRET), (POST, CLIENT_SECRET), (PUBLIC, None)])
async def test_each_kind_of_client_logs_a_person_in_once(client_id: str, secret: str | None) -> None:
    # This provider offers every method in its metadata and takes only the registered one; that a client is
    # registered for "post" must show in the metadata for us to choose it.
    async with open_oidc_provider(REDIRECT_URI, post_only=client_id == POST) as issuer:
        auth = Auth(issuer, client_id, None if secret is None else Secret(secret), scopes=("openid", "email"))
        async with open_identity_provider(auth, REDIRECT_URI) as provider:
            assert await log_in(provider) == Person(Principal(issuer, "alice"), "alice@example.test")
            assert (await log_in(provider, "bob")).principal == Principal(issuer, "bob")

            code, named = await answer_of(provider, nonce="n", verifier="v" * 43)
            with pytest.raises(LoginRefused, match="nonce"):
                await provider.finish(code=code, nonce="another", code_verifier="v" * 43, issuer=named)
            with pytest.raises(LoginRefused, match="invalid_grant"):
                await provider.finish(code=code, nonce="n", code_verifier="v" * 43, issuer=named)

            code, named = await answer_of(provider, nonce="n", verifier="v" * 43)
            with pytest.raises(LoginRefused, match="invalid_grant"):
                await provider.finish(code=code, nonce="n", code_verifier="w" * 43, issuer=named)
            with pytest.raises(LoginRefused, match="'iss'"):
                await provider.finish(code=code, nonce="n", code_verifier="v" * 43, issuer=None)


@pytest.mark.requirement("OI4")
async def test_algorithms_claims_and_issuers_as_providers_have_them() -> None:
    async with open_oidc_provider(REDIRECT_URI, path="/realms/test") as issuer:
        base = Auth(issuer, client_secret=Secret(CLIENT_SECRET), scopes=("openid", "email", "groups"))
        for algorithm in ("PS256", "ES256", "EdDSA"):
            auth = replace(base, client_id=f"client-{algorithm}", allow={"groups": ("eng",)}, user_claim="email")
            async with open_identity_provider(auth, REDIRECT_URI) as provider:
                assert (await log_in(provider)).principal == Principal(issuer, "alice@example.test")
                with pytest.raises(LoginRefused, match="verified"):
                    await log_in(provider, "bob")
        with_hmac = replace(base, client_id="client-HS256", client_secret=Secret("x" * 64))
        async with open_identity_provider(with_hmac, REDIRECT_URI) as provider:
            with pytest.raises(LoginRefused, match="HS256"):
                await log_in(provider)
        wrong = replace(base, client_id=BASIC, client_secret=Secret("not the secret"))
        async with open_identity_provider(wrong, REDIRECT_URI) as provider:
            with pytest.raises(IdentityProviderUnavailable, match="invalid_client"):
                await log_in(provider)
        slash = replace(base, issuer=issuer + "/", client_id=BASIC)
        async with open_identity_provider(slash, REDIRECT_URI) as provider:
            assert (await log_in(provider)).principal == Principal(issuer, "alice")


@pytest.mark.requirement("TK8")
async def test_a_login_is_checked_again_with_the_providers_refresh_token_which_rotates() -> None:
    async with open_oidc_provider(REDIRECT_URI, refresh_tokens=True) as issuer:
        auth = Auth(
            issuer, PUBLIC, scopes=("openid", "email", "offline_access"), allow={"email": ("alice@example.test",)}
        )
        async with open_identity_provider(auth, REDIRECT_URI) as provider:
            login = await whole_login(provider)
            alice, first = login.person.principal, login.refresh_token
            assert first is not None
            renewed = await provider.refresh(first, alice)
            assert isinstance(renewed, Refreshed)
            assert renewed.refresh_token not in (None, first)
            await provider.readmit(renewed, alice)
            # A second use of the first token makes this provider end the whole grant (OAuth 2.1 4.3.1).
            assert isinstance(await provider.refresh(first, alice), Withdrawn)
            assert isinstance(await provider.refresh(renewed.refresh_token or "", alice), Withdrawn)
