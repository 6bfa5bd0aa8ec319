"""The demo's identity provider: a real flow for two people, and nobody beyond this computer."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from aggregator.demo.forms import parse_forms
from aggregator.demo.identity_provider import CODE_LIFETIME, MAX_CODES, DemoIdentityProvider

ISSUER = "http://127.0.0.1:4711"
REDIRECT = "http://127.0.0.1:8765/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ASKED = {
    "response_type": "code",
    "client_id": "demo",
    "redirect_uri": REDIRECT,
    "scope": "openid email",
    "state": "s",
    "nonce": "n",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def provider(clock: Clock, issuer: str = ISSUER) -> DemoIdentityProvider:
    return DemoIdentityProvider(issuer, client_id="demo", redirect_uri=REDIRECT, clock=clock)


def browser(app: Any, peer: str = "127.0.0.1") -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app, client=(peer, 1)), base_url=ISSUER)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(clock: Clock) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(provider(clock)) as client:
        yield client


async def sign_in(client: httpx2.AsyncClient, label: str = "Sign in as Alice", **changed: str) -> dict[str, str]:
    """What comes back to the redirect URI."""
    page = await client.get("/authorize", params=ASKED | changed)
    (form,) = parse_forms(page.text)
    answer = await client.post(form.action, data=form.press(label))
    assert answer.status_code == 303
    location = answer.headers["location"]
    assert location.startswith(f"{REDIRECT}?")
    return dict(parse_qsl(urlsplit(location).query))


def grant(code: str, **changed: str) -> dict[str, str]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": "demo"}
    return form | {"code_verifier": VERIFIER} | changed


@pytest.mark.parametrize(("label", "subject"), [("Sign in as Alice", "alice"), ("Sign in as Bob", "bob")])
async def test_a_person_comes_out_as_a_signed_id_token(
    client: httpx2.AsyncClient, clock: Clock, label: str, subject: str
) -> None:
    returned = await sign_in(client, label)
    assert (returned["state"], returned["iss"]) == ("s", ISSUER)
    tokens = (await client.post("/token", data=grant(returned["code"]))).json()
    keys = KeySet.import_key_set((await client.get("/jwks")).json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims
    assert {"iss": ISSUER, "aud": "demo", "sub": subject, "nonce": "n", "iat": int(clock.now)}.items() <= claims.items()


async def test_the_page_says_loudly_what_it_is(client: httpx2.AsyncClient) -> None:
    page = await client.get("/authorize", params=ASKED)
    assert "DEMO: no passwords" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'self'" in policy
    [style] = re.findall(r'rel="stylesheet" href="([^"]+)"', page.text)
    assert "light-dark(" in (await client.get(style)).text
    assert page.headers["cache-control"] == "no-store"


async def test_values_of_the_request_cannot_break_the_page(client: httpx2.AsyncClient) -> None:
    page = await client.get("/authorize", params=ASKED | {"state": '"><script>x</script>'})
    assert "<script>" not in page.text


async def test_a_code_works_once(client: httpx2.AsyncClient) -> None:
    code = (await sign_in(client))["code"]
    assert (await client.post("/token", data=grant(code))).status_code == 200
    assert (await client.post("/token", data=grant(code))).json()["error"] == "invalid_grant"


async def test_a_code_expires(client: httpx2.AsyncClient, clock: Clock) -> None:
    code = (await sign_in(client))["code"]
    clock.now += CODE_LIFETIME + 1
    assert (await client.post("/token", data=grant(code))).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "é"}, "invalid_grant"),
        ({"redirect_uri": f"{REDIRECT}2"}, "invalid_grant"),
        ({"client_id": "other"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_code_is_for_its_own_login(client: httpx2.AsyncClient, changed: dict[str, str], error: str) -> None:
    code = (await sign_in(client))["code"]
    answer = await client.post("/token", data=grant(code, **changed))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    "changed",
    [
        {"response_type": "token"},
        {"client_id": "other"},
        {"redirect_uri": "http://evil.example/"},
        {"scope": "email"},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
    ],
)
async def test_a_wrong_request_is_told_and_never_redirected(
    client: httpx2.AsyncClient, changed: dict[str, str]
) -> None:
    for answer in (
        await client.get("/authorize", params=ASKED | changed),
        await client.post("/sign-in", data=ASKED | changed | {"person": "alice"}),
    ):
        assert answer.status_code == 400
        assert "location" not in answer.headers


async def test_there_are_two_people(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/sign-in", data=ASKED | {"person": "mallory"})
    assert answer.json()["error_description"] == "There are only Alice and Bob."


async def test_a_loop_of_sign_ins_fills_nothing(client: httpx2.AsyncClient) -> None:
    for _ in range(MAX_CODES):
        await client.post("/sign-in", data=ASKED | {"person": "bob"})
    assert (await client.post("/sign-in", data=ASKED | {"person": "bob"})).status_code == 503


@pytest.mark.parametrize("issuer", ["http://192.0.2.1:4711", "https://login.example.com", "http://localhost.evil/"])
def test_it_refuses_to_be_anywhere_but_on_loopback(clock: Clock, issuer: str) -> None:
    with pytest.raises(ValueError, match="not a loopback URL"):
        provider(clock, issuer)


async def test_it_answers_this_computer_only(clock: Clock) -> None:
    async with browser(provider(clock), peer="192.0.2.7") as stranger:
        assert (await stranger.get("/authorize", params=ASKED)).status_code == 403


async def test_it_answers_to_its_own_name_only(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/jwks", headers={"host": "evil.example"})).status_code == 403


async def test_other_paths_and_methods_are_not_there(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/admin")).status_code == 404
    assert (await client.get("/sign-in")).status_code == 404
