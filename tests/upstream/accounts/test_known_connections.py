"""What is known of a person is read once for all who ask, and never older than what this process did."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from aggregator.store import Connection
from aggregator.store.memory import MemoryStore
from aggregator.upstream.accounts.known_connections import BELIEVED, KnownConnections

from ...store.samples import ADA, BOB, NOW, connection


class Slow(MemoryStore):
    """A store whose reads begin now and answer in a second."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOW)
        self.reads = 0

    async def connections_of(self, principal: object) -> tuple[Connection, ...]:
        self.reads += 1
        found = await super().connections_of(principal)  # type: ignore[arg-type]
        await trio.sleep(1)
        return found


def made(stored: Connection) -> str | None:
    return stored.access_token


async def test_rows_are_believed_for_a_moment(autojump_clock: MockClock) -> None:
    store = Slow()
    known = KnownConnections(store, made)
    assert known.at_hand(ADA) is None
    await store.save_connection(connection())
    assert await known.look_up(ADA) == {"gmail": "access-of-ada"}
    assert await known.look_up(ADA) == known.at_hand(ADA)
    assert await known.look_up(BOB) == {}
    assert store.reads == 2
    await trio.sleep(BELIEVED)
    assert known.at_hand(ADA) is None
    assert repr(known) == "<KnownConnections of 2 people>"


async def test_those_who_ask_while_one_reads_share_the_next_read(autojump_clock: MockClock) -> None:
    store = Slow()
    known = KnownConnections(store, made)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known.read, ADA)
        await trio.sleep(0.5)
        await store.save_connection(connection())  # another process: the read under way does not see it
        for _ in range(20):
            nursery.start_soon(known.read, ADA)
    assert known.at_hand(ADA) == {"gmail": "access-of-ada"}
    assert store.reads == 2


async def test_a_read_that_began_before_a_change_of_ours_does_not_hide_it(autojump_clock: MockClock) -> None:
    store = Slow()
    known = KnownConnections(store, made)
    answers = []

    async def ask() -> None:
        answers.append(await known.read(ADA))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        await store.save_connection(connection())
        known.forget(ADA)
    assert answers == [{"gmail": "access-of-ada"}]
    assert known.at_hand(ADA) == {"gmail": "access-of-ada"}


async def test_a_reader_that_is_cancelled_leaves_the_next_one_free(autojump_clock: MockClock) -> None:
    known = KnownConnections(Slow(), made)
    with trio.move_on_after(0.5):
        await known.read(ADA)
    assert await known.read(ADA) == {}


async def test_people_are_forgotten_when_they_are_too_many(autojump_clock: MockClock) -> None:
    known = KnownConnections(Slow(), made, max_people=1)
    await known.read(ADA)
    await known.read(BOB)
    assert known.at_hand(ADA) is None
    assert known.at_hand(BOB) == {}
