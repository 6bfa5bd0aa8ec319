"""Local mode's front door: who is let in, and what a browser sees."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from aggregator.config.model import Listen, Secret
from aggregator.errors import LoginRefused, Refusal
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import LOCAL
from aggregator.web.local.door import LocalAuthentication, ThisMachine

from ..deployment import query_of

TOKEN = "3f1c9a0d5e7b42861f0e9d8c7b6a5948"
SITE = site_of("http://localhost:3000")


def authorization(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"localhost:3000"), *((b"authorization", value) for value in values)]


def test_without_a_token_everybody_on_the_machine_is_the_one_person() -> None:
    door = LocalAuthentication(Listen())
    assert door.authenticate(authorization()).principal is LOCAL
    assert door.authenticate(authorization(b"Bearer whatever-a-client-sends")).principal is LOCAL


def test_who_shows_the_token_is_let_in() -> None:
    door = LocalAuthentication(Listen(token=Secret(TOKEN)))
    assert door.authenticate(authorization(b"Bearer " + TOKEN.encode())).principal is LOCAL
    assert door.authenticate(authorization(b"bearer   " + TOKEN.encode())).principal is LOCAL


@pytest.mark.parametrize(
    "values",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"Bearer " + TOKEN[:-1].encode(),),
        (b"Bearer " + TOKEN.encode() + b"0",),
        (b"Bearer \xff",),
        (b"Basic " + TOKEN.encode(),),
        (b"Bearer " + TOKEN.encode(), b"Bearer " + TOKEN.encode()),
    ],
)
def test_everybody_else_is_told_what_to_send_and_not_what_it_is(values: tuple[bytes, ...]) -> None:
    door = LocalAuthentication(Listen(token=Secret(TOKEN)))
    with pytest.raises(Refusal, match=r"listen\.token") as caught:
        door.authenticate(authorization(*values))
    assert caught.value.status == 401
    assert TOKEN not in caught.value.description
    ((name, challenge),) = caught.value.headers
    assert name == "www-authenticate"
    assert "resource_metadata" not in challenge, "there is no authorization server to be found"


async def test_a_sign_in_without_a_token_is_answered_at_once_for_its_own_browser_only() -> None:
    machine = ThisMachine(SITE, Listen())
    url = await machine.authorization_url(state="s", nonce="n", code_verifier="v")
    assert urlsplit(url).path == "/callback"
    code = query_of(url)["code"]
    login = await machine.finish(code=code, nonce="n", code_verifier="v", issuer=None)
    assert login.person.principal == LOCAL
    with pytest.raises(LoginRefused):
        await machine.finish(code=code, nonce="another", code_verifier="v", issuer=None)


async def test_a_sign_in_with_a_token_leads_to_the_page_that_asks_for_it() -> None:
    machine = ThisMachine(SITE, Listen(token=Secret(TOKEN)))
    url = await machine.authorization_url(state="s", nonce="n", code_verifier="v")
    assert url == "http://localhost:3000/listen-token?state=s"
