"""`upstream.identity_provider`: one login, and everything a provider can do wrong. Time is virtual."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from aggregator.config.model import Secret
from aggregator.errors import IdentityProviderUnavailable, LoginRefused
from aggregator.protocol.principal import Person, Principal

from ...protocol.signing import CLIENT_ID, ISSUER, NOW, Signer
from .fake_identity_provider import SECRET, FakeIdentityProvider, answer, drip, hang, refuse
from .logging_in import CONFIDENTIAL, NONCE, VERIFIER, log_in, opened

DISCOVERY = "/.well-known/openid-configuration"
REQUIRED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@pytest.mark.requirement("OI6", "OI7")
@pytest.mark.parametrize(
    ("public", "methods", "secret"),
    [
        (False, None, SECRET),
        (False, ["client_secret_post"], SECRET),
        (False, ["client_secret_post", "client_secret_basic"], SECRET),
        (True, ["none"], None),
        (True, None, None),
    ],
)
async def test_a_login_ends_in_a_person(public: bool, methods: list[str] | None, secret: str | None) -> None:
    fake = FakeIdentityProvider(public=public)
    if methods is not None:
        fake.metadata["token_endpoint_auth_methods_supported"] = methods
    auth = replace(CONFIDENTIAL, client_secret=None if secret is None else Secret(secret))
    fake.claims = {"email": "alice@example.com"}
    async with opened(fake, auth) as provider:
        assert await log_in(provider, fake) == Person(Principal(ISSUER, "alice"), "alice@example.com")
        assert provider.status().available
        assert provider.status().detail == "available"


@pytest.mark.requirement("OI1")
async def test_a_person_is_the_same_whether_or_not_the_issuer_ends_in_a_slash() -> None:
    fake = FakeIdentityProvider()
    fake.metadata["issuer"] = ISSUER + "/"
    async with opened(fake) as provider:
        person = await log_in(provider, fake, issuer=ISSUER + "/")
    assert person.principal.issuer == ISSUER


@pytest.mark.requirement("OI2", "OI4")
async def test_a_provider_with_every_harmless_oddity_at_once_logs_in() -> None:
    """No lists of methods, no ``iss`` in the answer, an audience in a list, fractions of seconds, a bare RS512 key."""
    fake = FakeIdentityProvider()
    fake.metadata = {name: fake.metadata[name] for name in (*REQUIRED, "issuer")}
    fake.signer = Signer("RS512", kid=None)
    bare = {name: value for name, value in fake.signer.jwk().items() if name in ("kty", "n", "e")}
    fake.replies["/keys"] = answer(200, json.dumps({"keys": [bare]}).encode())
    fake.claims = {"aud": [CLIENT_ID], "azp": CLIENT_ID, "iat": NOW - 0.25, "auth_time": 0, "at_hash": "unread"}
    fake.token_type = "bearer"
    async with opened(fake) as provider:
        assert (await log_in(provider, fake, issuer=None)).principal == Principal(ISSUER, "alice")


@pytest.mark.requirement("OI6")
async def test_a_code_works_once_and_only_with_its_verifier() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        url = await provider.authorization_url(state="s", nonce=NONCE, code_verifier=VERIFIER)
        code = fake.log_in(url)
        await provider.finish(code=code, nonce=NONCE, code_verifier=VERIFIER, issuer=ISSUER)
        with pytest.raises(LoginRefused, match="invalid_grant"):
            await provider.finish(code=code, nonce=NONCE, code_verifier=VERIFIER, issuer=ISSUER)
        with pytest.raises(LoginRefused, match="invalid_grant"):
            await log_in(provider, fake, code_verifier="w" * 43)


@pytest.mark.requirement("OI5")
async def test_a_token_of_another_login_is_refused() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        with pytest.raises(LoginRefused, match="nonce"):
            await log_in(provider, fake, nonce="of another browser")


async def test_a_code_is_sent_nowhere_when_the_response_names_another_issuer() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        for issuer in ("https://evil.example.com", None):
            with pytest.raises(LoginRefused):
                await log_in(provider, fake, issuer=issuer)
    assert fake.count("/token") == 0


async def test_who_may_not_enter_is_refused() -> None:
    fake = FakeIdentityProvider()
    fake.claims = {"hd": "evil.example.net"}
    async with opened(fake, replace(CONFIDENTIAL, allow={"hd": ("example.com",)})) as provider:
        with pytest.raises(LoginRefused, match="'hd'"):
            await log_in(provider, fake)


async def test_a_wrong_secret_is_told_to_the_operator() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake, replace(CONFIDENTIAL, client_secret=Secret("wrong"))) as provider:
        with pytest.raises(IdentityProviderUnavailable, match=rf"identity provider {ISSUER}: .*auth\.clientSecret"):
            await log_in(provider, fake)


async def test_cookies_of_the_provider_are_not_kept() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        await log_in(provider, fake)
        await log_in(provider, fake)
    assert fake.cookies_seen == []


@pytest.mark.requirement("OI8")
async def test_documents_are_read_once_for_many_logins() -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        for _ in range(5):
            await log_in(provider, fake)
    assert (fake.count(DISCOVERY), fake.count("/keys"), fake.count("/token")) == (1, 1, 5)


@pytest.mark.requirement("AF8")
@pytest.mark.requirement("OI8")
async def test_a_new_key_is_found_by_reading_again(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        await log_in(provider, fake)
        fake.signer = Signer(kid="k2", serial=1)
        fake.published = [fake.signer]
        assert (await log_in(provider, fake)).label == "alice"
        assert (await log_in(provider, fake)).label == "alice"
        assert fake.count("/keys") == 2
        fake.signer = Signer()  # the old key was taken out of the set: it must not serve any more
        with pytest.raises(LoginRefused, match="signature"):
            await log_in(provider, fake)


@pytest.mark.requirement("OI8")
async def test_new_keys_under_old_names_are_found_as_well(autojump_clock: MockClock) -> None:
    """A provider that makes new keys at each start and gives them no names, or always the same one."""
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        await log_in(provider, fake)
        fake.signer = Signer(serial=1)
        fake.published = [fake.signer]
        assert (await log_in(provider, fake)).label == "alice"


@pytest.mark.requirement("AF8")
@pytest.mark.requirement("OI8")
async def test_a_flood_of_unknown_keys_reads_at_most_once_in_30_seconds(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()
    refused = 0

    async def strange_login(number: int) -> None:
        nonlocal refused
        fake.signer = Signer(kid=f"strange-{number}", serial=1)
        with pytest.raises(LoginRefused, match="signature"):
            await log_in(provider, fake)
        refused += 1

    async with opened(fake) as provider:
        started = trio.current_time()
        for second in range(100):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(strange_login, second * 10 + number)
            await trio.sleep(1)
        elapsed = trio.current_time() - started
    assert refused == 1000
    assert fake.count("/keys") - 1 <= elapsed // 30 + 1
    assert fake.count("/keys") - 1 == 4


@pytest.mark.requirement("AF8")
@pytest.mark.requirement("OI8")
@pytest.mark.parametrize(
    "reply",
    [answer(500), answer(200, b"<html>"), answer(200, b'{"keys": []}'), answer(200, b"x" * 10_000_000), refuse, hang],
)
async def test_known_keys_serve_while_the_key_set_is_ill(autojump_clock: MockClock, reply: Any) -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        await log_in(provider, fake)
        fake.replies["/keys"] = reply
        good, fake.signer = fake.signer, Signer(kid="k2", serial=1)
        with trio.fail_after(20), pytest.raises(LoginRefused, match="signature"):
            await log_in(provider, fake)
        fake.signer = good
        assert (await log_in(provider, fake)).label == "alice"
        await trio.sleep(2 * 3600)
        assert (await log_in(provider, fake)).label == "alice"
        assert "/keys" in provider.status().detail or "key set" in provider.status().detail


async def test_a_moved_key_set_is_read_at_its_new_place(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()
    async with opened(fake) as provider:
        await log_in(provider, fake)
        fake.metadata["jwks_uri"] = ISSUER + "/elsewhere"
        fake.replies["/keys"] = answer(410)
        await trio.sleep(3700)
        with pytest.raises(IdentityProviderUnavailable, match=ISSUER + "/elsewhere"):
            await log_in(provider, fake)


@pytest.mark.parametrize(
    ("cache_control", "lifetime"),
    [
        ("", 3600),
        ("public, max-age=1200", 1200),
        ("max-age=0", 300),
        ("Max-Age=999999999", 86400),
        ("no-store", 3600),
        ("max-age=soon", 3600),
        ("max-age=-5", 3600),
    ],
)
async def test_documents_age_as_they_say_within_reason(
    autojump_clock: MockClock, cache_control: str, lifetime: float
) -> None:
    fake = FakeIdentityProvider()
    fake.headers = {"cache-control": cache_control}
    async with opened(fake):
        await trio.sleep(lifetime - 1)
        assert (fake.count(DISCOVERY), fake.count("/keys")) == (1, 1)
        await trio.sleep(2)
        assert (fake.count(DISCOVERY), fake.count("/keys")) == (2, 2)


@pytest.mark.requirement("AF7")
async def test_a_provider_that_is_down_at_start_is_waited_for(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake = FakeIdentityProvider()
    fake.replies[DISCOVERY] = refuse
    async with opened(fake) as provider:
        assert not provider.status().available
        assert "cannot be reached" in provider.status().detail
        await trio.sleep(300)
        started = trio.current_time()
        with pytest.raises(IdentityProviderUnavailable, match=ISSUER):
            await log_in(provider, fake)
        assert trio.current_time() - started < 1
        del fake.replies[DISCOVERY]
        await trio.sleep(30)
        assert provider.status().available
        assert (await log_in(provider, fake)).label == "alice"
    assert [
        (record.levelname, "again" in record.message) for record in caplog.records if "identity" in record.message
    ] == [
        ("WARNING", True),
        ("INFO", True),
    ]


async def test_a_request_tries_by_itself_while_the_next_attempt_is_far(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()
    fake.replies[DISCOVERY] = refuse
    async with opened(fake) as provider:
        await trio.sleep(200)
        attempted = trio.Event()

        async def refuse_and_tell(request: httpx2.Request) -> httpx2.Response:
            attempted.set()
            return await refuse(request)

        fake.replies[DISCOVERY] = refuse_and_tell
        await attempted.wait()
        del fake.replies[DISCOVERY]
        with pytest.raises(IdentityProviderUnavailable):
            await log_in(provider, fake)  # too soon after a failure: refused at once
        await trio.sleep(6)
        assert (await log_in(provider, fake)).label == "alice"


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
async def test_a_provider_that_hangs_keeps_nobody_waiting(autojump_clock: MockClock, path: str) -> None:
    fake = FakeIdentityProvider()
    fake.replies[path] = hang
    async with opened(fake) as provider:

        async def try_it() -> None:
            with trio.fail_after(5.5), pytest.raises(IdentityProviderUnavailable):
                await log_in(provider, fake)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(try_it)
        assert fake.count(path) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(200, b"<html>Down for maintenance</html>"), "not JSON"),
        (answer(302, location="https://elsewhere.example.com/"), "redirects are not followed"),
        (answer(404), "answered 404"),
        (answer(503, retry_after="5"), "answered 503"),
        (answer(200, b"x" * 300_000), "more than 256 KiB"),
        (answer(200, b"\x1f\x8b", content_encoding="gzip"), "compressed"),
        (answer(200, b'{"issuer": "https://evil.example.com"}'), "speaks for issuer"),
        (drip(b"x" * 60_000, every=0.1, times=10_000), "more than 256 KiB"),
        (drip(b" ", every=1, times=10_000), "within 10 seconds"),
    ],
)
async def test_a_metadata_document_that_is_none_says_what_it_is(
    autojump_clock: MockClock, reply: Any, words: str
) -> None:
    fake = FakeIdentityProvider()
    fake.replies[DISCOVERY] = reply
    async with opened(fake) as provider:
        await trio.sleep(11)
        assert words in provider.status().detail
        with pytest.raises(IdentityProviderUnavailable, match=words):
            await provider.authorization_url(state="s", nonce=NONCE, code_verifier=VERIFIER)


@pytest.mark.parametrize(
    "reply", [answer(502, b"<html>"), answer(200, b"{}"), answer(200, b"x" * 10_000_000), refuse, hang]
)
async def test_an_ill_token_endpoint_is_the_providers_fault(autojump_clock: MockClock, reply: Any) -> None:
    fake = FakeIdentityProvider()
    fake.replies["/token"] = reply
    async with opened(fake) as provider:
        with trio.fail_after(11), pytest.raises(IdentityProviderUnavailable) as caught:
            await log_in(provider, fake)
        assert SECRET not in str(caught.value)
        assert "code-0" not in str(caught.value)


async def test_a_caller_who_leaves_takes_nobodys_reading_with_them(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()

    async def slowly(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(2)
        del fake.replies[DISCOVERY]
        return await fake.handle_async_request(request)

    fake.replies[DISCOVERY] = slowly
    async with opened(fake) as provider, trio.open_nursery() as nursery:

        async def stay() -> None:
            assert (await log_in(provider, fake)).label == "alice"

        nursery.start_soon(stay)
        with trio.move_on_after(1):
            await log_in(provider, fake)
    assert fake.count(DISCOVERY) == 2  # the fake counts the slow one twice


async def test_cancelled_anywhere_the_provider_works_on(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()

    async def slow_keys(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(1)
        del fake.replies["/keys"]
        return await fake.handle_async_request(request)

    async with opened(fake) as provider:
        for tenths in range(15):
            await trio.sleep(31)  # reading again is allowed
            fake.replies["/keys"] = slow_keys
            fake.signer = Signer(kid=f"k-{tenths}", serial=1)
            fake.published = [fake.signer]
            with trio.move_on_after(tenths / 10):
                await log_in(provider, fake)
            await trio.sleep(31)
            assert (await log_in(provider, fake)).label == "alice"


async def test_closing_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    fake = FakeIdentityProvider()
    fake.replies[DISCOVERY] = hang
    with trio.fail_after(1):
        async with opened(fake) as provider:
            assert "has not answered" in repr(provider)
