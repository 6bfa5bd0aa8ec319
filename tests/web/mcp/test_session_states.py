"""What this process knows of what clients said about their sessions, while the store comes and goes."""

from __future__ import annotations

import pytest
import trio

from aggregator.errors import StoreUnavailable
from aggregator.store.mail import EVERYBODY
from aggregator.store.memory import MemoryStore
from aggregator.store.session_rows import SessionRow, SetLevel, Subscribe
from aggregator.web.mcp.mailbox import LIFETIME, SLOW, Mailbox
from aggregator.web.mcp.session_states import SessionStates


class FaultyStore(MemoryStore):
    away = False

    async def find_session(self, session: str) -> SessionRow | None:
        if self.away:
            raise StoreUnavailable("away")
        return await super().find_session(session)


class Pair:
    """The states of two processes over one store."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.store = FaultyStore(clock=trio.current_time)
        self.one, self.two = self._open(nursery), self._open(nursery)

    def _open(self, nursery: trio.Nursery) -> SessionStates:
        mailbox = Mailbox(self.store, clock=trio.current_time)
        nursery.start_soon(mailbox.run)
        return SessionStates(self.store, mailbox)

    async def say(self, level: str, session: str = "s") -> None:
        assert await self.one.change(session, "alice", SetLevel(level), expires_at=1e9)


async def test_what_is_said_here_counts_at_once_and_there_within_a_second(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    await pair.two.recall("s")
    await pair.say("error")
    assert pair.one.find("s").level == "error"
    await trio.sleep(SLOW * 1.1)
    assert pair.two.find("s").level == "error"


async def test_a_session_that_nobody_asked_about_is_not_looked_up_for_a_mail(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    await pair.say("error")
    await trio.sleep(SLOW * 2)
    assert len(pair.two) == 0
    await pair.two.recall("s")
    assert pair.two.find("s").level == "error"


async def test_with_the_store_away_a_session_stays_unknown_and_is_looked_up_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    await pair.say("error")
    pair.store.away = True
    await pair.two.recall("s")
    assert pair.two.find("s") == SessionRow()
    pair.store.away = False
    await pair.two.recall("s")
    assert pair.two.find("s").level == "error"


async def test_a_change_that_could_not_be_looked_up_counts_when_the_store_is_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    woken: list[float] = []
    with pair.two.watched("s", lambda: woken.append(trio.current_time())):
        await pair.two.recall("s")
        pair.store.away = True
        await pair.one.change("s", "alice", Subscribe("mem://a"), expires_at=1e9)
        await trio.sleep(5 * SLOW)
        assert pair.two.find("s").subscriptions == frozenset()
        pair.store.away = False
        await trio.sleep(SLOW * 1.5)
        assert pair.two.find("s").subscriptions == {"mem://a"}
        assert len(woken) == 1


async def test_mail_that_expired_unread_is_made_up_for(autojump_clock: trio.testing.MockClock) -> None:
    """The process was stopped, or its machine slept."""
    store = FaultyStore(clock=trio.current_time)
    mailbox = Mailbox(store, clock=trio.current_time)
    states = SessionStates(store, mailbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.run)
        await trio.sleep(SLOW * 2)
        await states.recall("s")
        nursery.cancel_scope.cancel()
    await store.change_session("s", "alice", SetLevel("error"), expires_at=1e9)
    await store.post_mail(EVERYBODY, "{}", now=trio.current_time(), expires_at=trio.current_time() + LIFETIME)
    await trio.sleep(LIFETIME + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.run)
        await trio.sleep(SLOW)
        await states.recall("s")
        assert states.find("s").level == "error"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("away", [False, True])
async def test_a_session_that_began_here_is_known_without_a_look(
    away: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    pair.store.away = away
    pair.one.begun("s")
    await pair.one.recall("s")
    assert pair.one.find("s") == SessionRow()
    assert len(pair.one) == 1
