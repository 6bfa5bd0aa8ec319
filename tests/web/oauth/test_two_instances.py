"""Two instances over one store, through anything that people, thieves and operators do in any order: A-P 7.

A model says for every code, refresh token and access token what has to happen.
What follows from it: a code succeeds once at most, the live tokens of a grant
are one line, what was revoked stays so, nobody gets anything of somebody else,
and nothing is ever answered 500.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from aggregator.config.model import Auth
from aggregator.errors import Refusal
from aggregator.protocol.oauth.sealed import FLOW_LIFETIME, open_refresh
from aggregator.protocol.principal import Person
from aggregator.protocol.sealing import KeyRing
from aggregator.store import REFRESH_GRACE, Store
from aggregator.store.memory import MemoryStore
from aggregator.store.sqlite import open_sqlite_store
from aggregator.web.http import Response

from ..deployment import (
    ANNA,
    BEN,
    FROM_OWN_PAGE,
    PROVIDER,
    Browser,
    Clock,
    Deployment,
    FakeProvider,
    hidden_fields,
    location,
    query_of,
    read,
    target_of,
)
from ..lineages import Flow, Grant, Pair, Registered

INSTANCES = st.sampled_from([0, 1])
AUTH = Auth(PROVIDER, relogin_after=366 * 86400.0)  # a grant ends by its own age here; leavers are test_leavers' affair
MAX_CLIENTS = 6
POLLED_AFTER = 5.0  # seconds; shorter steps leave an instance with what it knew
WRONG_VERIFIER = "another-horse-battery-staple-another-horse-battery"

T = TypeVar("T")


class TwoInstances(RuleBasedStateMachine):
    """Both instances live in a trio thread of their own, as long as one example."""

    on_disk = False
    clients: Bundle[Registered] = Bundle("clients")
    begun: Bundle[Flow] = Bundle("begun")
    asked: Bundle[Flow] = Bundle("asked")
    codes: Bundle[Grant] = Bundle("codes")
    grants: Bundle[Grant] = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.provider = Clock(), FakeProvider()
        self.memory = MemoryStore(clock=self.clock)
        self.directory = tempfile.TemporaryDirectory()
        self.ring = [0]  # numbers of the keys at hand, the sealing one first
        self.registrations = 0
        self.every: list[Grant] = []
        self.ready, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=trio.run, args=(self.serve,))
        self.thread.start()
        assert self.ready.wait(120)

    async def serve(self) -> None:
        self.stacks = [AsyncExitStack(), AsyncExitStack()]
        self.instances = [await self.start(0), await self.start(1)]
        self.token = trio.lowlevel.current_trio_token()
        self.ready.set()
        await trio.to_thread.run_sync(self.done.wait)
        for stack in self.stacks:
            await stack.aclose()

    def teardown(self) -> None:
        self.done.set()
        self.thread.join(120)
        self.directory.cleanup()

    async def start(self, number: int) -> Deployment:
        """As a process starts: with the store and the secret, and nothing else from before."""
        keys, store = KeyRing(self.secrets()), await self.open_store(number)
        instance = Deployment(store=store, clock=self.clock, provider=self.provider, keys=keys, auth=AUTH)
        await instance.revocations.read(store)
        return instance

    async def open_store(self, number: int) -> Store:
        if not self.on_disk:
            return self.memory
        path, keys = Path(self.directory.name) / "store.sqlite", KeyRing(self.secrets())
        return await self.stacks[number].enter_async_context(open_sqlite_store(str(path), keys, clock=self.clock))

    def secrets(self) -> list[bytes]:
        return [bytes([number]) + bytes(range(31)) for number in self.ring]

    def run_async(self, call: Callable[[], Awaitable[T]]) -> T:
        return trio.from_thread.run(call, trio_token=self.token)

    def opens(self, key: int, until: float) -> bool:
        return key in self.ring and self.clock.now < until

    # Clients and people

    @initialize(target=clients)
    def two_clients(self) -> Any:
        return multiple(*(self.registered(number) for number in range(2)))

    @rule(target=clients, at=INSTANCES)
    def register(self, at: int) -> Any:
        return self.registered(at) if self.registrations < MAX_CLIENTS else multiple()

    def registered(self, at: int) -> Registered:
        self.registrations += 1
        return Registered(self.run_async(self.instances[at].register), self.ring[0])

    @rule(target=begun, client=clients, person=st.sampled_from([ANNA, BEN]), at=INSTANCES)
    def authorize(self, client: Registered, person: Person, at: int) -> Any:
        browser = Browser(self.instances[at])
        response = self.run_async(lambda: browser.begin(client.content))
        if client.key not in self.ring:
            assert response.status == 400
            return multiple()
        return Flow(browser, person, client, self.ring[0], self.clock.now + FLOW_LIFETIME, location(response))

    @rule(target=asked, flow=consumes(begun), at=INSTANCES, thief=st.booleans())
    def log_in(self, flow: Flow, at: int, thief: bool) -> Any:
        target = self.provider.log_in(flow.url, flow.person)
        if thief:
            exchanges = self.provider.exchanges
            thiefs = self.other_browser(flow, at)
            response = self.run_async(lambda: thiefs.get(target))
            assert (response.status, self.provider.exchanges) == (403, exchanges)
        flow.browser.deployment = self.instances[at]
        response = self.run_async(lambda: flow.browser.get(target))
        if not self.opens(flow.key, flow.until):
            assert response.status == 403
            return multiple()
        page = self.run_async(lambda: flow.browser.get(target_of(location(response))))
        until = self.clock.now + FLOW_LIFETIME
        return Flow(flow.browser, flow.person, flow.client, self.ring[0], until, page=page)

    @rule(target=codes, flow=consumes(asked), at=INSTANCES, thief=st.booleans(), again=st.booleans())
    def approve(self, flow: Flow, at: int, thief: bool, again: bool) -> Any:
        assert flow.page is not None
        form = hidden_fields(flow.page) | {"decision": "allow"}
        if thief:
            thiefs = self.other_browser(flow, at)
            stolen = self.run_async(lambda: thiefs.post("/consent", form, *FROM_OWN_PAGE))
            assert stolen.status == 403
        flow.browser.deployment, jar = self.instances[at], dict(flow.browser.jar)
        response = self.run_async(lambda: flow.browser.post("/consent", form, *FROM_OWN_PAGE))
        if not self.opens(flow.key, flow.until):
            assert response.status == 403
            return multiple()
        if again:  # the same form from the same browser, at the other instance
            copy = Browser(self.instances[1 - at], jar)
            assert self.run_async(lambda: copy.post("/consent", form, *FROM_OWN_PAGE)).status == 400
        code = query_of(location(response))["code"]
        until = self.clock.now + self.instances[at].config.tokens.code
        grant = Grant(flow.person, flow.client, code, until, self.ring[0])
        self.every.append(grant)
        return grant

    @rule(target=grants, client=clients, person=st.sampled_from([ANNA, BEN]), at=INSTANCES)
    def come_in(self, client: Registered, person: Person, at: int) -> Any:
        """All of the above and the first tokens, with a change of the instance at each step."""
        flow = self.authorize(client, person, at)
        if not isinstance(flow, Flow):
            return multiple()
        code = self.approve(self.log_in(flow, 1 - at, thief=False), at, thief=False, again=False)
        return self.redeem_rightly(code, 1 - at)

    def other_browser(self, flow: Flow, at: int) -> Browser:
        """Somebody else's, in the middle of a login of their own where the client still can."""
        browser = Browser(self.instances[at])
        self.run_async(lambda: browser.begin(flow.client.content))
        return browser

    # Tokens

    @rule(target=grants, grant=codes, at=INSTANCES, by=clients, verifier=st.sampled_from([None, None, WRONG_VERIFIER]))
    def redeem(self, grant: Grant, at: int, by: Registered, verifier: str | None) -> Any:
        """By whoever has the code; a thief without the verifier, or another client, spends nothing."""
        changes = {"code_verifier": verifier} if verifier else {}
        response = self.run_async(lambda: self.instances[at].redeem(by.content, grant.code, **changes))
        if by is not grant.client or verifier:
            self.check_refused(response, by)
            return multiple()
        return self.redeemed(grant, at, response)

    @rule(target=grants, grant=codes, at=INSTANCES)
    def redeem_rightly(self, grant: Grant, at: int) -> Any:
        response = self.run_async(lambda: self.instances[at].redeem(grant.client.content, grant.code))
        return self.redeemed(grant, at, response)

    @rule(target=grants, grant=consumes(codes))
    def redeem_twice_at_once(self, grant: Grant) -> Any:
        first, second = self.at_both(lambda at: at.redeem(grant.client.content, grant.code))
        if first.status != 200:
            first, second = second, first
        made = self.redeemed(grant, 0, first)
        self.redeemed(grant, 1, second)
        grant.known_revoked.clear()  # one of the two knows; which, the model cannot tell
        return made

    def redeemed(self, grant: Grant, at: int, response: Response) -> Any:
        if not self.opens(grant.key, grant.code_until) or grant.client.key not in self.ring:
            self.check_refused(response, grant.client)
        elif grant.spent:
            self.check_refused(response, grant.client)
            self.end(grant, at)
        elif grant.revoked:
            self.check_refused(response, grant.client)
        else:
            grant.spent, grant.ends_at = True, self.clock.now + self.instances[at].config.tokens.refresh
            self.keep(grant, response)
            return grant
        return multiple()

    @rule(grant=grants, which=st.integers(0, 5), at=INSTANCES, by=clients)
    def refresh_by_anybody(self, grant: Grant, which: int, at: int, by: Registered) -> None:
        pair = grant.pairs[-1 - which % len(grant.pairs)]
        response = self.run_async(lambda: self.instances[at].refresh(by.content, pair.refresh))
        if by is grant.client:
            self.refreshed(grant, pair, at, response)
        else:
            self.check_refused(response, by)

    @rule(grant=grants, which=st.sampled_from([0, 0, 0, 1, 1, 2]), at=INSTANCES)
    def refresh(self, grant: Grant, which: int, at: int) -> None:
        pair = grant.pairs[-1 - which % len(grant.pairs)]
        response = self.run_async(lambda: self.instances[at].refresh(grant.client.content, pair.refresh))
        self.refreshed(grant, pair, at, response)

    @rule(grant=grants)
    def refresh_twice_at_once(self, grant: Grant) -> None:
        pair, was_revoked = grant.pairs[-1], grant.revoked
        for response in self.at_both(lambda at: at.refresh(grant.client.content, pair.refresh)):
            self.refreshed(grant, pair, 0, response)
        if grant.revoked and not was_revoked:
            grant.known_revoked.clear()  # one of the two knows; which, the model cannot tell

    def refreshed(self, grant: Grant, pair: Pair, at: int, response: Response) -> None:
        now = self.clock.now
        is_sealed = self.opens(pair.key, pair.refresh_until) and grant.client.key in self.ring
        if not is_sealed or grant.revoked or now >= grant.ends_at:
            self.check_refused(response, grant.client)
        elif pair.generation == grant.generation:
            grant.generation, grant.rotated_at = grant.generation + 1, now
            self.keep(grant, response)
        elif pair.generation == grant.generation - 1 and now - (grant.rotated_at or 0) <= REFRESH_GRACE:
            self.keep(grant, response)
        else:
            self.check_refused(response, grant.client)
            self.end(grant, at)

    @rule(grant=grants, at=INSTANCES, by=clients, access=st.booleans())
    def revoke(self, grant: Grant, at: int, by: Registered, access: bool) -> None:
        pair = grant.pairs[-1]
        text, until = (pair.access, pair.access_until) if access else (pair.refresh, pair.refresh_until)
        form = {"client_id": by.content["client_id"], "token": text}
        response = self.run_async(lambda: self.instances[at].post("/revoke", form))
        if by.key not in self.ring:
            self.check_refused(response, by)
        elif not self.opens(pair.key, until):
            assert response.status == 200  # RFC 7009 2.2: none of ours, or no more
        elif by is not grant.client:
            self.check_refused(response, by)
        else:
            assert response.status == 200
            self.end(grant, at)

    def at_both(self, ask: Callable[[Deployment], Awaitable[Response]]) -> list[Response]:
        found: list[Response] = []

        async def one(at: Deployment) -> None:
            found.append(await ask(at))

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                for at in self.instances:
                    nursery.start_soon(one, at)

        self.run_async(both)
        return found

    def keep(self, grant: Grant, response: Response) -> None:
        assert response.status == 200, response.body
        answer, now = read(response), self.clock.now
        tokens = self.instances[0].config.tokens
        pair = Pair(
            answer["access_token"],
            min(now + tokens.access, grant.ends_at),
            answer["refresh_token"],
            min(now + tokens.refresh_idle, grant.ends_at),
            grant.generation,
            self.ring[0],
        )
        # The lineage is one line: whoever refreshes, and wherever, holds the generation that the model counts.
        assert open_refresh(self.instances[0].keys, pair.refresh, now=now).generation == grant.generation
        grant.pairs.append(pair)

    def check_refused(self, response: Response, by: Registered) -> None:
        expected = (400, "invalid_grant") if by.key in self.ring else (401, "invalid_client")
        assert (response.status, read(response)["error"]) == expected

    def end(self, grant: Grant, at: int) -> None:
        grant.revoked = True
        grant.known_revoked.add(at)

    # Operators and time

    @rule(seconds=st.sampled_from([1.3, 1.3, 1.3, 10.7, 10.7, 31.1, 31.1, 61.9, 907.3, 5 * 86400.0, 31 * 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_by(seconds)
        if seconds >= POLLED_AFTER:
            for number, instance in enumerate(self.instances):
                self.run_async(lambda instance=instance: instance.revocations.read(instance.store))  # type: ignore[misc]
                self.informed(number)

    @rule(number=INSTANCES)
    def restart(self, number: int) -> None:
        async def again() -> None:
            await self.stacks[number].aclose()
            self.stacks[number] = AsyncExitStack()
            self.instances[number] = await self.start(number)

        self.run_async(again)
        self.informed(number)

    @rule(really=st.integers(0, 4))
    def rotate_key(self, really: int) -> None:
        """All of a roll-out: every instance knows the new key before any seals with it, and keeps one old key."""
        if really:
            return  # now and then only: the second roll-out ends everything from before the first
        new = max(self.ring) + 1
        for ring in ([self.ring[0], new], [new, self.ring[0]]):
            self.ring = ring
            for instance in self.instances:
                instance.keys.replace(self.secrets())

    @rule(number=INSTANCES)
    def purge(self, number: int) -> None:
        self.run_async(lambda: self.instances[number].store.purge(now=self.clock.now))

    def informed(self, number: int) -> None:
        for grant in self.every:
            if grant.revoked:
                grant.known_revoked.add(number)

    # What always holds

    @invariant()
    def tokens_are_their_owners(self) -> None:
        for grant in self.every:
            for pair in grant.pairs[-3:]:
                for number, instance in enumerate(self.instances):
                    found = authenticated(instance, pair.access)
                    if isinstance(found, Refusal):
                        assert found.status == 401
                        assert grant.revoked or not self.opens(pair.key, pair.access_until)
                    else:
                        assert self.opens(pair.key, pair.access_until)
                        assert number not in grant.known_revoked
                        assert found.principal == grant.person.principal


def authenticated(instance: Deployment, access: str) -> Any:
    try:
        return instance.authenticate(access)
    except Refusal as refusal:
        return refusal


class TwoInstancesOnDisk(TwoInstances):
    """Each instance with a connection of its own to one SQLite file; a restart opens it again."""

    on_disk = True


# Not shrunk: a failure is a run of fifty steps with threads, and would be shrunk for as long as CI lasts.
USUAL = settings(
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
TwoInstances.TestCase.settings = settings(USUAL, max_examples=60)
TwoInstancesOnDisk.TestCase.settings = settings(USUAL, max_examples=20)
TestTwoInstances = pytest.mark.requirement("TK2", "TK7", "TK8", "RS4", "AP7")(TwoInstances.TestCase)
TestTwoInstancesOnDisk = pytest.mark.requirement("TK2", "TK7", "TK8", "RS4", "AP7")(TwoInstancesOnDisk.TestCase)
