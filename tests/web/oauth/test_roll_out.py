"""Changing the secret while two instances serve: which orders lose nothing, and what is lost in every other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from aggregator.errors import Refusal
from aggregator.protocol.revisions import HANDSHAKE
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Store
from aggregator.store.memory import MemoryStore
from aggregator.store.sqlite import open_sqlite_store
from aggregator.web.http import Response

from ...fakes.sessions import open_sessions
from ..deployment import ANNA, Browser, Clock, Deployment, FakeProvider, location, read

K1, K2 = (bytes([number]) + bytes(range(31)) for number in (1, 2))
RINGS = {"1": (K1,), "1,2": (K1, K2), "2,1": (K2, K1), "2": (K2,)}
DOCUMENTED = ["1", "1,2", "2,1", "2"]


class Person:
    """Somebody in the middle of everything at once: with tokens, a code, at the provider, before the question."""

    def __init__(self, client: dict[str, Any]) -> None:
        self.client = client

    @classmethod
    async def begin(cls, at: Deployment, client: dict[str, Any] | None = None) -> Person:
        person = cls(client or await at.register())
        person.tokens = await at.tokens(person.client)
        person.code = (await Browser(at).obtain_answer(person.client))["code"]
        logging_in, asked = Browser(at), Browser(at)
        person.answered = at.provider.log_in(location(await logging_in.begin(person.client)), ANNA)
        person.login_cookies = logging_in.jar
        person.page = await asked.to_consent(person.client)
        person.consent_cookies = asked.jar
        person.session = open_sessions(at.keys).begin(ANNA.principal, HANDSHAKE, {}, now=at.clock())
        return person

    async def finish(self, at: Deployment) -> dict[str, Any]:
        """Go on with all of it at another instance: the statuses and errors, by what was done."""
        return {
            "access": _status_of(lambda: at.authenticate(self.tokens["access_token"])),
            "refresh": _said(await at.refresh(self.client, self.tokens["refresh_token"])),
            "code": _said(await at.redeem(self.client, self.code)),
            "begin": (await Browser(at).begin(self.client)).status,
            "login": (await Browser(at, dict(self.login_cookies)).get(self.answered)).status,
            "consent": (await Browser(at, dict(self.consent_cookies)).decide(self.page)).status,
            "session": _status_of(lambda: open_sessions(at.keys).find(self.session, ANNA.principal, now=at.clock())),
        }

    tokens: dict[str, Any]
    code: str
    answered: str
    login_cookies: dict[str, str]
    page: Response
    consent_cookies: dict[str, str]
    session: str


WELL = {"access": 200, "refresh": 200, "code": 200, "begin": 303, "login": 303, "consent": 303, "session": 200}
LOST = {
    "access": 401,
    "refresh": (401, "invalid_client"),
    "code": (401, "invalid_client"),
    "begin": 400,
    "login": 403,
    "consent": 403,
    "session": 404,
}


def _status_of(ask: Callable[[], object]) -> int:
    try:
        ask()
    except Refusal as exc:
        return exc.status
    return 200


def _said(response: Response) -> object:
    return 200 if response.status == 200 else (response.status, read(response)["error"])


@asynccontextmanager
async def two_stores(path: Path, clock: Clock) -> AsyncIterator[list[Store]]:
    """Two connections to one file, as two processes have them."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_sqlite_store(str(path), KeyRing([K1]), clock=clock)) for _ in range(2)
        ]


@pytest.mark.parametrize("first", [0, 1])
async def test_the_documented_roll_out_loses_nothing_before_a_key_is_dropped(first: int, tmp_path: Path) -> None:
    """Instance by instance, [k1] -> [k1, k2] -> [k2, k1] -> [k2]; whatever was begun before a step goes on after it.

    At the last step the clients that had registered under k1 have registered anew.
    """
    clock, provider = Clock(), FakeProvider()
    async with two_stores(tmp_path / "store.sqlite", clock) as stores:

        def start(number: int, ring: str) -> Deployment:
            keys = KeyRing(RINGS[ring])
            return Deployment(store=stores[number], clock=clock, provider=provider, keys=keys)

        instances = [start(number, "1") for number in range(2)]
        client = await instances[0].register()
        for ring in DOCUMENTED[1:]:
            if ring == "2":
                client = await instances[0].register()
            for number in (first, 1 - first):
                midway = [await Person.begin(at, client) for at in instances for _ in range(2)]
                instances[number] = start(number, ring)  # a restart: nothing but the store and the keys is kept
                for index, person in enumerate(midway):
                    assert await person.finish(instances[index % 2]) == WELL
                for one, other in permutations(instances):
                    assert await (await Person.begin(one, client)).finish(other) == WELL


@pytest.mark.requirement("TK5", "RS1")
@pytest.mark.parametrize(("sealing", "opening"), list(product(RINGS, repeat=2)))
async def test_what_an_instance_does_not_know_is_refused_in_the_right_words_and_never_a_500(
    sealing: str, opening: str
) -> None:
    clock, provider = Clock(), FakeProvider()
    store = MemoryStore(clock=clock)
    one, other = (
        Deployment(store=store, clock=clock, provider=provider, keys=KeyRing(RINGS[ring]))
        for ring in (sealing, opening)
    )
    person = await Person.begin(one)
    expected = WELL if RINGS[sealing][0] in RINGS[opening] else LOST
    assert await person.finish(other) == expected
    if expected is LOST:
        known = await other.register()
        for response in (
            await other.refresh(known, person.tokens["refresh_token"]),
            await other.redeem(known, person.code),
        ):
            assert _said(response) == (400, "invalid_grant")
        revoking = {"client_id": person.client["client_id"], "token": person.tokens["refresh_token"]}
        assert _said(await other.post("/revoke", revoking)) == (401, "invalid_client")
        assert _said(await other.post("/revoke", revoking | {"client_id": known["client_id"]})) == 200
        # Nothing was spent or ended by the attempts: where the key is known, all of it goes on.
        assert await person.finish(one) == WELL


@pytest.mark.parametrize("opening", ["2,1", "2"])
async def test_keys_exchanged_under_a_running_instance_count_at_once(opening: str) -> None:
    """What a changed secret file does; see tests/keys/test_deployment.py."""
    deployment = Deployment(keys=KeyRing(RINGS["1"]))
    person = await Person.begin(deployment)
    deployment.authenticate(person.tokens["access_token"])
    deployment.keys.replace(RINGS[opening])
    assert await person.finish(deployment) == (WELL if opening == "2,1" else LOST)
    assert await (await Person.begin(deployment)).finish(deployment) == WELL
