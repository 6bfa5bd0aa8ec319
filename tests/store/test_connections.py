"""What every store promises of people's accounts at upstreams, and of our registrations, for each of them."""

from __future__ import annotations

from collections import Counter

import pytest

from aggregator.store import UNUSED_FOR, Connection, Store

from .samples import ADA, BOB, NOW, connection, registration
from .test_contract import gather

UNTIL = NOW + 25


async def take(store: Store, held: Connection, *, owner: str = "me", now: float = NOW) -> Connection | None:
    return await store.take_refresh(held, owner=owner, now=now, until=now + 25)


async def renew(store: Store, held: Connection, name: str = "1", **changes: str | None) -> bool:
    return await store.renew_connection(
        held,
        access_token=f"access-{name}",
        refresh_token=changes.get("refresh_token", f"refresh-{name}"),
        token_type="bearer",
        scope=changes.get("scope", "mail.read mail.send"),
        issued_at=NOW + 9,
        expires_at=NOW + 7200,
    )


async def test_a_connection_is_found_as_it_was_saved_by_its_person_and_upstream_only(store: Store) -> None:
    await store.save_connection(connection())
    assert await store.find_connection(ADA, "gmail") == connection()
    assert await store.find_connection(ADA, "calendar") is None
    assert await store.find_connection(BOB, "gmail") is None


async def test_saving_replaces_all_of_it_and_what_is_optional_may_lack(store: Store) -> None:
    await store.save_connection(connection())
    await take(store, connection())
    bare = Connection(ADA, "gmail", "c2", "new", None)
    await store.save_connection(bare)
    assert await store.find_connection(ADA, "gmail") == bare


async def test_every_field_is_kept(store: Store) -> None:
    full = connection(
        token_type="DPoP",
        generation=7,
        state="connected",
        reason="busy",
        wanted_scope="mail.send",
        failures=3,
        next_try_at=NOW + 30,
        lease_owner="me",
        lease_until=UNTIL,
        used_at=NOW - 5,
    )
    await store.save_connection(full)
    assert await store.find_connection(ADA, "gmail") == full


async def test_all_of_a_persons_connections_come_at_once_by_name(store: Store) -> None:
    for upstream in ("gmail", "calendar", "drive"):
        await store.save_connection(connection(upstream=upstream))
    await store.save_connection(connection(principal=BOB))
    assert [found.upstream for found in await store.connections_of(ADA)] == ["calendar", "drive", "gmail"]
    assert await store.connections_of(BOB) == (connection(principal=BOB),)


async def test_forgetting_gives_back_what_was_there_once(store: Store) -> None:
    await store.save_connection(connection())
    await store.save_connection(connection(principal=BOB))
    assert await store.forget_connection(ADA, "gmail") == connection()
    assert await store.forget_connection(ADA, "gmail") is None
    assert await store.find_connection(ADA, "gmail") is None
    assert await store.find_connection(BOB, "gmail") is not None


async def test_a_connection_that_nothing_was_asked_with_for_90_days_is_dropped(store: Store) -> None:
    for upstream, used_at in (("gmail", NOW), ("drive", NOW - 1), ("old", None)):
        await store.save_connection(connection(upstream=upstream, used_at=used_at))
    assert await store.purge(now=NOW) == 0
    assert await store.purge(now=NOW - 1 + UNUSED_FOR) == 1
    assert [found.upstream for found in await store.connections_of(ADA)] == ["gmail", "old"]
    await store.note_use(connection(), now=NOW + 86400)
    await store.note_use(connection(upstream="old", id="another"), now=NOW + 86400)
    assert await store.purge(now=NOW + UNUSED_FOR) == 1
    assert await store.connections_of(ADA) == (connection(used_at=NOW + 86400),)


async def test_a_connections_text_hides_its_secrets() -> None:
    for text in (repr(connection()), repr(registration())):
        assert "-of-ada" not in text
        assert "our-secret" not in text


# Refreshing: a lease, and compare-and-swap


async def test_of_many_who_would_refresh_one_may(store: Store) -> None:
    await store.save_connection(connection())
    answers = await gather(20, lambda number: take(store, connection(), owner=f"process {number}"))
    (taken,) = [answer for answer in answers if answer is not None]
    assert taken == connection(lease_owner=taken.lease_owner, lease_until=UNTIL)
    assert await store.find_connection(ADA, "gmail") == taken


async def test_a_lease_ends_and_its_owner_may_take_it_again(store: Store) -> None:
    await store.save_connection(connection())
    assert await take(store, connection())
    assert await take(store, connection())
    assert await take(store, connection(), owner="other", now=UNTIL - 0.001) is None
    assert await take(store, connection(), owner="other", now=UNTIL) is not None
    assert await take(store, connection(), now=UNTIL) is None


@pytest.mark.parametrize(
    "stored",
    [
        None,
        connection(id="c2"),
        connection(generation=1),
        connection(next_try_at=NOW + 1),
        connection(state="needs_login", access_token=None, refresh_token=None),
    ],
    ids=["gone", "connected anew", "refreshed", "postponed", "ended"],
)
async def test_what_has_changed_meanwhile_is_not_refreshed(store: Store, stored: Connection | None) -> None:
    if stored is not None:
        await store.save_connection(stored)
    assert await take(store, connection()) is None
    assert await store.find_connection(ADA, "gmail") == stored


