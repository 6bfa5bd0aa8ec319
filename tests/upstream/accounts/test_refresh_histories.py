"""Whatever happens to two instances, their store and an authorization server, in any order, logs nobody out.

Arbitrary sequences of calls, clients that leave, faults, full disks and killed instances, in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from aggregator.errors import ConnectNeeded, StoreUnavailable, UpstreamLost
from aggregator.protocol.brokering import Ended, IssuedTokens, Postponed
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.connections import Connections
from aggregator.upstream.accounts.personal_credentials import PersonalCredentials
from aggregator.upstream.accounts.refreshing import LEASE, REFRESH_DEADLINE

from ...store.samples import ADA
from ..token_server import LIFETIME, FailingStore, TokenServer, Wall, beginning, expired, instance, token_of

WRITES = {
    "take_refresh",
    "renew_connection",
    "postpone_refresh",
    "end_connection",
    "save_connection",
    "forget_connection",
    "want_scope",
}


class Watched(TokenServer):
    """Counts the tokens that came twice: each would end a login at a strict server."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[str] = set()
        self.twice = 0

    async def refresh(self, upstream: Any, *, refresh_token: str, **rest: Any) -> IssuedTokens | Ended | Postponed:
        answer = await super().refresh(upstream, refresh_token=refresh_token, **rest)
        if isinstance(answer, IssuedTokens):
            self.used.add(refresh_token)
        elif isinstance(answer, Ended) and refresh_token in self.used:
            self.twice += 1
        return answer


@dataclass
class Instance:
    connections: Connections
    credentials: PersonalCredentials
    requests: trio.Nursery
    scope: trio.CancelScope


class World:
    """Two instances that can be killed, over one store and one server. `excused`: a rotated token may be lost."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.wall = Wall()
        self.wall()
        self.store = FailingStore(MemoryStore(clock=self.wall))
        self.server = Watched()
        self.living: list[Instance] = []
        self.outcomes: list[str] = []
        self.excused = False
        self.is_connected = True
        self.logins = 0

    async def live(self, task_status: trio.TaskStatus[Any]) -> None:
        with trio.CancelScope() as scope:
            async with (
                instance(self.store, self.server, self.wall) as (connections, credentials),
                trio.open_nursery() as requests,
            ):
                task_status.started(Instance(connections, credentials, requests, scope))
                await trio.sleep_forever()

    async def start(self) -> None:
        await self.store.save_connection(expired())
        for _ in range(2):
            self.living.append(await self.nursery.start(self.live))

    async def call(self, which: int, patience: float = 60.0) -> str:
        with trio.move_on_after(patience):
            try:
                return await token_of(self.living[which].credentials)
            except ConnectNeeded:
                return "asked to log in"
            except (UpstreamLost, StoreUnavailable) as exc:
                return type(exc).__name__
        return "left"

    async def note_call(self, which: int, patience: float) -> None:
        was_connected = self.is_connected
        outcome = await self.call(which, patience)
        if was_connected and self.is_connected:
            self.outcomes.append(outcome)

    async def kill(self, which: int) -> None:
        self.excused = True
        self.living[which].scope.cancel()
        self.living[which] = await self.nursery.start(self.live)

    async def disconnect(self, which: int) -> None:
        self.is_connected = False
        try:
            await self.living[which].connections.disconnect(ADA, "gmail")
        except StoreUnavailable:
            pass

    async def connect(self, which: int) -> None:
        self.logins += 1
        self.server.retired |= {self.server.good, *self.server.used}
        self.server.good = f"refresh-of-login-{self.logins}"
        issued = IssuedTokens(f"access-of-login-{self.logins}", self.server.good, "Bearer", None, LIFETIME)
        try:
            await self.living[which].connections.save(ADA, "gmail", beginning(), issued)
        except StoreUnavailable:
            self.excused = True
        self.is_connected = True


Action = Callable[[World], Any]


def fault(what: Postponed | float | Exception) -> Action:
    def act(world: World) -> None:
        world.server.script.append(what)
        if isinstance(what, float) and what > 1:
            world.excused = True  # it may rotate after we have given up

    return act


def call(which: int, patience: float) -> Action:
    return lambda world: world.living[which].requests.start_soon(world.note_call, which, patience)


def wait(seconds: float) -> Action:
    async def act(world: World) -> None:
        await trio.sleep(seconds)

    return act


def writes_fail(world: World) -> None:
    world.store.away |= WRITES


def store_works(world: World) -> None:
    world.store.away.clear()


ACTIONS: dict[str, Action] = {
    **{f"call {which} for {patience:g} s": call(which, patience) for which in (0, 1) for patience in (0.01, 60.0)},
    **{f"{seconds:g} s pass": wait(seconds) for seconds in (0.05, 1.0, 11.0, LEASE, LIFETIME - 90)},
    "busy": fault(Postponed("it is busy")),
    "busy for a minute": fault(Postponed("it is busy", 60.0)),
    "unreachable": fault(UpstreamLost("no route to host")),
    "slow": fault(0.5),
    "hangs": fault(REFRESH_DEADLINE + 5),
    "the disk is full": writes_fail,
    "there is space": store_works,
    "kill 0": lambda world: world.kill(0),
    "kill 1": lambda world: world.kill(1),
    "disconnect": lambda world: world.disconnect(0),
    "connect": lambda world: world.connect(1),
}
WITHOUT_LOSS = [name for name in ACTIONS if not name.startswith(("kill", "hangs", "disconnect", "connect"))]
FULL_WHILE_ROTATING = ["slow", "call 0 for 60 s", "0.05 s pass", "the disk is full"]


async def play(names: list[str]) -> World:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        await world.start()
        for name in names:
            done = ACTIONS[name](world)
            if done is not None:
                await done
            await trio.lowlevel.checkpoint()
        store_works(world)
        world.server.script.clear()
        await trio.sleep(400)  # longer than any pause between tries
        before = len(world.server.asked)
        first = [await world.call(which) for which in (0, 1)]
        row = await world.store.find_connection(ADA, "gmail")
        assert row is None or row.lease_until is None or row.lease_until <= world.wall()
        assert len(world.server.asked) - before <= 1
        assert [await world.call(which) for which in (0, 1, 0)] == [*first, first[0]]
        assert len(world.server.asked) - before <= 1
        assert first[0] == first[1]
        if world.is_connected and not world.excused:
            assert world.server.twice == 0
            assert "asked to log in" not in world.outcomes
            assert row is not None
            assert first[0] == row.access_token
            assert row.refresh_token == world.server.good
        else:
            assert first[0] in ("", "asked to log in", row and row.access_token)
        nursery.cancel_scope.cancel()
    return world


def run(names: list[str]) -> World:
    return trio.run(play, names, clock=MockClock(autojump_threshold=0))


@pytest.mark.requirement("UP5")
@given(st.lists(st.sampled_from(WITHOUT_LOSS), max_size=25))
@example([*FULL_WHILE_ROTATING, "25 s pass", "25 s pass", "there is space", "call 1 for 60 s"])
@example([*FULL_WHILE_ROTATING, "25 s pass", "call 1 for 60 s", "there is space"])
@settings(max_examples=150, deadline=None)
def test_trouble_that_passes_logs_nobody_out_and_shows_no_token_twice(names: list[str]) -> None:
    world = run(names)
    event(f"{min(len(world.server.asked), 5)} requests at least")


@given(st.lists(st.sampled_from(list(ACTIONS)), max_size=25))
@settings(max_examples=150, deadline=None)
def test_after_anything_the_connection_works_or_asks_and_both_instances_agree(names: list[str]) -> None:
    run(names)
