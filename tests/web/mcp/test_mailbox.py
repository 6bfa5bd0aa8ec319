"""Mail between two processes over one store: who reads what, when, and how much may be written."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import trio

from aggregator.errors import StoreUnavailable
from aggregator.protocol.jsonrpc import Json
from aggregator.store.mail import EVERYBODY, Mail
from aggregator.store.memory import MemoryStore
from aggregator.web.mcp.mailbox import FAST, LIFETIME, MAX_BODY, MAX_BYTES, MAX_MAILS, SLOW, Mailbox


class FaultyStore(MemoryStore):
    """Counts the looks; fails while it is `away`."""

    looks = 0
    away = False

    async def mail_since(self, seq: int, to: Collection[str], *, now: float) -> tuple[Mail, ...]:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("away")
        return await super().mail_since(seq, to, now=now)


class Office:
    """Two mailboxes over one store; `heard` is what the second one was told."""

    def __init__(self) -> None:
        self.store = FaultyStore(clock=trio.current_time)
        self.one = Mailbox(self.store, clock=trio.current_time)
        self.two = Mailbox(self.store, clock=trio.current_time)
        self.heard: list[str] = []
        self.missed = 0
        self.two.hear("news", self._hear)
        self.two.when_missed(self._miss)

    async def _hear(self, content: Json) -> None:
        self.heard.append(content["text"])

    async def _miss(self) -> None:
        self.missed += 1

    async def post(self, to: str, text: str, owner: str = "alice", kind: str = "news") -> bool:
        return await self.one.post(to, kind, owner, {"text": text})


@pytest.fixture
async def office() -> Office:
    return Office()


async def test_mail_reaches_its_addressee_and_everybody_once_in_order(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(office.two.run)
    await office.post(office.two.instance, "a")
    await office.post("somebody-else", "b")
    await office.post(EVERYBODY, "c")
    await trio.sleep(SLOW * 3)
    assert office.heard == ["a", "c"]


async def test_ones_own_mail_is_heard_only_by_who_asked_for_it(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(office.two.run)
    await office.two.post(EVERYBODY, "news", "alice", {"text": "a"})
    await trio.sleep(SLOW * 2)
    assert office.heard == []
    office.two.hear("news", office._hear, own=True)
    await office.two.post(EVERYBODY, "news", "alice", {"text": "b"})
    await trio.sleep(SLOW * 2)
    assert office.heard == ["b"]


async def test_looks_are_rare_until_somebody_waits(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(office.two.run)
    await trio.sleep(10 * SLOW)
    assert office.store.looks == pytest.approx(10, abs=1)
    looks = office.store.looks
    with office.two.waiting():
        await office.post(office.two.instance, "a")
        await trio.sleep(FAST * 1.5)
        assert office.heard == ["a"]
        await trio.sleep(10 * FAST)
        assert office.store.looks - looks > 10
    looks = office.store.looks
    await trio.sleep(10 * SLOW)
    assert office.store.looks - looks < 13


async def test_a_store_that_is_away_is_asked_again_and_told_once(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    nursery.start_soon(office.two.run)
    await trio.sleep(SLOW * 1.5)
    office.store.away = True
    await office.post(office.two.instance, "a")
    await trio.sleep(10 * SLOW)
    office.store.away = False
    await trio.sleep(SLOW * 1.5)
    assert office.heard == ["a"]
    assert office.missed == 1, "what was read before may not have been followed up"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_after_a_long_silence_everything_is_in_doubt(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(office.two.run)
    await trio.sleep(SLOW * 1.5)
    office.store.away = True
    await trio.sleep(LIFETIME)
    office.store.away = False
    await trio.sleep(SLOW * 3)
    assert office.missed == 1


async def test_a_mail_waits_for_so_long(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    await office.post(office.two.instance, "a")
    await trio.sleep(LIFETIME)
    nursery.start_soon(office.two.run)
    await trio.sleep(SLOW)
    assert office.heard == []


async def test_a_person_writes_so_many_and_others_do_not_suffer(
    office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    for number in range(MAX_MAILS):
        assert await office.post("two", str(number))
    assert not await office.post("two", "one too many")
    assert await office.post("two", "bob's", "bob")
    await trio.sleep(LIFETIME + 1)
    assert await office.post("two", "again")


async def test_who_wrote_long_ago_is_forgotten(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(office.one.run)
    for number in range(50):
        await office.post("two", "x", f"person-{number}")
    await trio.sleep(LIFETIME + 2 * SLOW)
    assert not office.one._posted


async def test_a_person_writes_so_much(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    assert not await office.post("two", "x" * MAX_BODY)
    big = "x" * (MAX_BODY - 1000)
    sent = [await office.post("two", big) for _ in range(MAX_BYTES // len(big) + 1)]
    assert sent == [True] * (MAX_BYTES // len(big)) + [False]


async def test_mail_of_another_version_is_passed_by(
    office: Office, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    nursery.start_soon(office.two.run)
    await office.one.post(EVERYBODY, "news", "alice", {"words": "?"})
    await office.one.post(EVERYBODY, "unknown", "alice", {})
    await office.store.post_mail(EVERYBODY, "[]", now=0, expires_at=trio.current_time() + LIFETIME)
    await office.post(EVERYBODY, "a")
    await trio.sleep(SLOW * 2)
    assert office.heard == ["a"]
    assert len(caplog.records) == 2