async def test_what_a_refresh_gave_takes_the_place_of_what_it_was_given_for(store: Store) -> None:
    await store.save_connection(connection(failures=2, reason="busy", next_try_at=NOW, wanted_scope="mail.send"))
    taken = await take(store, connection())
    assert taken is not None
    assert await renew(store, taken)
    expected = connection(
        access_token="access-1",
        refresh_token="refresh-1",
        token_type="bearer",
        scope="mail.read mail.send",
        issued_at=NOW + 9,
        expires_at=NOW + 7200,
        generation=1,
        wanted_scope="mail.send",
    )
    assert await store.find_connection(ADA, "gmail") == expected
    assert not await renew(store, taken, "from a slow process")
    assert await store.find_connection(ADA, "gmail") == expected


async def test_a_refresh_token_and_a_scope_that_are_not_given_anew_stay(store: Store) -> None:
    await store.save_connection(connection())
    assert await renew(store, connection(), refresh_token=None, scope=None)
    found = await store.find_connection(ADA, "gmail")
    assert found is not None
    assert (found.refresh_token, found.scope, found.access_token) == ("refresh-of-ada", "mail.read", "access-1")


async def test_a_postponed_refresh_is_counted_and_gives_the_lease_back(store: Store) -> None:
    await store.save_connection(connection())
    taken = await take(store, connection())
    assert taken is not None
    assert await store.postpone_refresh(taken, reason="busy", next_try_at=NOW + 5)
    assert not await store.postpone_refresh(taken, reason="from a slow process", next_try_at=NOW + 6)
    again = await take(store, connection(), now=NOW + 5)
    assert again is not None
    assert await store.postpone_refresh(again, reason="still busy", next_try_at=NOW + 9)
    assert await store.find_connection(ADA, "gmail") == connection(reason="still busy", failures=2, next_try_at=NOW + 9)
    assert await take(store, connection(), owner="other", now=NOW + 8) is None
    assert await take(store, connection(), owner="other", now=NOW + 9) is not None


async def test_an_ended_connection_has_no_tokens_and_ends_once(store: Store) -> None:
    await store.save_connection(connection(failures=1, next_try_at=NOW + 5, wanted_scope="mail.send"))
    taken = await take(store, connection(), now=NOW + 5)
    assert taken is not None
    assert await store.end_connection(taken, reason="withdrawn")
    ended = connection(
        state="needs_login", access_token=None, refresh_token=None, reason="withdrawn", wanted_scope="mail.send"
    )
    assert await store.find_connection(ADA, "gmail") == ended
    assert not await store.end_connection(connection(), reason="again")
    assert not await renew(store, connection())
    assert not await store.postpone_refresh(connection(), reason="x", next_try_at=NOW)


async def test_whoever_lost_the_lease_ends_and_postpones_nothing_but_what_it_was_given_counts(store: Store) -> None:
    """The one who has it now may have rotated the token in the meantime: then the answer was to an old one."""
    await store.save_connection(connection())
    slow = await take(store, connection(), owner="slow")
    assert slow is not None
    quick = await take(store, connection(), owner="quick", now=UNTIL)
    for held in (slow, connection()):
        assert not await store.end_connection(held, reason="x")
        assert not await store.postpone_refresh(held, reason="x", next_try_at=NOW)
    assert await store.find_connection(ADA, "gmail") == quick
    assert await renew(store, slow)


async def test_a_verdict_on_another_generation_or_connection_changes_nothing(store: Store) -> None:
    await store.save_connection(connection(generation=1))
    for held in (connection(), connection(id="c2", generation=1), connection(principal=BOB, generation=1)):
        assert not await store.end_connection(held, reason="x")
        assert not await store.postpone_refresh(held, reason="x", next_try_at=NOW)
        assert not await renew(store, held)
    assert await store.find_connection(ADA, "gmail") == connection(generation=1)


async def test_a_wanted_scope_is_noted_with_its_connection_whatever_its_generation_and_nothing_ends(
    store: Store,
) -> None:
    await store.save_connection(connection(generation=3))
    assert await store.want_scope(connection(), "mail.read mail.send")
    assert await store.find_connection(ADA, "gmail") == connection(generation=3, wanted_scope="mail.read mail.send")
    assert not await store.want_scope(connection(id="c2"), "everything")
    assert not await store.want_scope(connection(principal=BOB), "everything")


async def test_of_many_refreshes_at_once_one_is_kept(store: Store) -> None:
    await store.save_connection(connection())
    answers = await gather(20, lambda number: renew(store, connection(), str(number)))
    assert Counter(answers) == {True: 1, False: 19}


# Our registrations


@pytest.mark.requirement("UP5")
async def test_a_registration_is_found_for_its_upstream_and_issuer_only(store: Store) -> None:
    await store.save_registration(registration())
    await store.save_registration(registration(issuer="https://other.example", client_id="id-2", client_secret=None))
    assert await store.find_registration("gmail", "https://as.example") == registration()
    assert await store.find_registration("gmail", "https://as.example/") is None
    assert await store.find_registration("calendar", "https://as.example") is None
    other = await store.find_registration("gmail", "https://other.example")
    assert other is not None
    assert (other.client_id, other.client_secret) == ("id-2", None)


async def test_a_registration_made_anew_replaces_the_old_one_and_is_not_forgotten_for_it(store: Store) -> None:
    await store.save_registration(registration())
    newer = registration(client_id="id-2", scope=None, expires_at=None)
    await store.save_registration(newer)
    assert not await store.forget_registration("gmail", "https://as.example", "our-id")
    assert await store.find_registration("gmail", "https://as.example") == newer
    assert await store.forget_registration("gmail", "https://as.example", "id-2")
    assert not await store.forget_registration("gmail", "https://as.example", "id-2")
    assert await store.find_registration("gmail", "https://as.example") is None
