"""One login at the provider in memory, as a person and a browser make it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trio.testing import wait_all_tasks_blocked

from aggregator.config.model import Auth, Secret
from aggregator.protocol.principal import Login, Person
from aggregator.upstream.identity.provider import IdentityProvider, open_identity_provider

from ...protocol.signing import CLIENT_ID, ISSUER
from .fake_identity_provider import REDIRECT_URI, SECRET, FakeIdentityProvider, clock

CONFIDENTIAL = Auth(ISSUER, CLIENT_ID, Secret(SECRET))
VERIFIER = "v" * 43
NONCE = "n-1"


@asynccontextmanager
async def opened(fake: FakeIdentityProvider, auth: Auth = CONFIDENTIAL) -> AsyncIterator[IdentityProvider]:
    async with open_identity_provider(auth, REDIRECT_URI, clock=clock, transport=fake) as provider:
        await wait_all_tasks_blocked()
        yield provider


async def log_in(provider: IdentityProvider, fake: FakeIdentityProvider, **changed: Any) -> Person:
    return (await whole_login(provider, fake, **changed)).person


async def whole_login(provider: IdentityProvider, fake: FakeIdentityProvider, **changed: Any) -> Login:
    url = await provider.authorization_url(state="s", nonce=NONCE, code_verifier=VERIFIER)
    arguments = {"code": fake.log_in(url), "nonce": NONCE, "code_verifier": VERIFIER, "issuer": ISSUER, **changed}
    return await provider.finish(**arguments)
