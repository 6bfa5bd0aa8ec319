"""Mail between processes, and what clients said about their sessions: what every store promises of both."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from aggregator.errors import Unsealable
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Store
from aggregator.store.columns import decrypt_mail, decrypt_session, encrypt_mail, encrypt_session
from aggregator.store.mail import AT_A_TIME, EVERYBODY
from aggregator.store.session_rows import (
    MAX_ROWS,
    MAX_SUBSCRIBED,
    MAX_SUBSCRIPTIONS,
    End,
    SessionChange,
    SessionRow,
    SetLevel,
    Subscribe,
    Unsubscribe,
    changed,
)
from aggregator.store.sqlite import open_sqlite_store

from .samples import ADA, BOB, NOW, keys


async def post(store: Store, to: str, body: str, *, now: float = NOW) -> None:
    await store.post_mail(to, body, now=now, expires_at=now + 60)


async def bodies(store: Store, seq: int, *to: str, now: float = NOW) -> list[str | None]:
    return [mail.body for mail in await store.mail_since(seq, to, now=now)]


async def change(store: Store, change: SessionChange, session: str = "s1", owner: str = ADA.key) -> SessionRow | None:
    return await store.change_session(session, owner, change, expires_at=NOW + 3600)


async def test_mail_is_read_by_its_addressee_in_the_order_it_came(store: Store) -> None:
    for to, body in (("one", "a"), ("two", "b"), ("one", "c"), (EVERYBODY, "d")):
        await post(store, to, body)
    assert await bodies(store, 0, "one", EVERYBODY) == ["a", "c", "d"]
    assert await bodies(store, 0, "two", EVERYBODY) == ["b", "d"]
    assert await bodies(store, 0, "three") == []


async def test_mail_that_was_seen_is_not_shown_again(store: Store) -> None:
    await post(store, "one", "a")
    (first,) = await store.mail_since(0, ["one"], now=NOW)
    assert await bodies(store, first.seq, "one") == []
    await post(store, "one", "b")
    assert await bodies(store, first.seq, "one") == ["b"]


async def test_a_number_is_not_given_again_when_all_mail_has_gone(store: Store) -> None:
    await post(store, "one", "a")
    (first,) = await store.mail_since(0, ["one"], now=NOW)
    assert await store.purge(now=NOW + 60) == 1
    await post(store, "one", "b", now=NOW + 61)
    (second,) = await store.mail_since(0, ["one"], now=NOW + 61)
    assert second.seq > first.seq


async def test_mail_that_has_expired_is_not_read_and_goes_with_the_next(store: Store) -> None:
    await post(store, "one", "a")
    assert await bodies(store, 0, "one", now=NOW + 59) == ["a"]
    assert await bodies(store, 0, "one", now=NOW + 60) == []
    await post(store, "one", "b", now=NOW + 60)
    assert await bodies(store, 0, "one", now=NOW + 59) == ["b"]


async def test_one_look_brings_so_many_and_the_next_the_rest(store: Store) -> None:
    for number in range(AT_A_TIME + 5):
        await post(store, "one", str(number))
    first = await store.mail_since(0, ["one"], now=NOW)
    rest = await store.mail_since(first[-1].seq, ["one"], now=NOW)
    assert [mail.body for mail in (*first, *rest)] == [str(number) for number in range(AT_A_TIME + 5)]
    assert len(first) == AT_A_TIME


async def test_what_is_said_of_a_session_adds_up(store: Store) -> None:
    assert await store.find_session("s1") is None
    assert await change(store, SetLevel("error")) == SessionRow("error")
    assert await change(store, Subscribe("x://a")) == SessionRow("error", frozenset({"x://a"}))
    await change(store, Subscribe("x://b"))
    assert await change(store, Unsubscribe("x://a")) == SessionRow("error", frozenset({"x://b"}))
    assert await store.find_session("s1") == SessionRow("error", frozenset({"x://b"}))
    assert await store.find_session("s2") is None


async def test_an_ended_session_stays_ended(store: Store) -> None:
    await change(store, Subscribe("x://a"))
    assert await change(store, End()) == SessionRow(is_over=True)
    await change(store, SetLevel("info"))
    assert await store.find_session("s1") == SessionRow("info", is_over=True)


async def test_subscribing_on_two_processes_at_once_loses_nothing(store: Store) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(change, store, Subscribe(f"x://{number}"))
    found = await store.find_session("s1")
    assert found is not None
    assert found.subscriptions == {f"x://{number}" for number in range(20)}


async def test_a_change_without_room_changes_nothing(store: Store) -> None:
    await change(store, Subscribe("x://a"))
    assert await change(store, Subscribe("y" * MAX_SUBSCRIBED)) is None
    assert await store.find_session("s1") == SessionRow(None, frozenset({"x://a"}))


async def test_a_session_row_goes_with_its_session(store: Store) -> None:
    await change(store, SetLevel("error"))
    assert await store.purge(now=NOW + 3599) == 0
    assert await store.purge(now=NOW + 3600) == 1
    assert await store.find_session("s1") is None


async def test_a_person_has_so_many_rows_and_others_do_not_suffer(store: Store) -> None:
    await change(store, SetLevel("error"), "bobs", BOB.key)
    for number in range(MAX_ROWS + 3):
        await store.change_session(f"s{number:04}", ADA.key, SetLevel("info"), expires_at=NOW + 1000 + number)
    assert [await store.find_session(f"s{number:04}") is None for number in range(4)] == [True, True, True, False]
    assert await store.find_session("bobs") is not None


def test_a_session_has_so_many_subscriptions() -> None:
    full = SessionRow(None, frozenset(f"x://{number}" for number in range(MAX_SUBSCRIPTIONS)))
    assert changed(full, Subscribe("x://0")) == full
    assert changed(full, Subscribe("x://new")) is None
    assert changed(full, Unsubscribe("x://unknown")) == full


async def test_neither_mail_nor_uris_can_be_read_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with open_sqlite_store(str(path), keys()) as store:
        await post(store, "one", "my password")
        await change(store, Subscribe("mail://private"))
        with closing(sqlite3.connect(path)) as db:
            rows = [*db.execute("SELECT * FROM mail"), *db.execute("SELECT * FROM client_sessions")]
    assert len(rows) == 2
    assert b"password" not in repr(rows).encode()
    assert b"private" not in repr(rows).encode()


async def test_mail_of_another_key_is_passed_by_and_such_a_session_has_said_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    async with open_sqlite_store(path, KeyRing([b"o" * 32])) as store:
        await post(store, "one", "theirs")
        await change(store, SetLevel("error"))
    async with open_sqlite_store(path, keys()) as store:
        await post(store, "one", "ours")
        assert await bodies(store, 0, "one") == [None, "ours"]
        assert await store.find_session("s1") is None
        assert await change(store, SetLevel("info")) == SessionRow("info")


def test_mail_opens_under_its_own_address_number_and_end_only() -> None:
    sealed = encrypt_mail(keys(), "id", "one", NOW, "text")
    assert decrypt_mail(keys(), "id", "one", NOW, sealed) == "text"
    for id, to, end in (("other", "one", NOW), ("id", "two", NOW), ("id", "one", NOW + 60)):
        with pytest.raises(Unsealable):
            decrypt_mail(keys(), id, to, end, sealed)


def test_what_was_said_of_one_session_does_not_open_for_another() -> None:
    sealed = encrypt_session(keys(), "s1", "text")
    assert decrypt_session(keys(), "s1", sealed) == "text"
    with pytest.raises(Unsealable):
        decrypt_session(keys(), "s2", sealed)
