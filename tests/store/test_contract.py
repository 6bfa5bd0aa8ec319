"""What every store promises (aggregator/store/__init__.py), for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from aggregator.errors import StoreUnavailable
from aggregator.store import REFRESH_GRACE, Gone, LoginToken, OldRow, Redeemed, Replayed, Rotated, Store
from aggregator.store.mail import MailStore
from aggregator.store.session_rows import SessionStore, SetLevel

from .conftest import Clock
from .samples import ADA, BOB, DAY, NOW, connection, grant, registration

UNTIL = NOW + 30 * DAY


async def gather(count: int, ask: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """The answers of `count` calls that run at once."""
    answers: list[Any] = []

    async def one(number: int) -> None:
        answers.append(await ask(number))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return answers


async def redeem(store: Store, code: str = "code-1", grant_id: str = "g1", now: float = NOW) -> object:
    return await store.redeem(code, grant_id, now=now, expires_at=NOW + 60, grant_until=UNTIL)


# One-time ids


async def test_a_ticket_is_consumed_once(store: Store) -> None:
    assert await store.consume("t", expires_at=NOW + 60)
    assert not await store.consume("t", expires_at=NOW + 60)
    assert await store.consume("u", expires_at=NOW + 60)


async def test_whether_a_ticket_was_consumed_can_be_asked_without_consuming_it(store: Store) -> None:
    assert not await store.is_consumed("t")
    assert not await store.is_consumed("t")
    await store.consume("t", expires_at=NOW + 60)
    assert await store.is_consumed("t")
    assert not await store.is_consumed("u")


async def test_a_ticket_consumed_by_many_at_once_is_consumed_by_one(store: Store) -> None:
    answers = await gather(100, lambda _: store.consume("t", expires_at=NOW + 60))
    assert Counter(answers) == {True: 1, False: 99}


async def test_a_ticket_stays_spent_until_it_is_purged_after_its_end(store: Store) -> None:
    await store.consume("t", expires_at=NOW + 60)
    assert await store.purge(now=NOW + 59) == 0
    assert not await store.consume("t", expires_at=NOW + 60)
    assert await store.purge(now=NOW + 60) == 1
    assert await store.consume("t", expires_at=NOW + 120)


# Codes


@pytest.mark.requirement("TK2")
async def test_redeeming_a_code_makes_its_grant_live(store: Store) -> None:
    await store.add_grant(grant())
    expected = grant(expires_at=UNTIL, last_used_at=NOW)
    assert await redeem(store) == Redeemed(expected)
    assert await store.find_grant("g1") == expected


@pytest.mark.requirement("TK2")
async def test_a_second_redemption_revokes_the_grant(store: Store) -> None:
    await store.add_grant(grant())
    await redeem(store)
    assert await redeem(store, now=NOW + 5) == Replayed("g1")
    found = await store.find_grant("g1")
    assert found is not None
    assert found.revoked_at == NOW + 5
    assert await store.rotate("g1", 0, now=NOW + 6) == Gone()


@pytest.mark.requirement("TK2")
async def test_of_200_redemptions_at_once_one_succeeds_and_the_grant_is_revoked(store: Store) -> None:
    await store.add_grant(grant())
    answers = await gather(200, lambda _: redeem(store))
    assert Counter(type(answer) for answer in answers) == {Redeemed: 1, Replayed: 199}
    assert await store.revoked_since(NOW) == {"g1"}


async def test_the_code_of_a_grant_that_ended_was_revoked_or_never_was_gets_nothing(store: Store) -> None:
    await store.add_grant(grant("ended", expires_at=NOW))
    await store.add_grant(grant("revoked"))
    await store.revoke_grant("revoked", now=NOW)
    for number, grant_id in enumerate(("ended", "revoked", "unknown")):
        assert await redeem(store, f"code-{number}", grant_id) == Gone()


# Refresh


@pytest.mark.requirement("TK7")
async def test_a_refresh_exchanges_a_generation_for_the_next(store: Store) -> None:
    await store.add_grant(grant(expires_at=UNTIL))
    expected = grant(expires_at=UNTIL, generation=1, rotated_at=NOW + 5, last_used_at=NOW + 5)
    assert await store.rotate("g1", 0, now=NOW + 5) == Rotated(expected)
    assert await store.find_grant("g1") == expected
    assert await store.rotate("g1", 1, now=NOW + 9) == Rotated(
        replace(expected, generation=2, rotated_at=NOW + 9, last_used_at=NOW + 9)
    )


@pytest.mark.requirement("TK7")
async def test_of_50_refreshes_at_once_one_swaps_and_the_others_get_the_same_generation(store: Store) -> None:
    await store.add_grant(grant(expires_at=UNTIL))
    answers = await gather(50, lambda _: store.rotate("g1", 0, now=NOW))
    assert Counter((answer.again, answer.grant.generation) for answer in answers) == {(False, 1): 1, (True, 1): 49}


@pytest.mark.requirement("TK7")
async def test_asking_again_within_the_grace_swaps_nothing_and_does_not_prolong_it(store: Store) -> None:
    await store.add_grant(grant(expires_at=UNTIL))
    await store.rotate("g1", 0, now=NOW)
    for _ in range(3):
        again = await store.rotate("g1", 0, now=NOW + REFRESH_GRACE)
        assert isinstance(again, Rotated)
        assert again.again
        assert again.grant.generation == 1
    assert await store.rotate("g1", 0, now=NOW + REFRESH_GRACE + 0.001) == Replayed("g1")


@pytest.mark.requirement("TK7")
@pytest.mark.parametrize("generation", [-1, 0, 3, 7])
async def test_any_other_generation_is_a_replay_and_revokes(store: Store, generation: int) -> None:
    await store.add_grant(grant(expires_at=UNTIL, generation=2, rotated_at=NOW))
    assert await store.rotate("g1", generation, now=NOW + 1) == Replayed("g1")
    assert await store.rotate("g1", 2, now=NOW + 2) == Gone()
    assert await store.revoked_since(NOW) == {"g1"}


@pytest.mark.requirement("TK8")
async def test_a_grant_that_is_revoked_ended_or_unknown_is_not_refreshed(store: Store) -> None:
    await store.add_grant(grant("revoked", expires_at=UNTIL))
    await store.add_grant(grant("ended", expires_at=NOW))
    assert await store.revoke_grant("revoked", now=NOW)
    for grant_id in ("revoked", "ended", "unknown"):
        assert await store.rotate(grant_id, 0, now=NOW) == Gone()


# Grants


async def test_an_id_given_twice_is_refused_and_the_first_grant_stays(store: Store) -> None:
    await store.add_grant(grant())
    with pytest.raises(StoreUnavailable):
        await store.add_grant(grant(label="someone else"))
    assert await store.find_grant("g1") == grant()


async def test_an_unknown_grant_is_none(store: Store) -> None:
    assert await store.find_grant("unknown") is None


async def test_a_persons_grants_are_the_live_ones_newest_first(store: Store, clock: Clock) -> None:
    await store.add_grant(grant("old", created_at=NOW - 9))
    await store.add_grant(grant("new", created_at=NOW - 1))
    await store.add_grant(grant("long", created_at=NOW - 5, expires_at=UNTIL))
    await store.add_grant(grant("ended", expires_at=NOW))
    await store.add_grant(grant("revoked"))
    await store.add_grant(grant("of bob", principal=BOB))
    await store.revoke_grant("revoked", now=NOW)
    assert [found.id for found in await store.grants_of(ADA)] == ["new", "long", "old"]
    clock.now = NOW + 60
    assert [found.id for found in await store.grants_of(ADA)] == ["long"]


async def test_revoking_twice_is_harmless_and_keeps_the_first_time(store: Store) -> None:
    await store.add_grant(grant())
    assert await store.revoke_grant("g1", now=NOW + 1)
    assert not await store.revoke_grant("g1", now=NOW + 2)
    assert not await store.revoke_grant("unknown", now=NOW)
    found = await store.find_grant("g1")
    assert found is not None
    assert found.revoked_at == NOW + 1


async def test_revocations_are_listed_from_a_moment_on(store: Store) -> None:
    for number in range(3):
        await store.add_grant(grant(f"g{number}"))
        await store.revoke_grant(f"g{number}", now=NOW + number)
    await store.add_grant(grant("live"))
    assert await store.revoked_since(NOW + 1) == {"g1", "g2"}


async def test_grants_are_purged_a_day_after_their_end(store: Store) -> None:
    await store.add_grant(grant("ended"))
    await store.add_grant(grant("revoked", expires_at=UNTIL))
    await store.add_grant(grant("live", expires_at=UNTIL))
    await store.revoke_grant("revoked", now=NOW)
    assert await store.purge(now=NOW + DAY) == 0
    assert await store.purge(now=NOW + DAY + 1) == 1
    assert await store.purge(now=NOW + DAY + 61) == 1
    assert await store.find_grant("live") is not None
    assert await store.find_grant("ended") is None
    assert await store.find_grant("revoked") is None


# Signing out


@pytest.mark.parametrize(
    "name", ["ada", "ada@example.com", "ADA@Example.com", "client-1", "A client", "a CLIENT"], ids=str
)
async def test_a_name_finds_the_live_grants_of_the_person_or_client_it_means(store: Store, name: str) -> None:
    await store.add_grant(grant("older", created_at=NOW - 5))
    await store.add_grant(grant("newer"))
    await store.add_grant(grant("ended", expires_at=NOW))
    await store.add_grant(grant("bob's", principal=BOB, label="bob@example.com", client="c2", client_name="Other"))
    assert [found.id for found in await store.find_grants(name)] == ["newer", "older"]


@pytest.mark.parametrize("name", ["", "ADA", "Client-1", "ad", "%", "https://idp.example"])
async def test_a_name_means_nobody_unless_it_is_whole_and_subjects_and_ids_exact(store: Store, name: str) -> None:
    await store.add_grant(grant())
    assert await store.find_grants(name) == ()


@pytest.mark.requirement("TK8")
async def test_signing_a_person_out_ends_what_they_have_and_nothing_of_others(store: Store) -> None:
    for grant_id in ("g1", "g2"):
        await store.add_grant(grant(grant_id, expires_at=UNTIL))
    await store.add_grant(grant("code only"))
    await store.add_grant(grant("ended", expires_at=NOW))
    await store.add_grant(grant("bob's", principal=BOB, expires_at=UNTIL))
    await store.keep_login_token("g1", "secret", next_check_at=NOW, kept_until=NOW)
    ended = await store.sign_out_person(ADA, now=NOW + 1)
    assert sorted(found.id for found in ended) == ["code only", "g1", "g2"]
    assert await store.grants_of(ADA) == ()
    assert await store.revoked_since(NOW) == {"g1", "g2", "code only"}
    assert await redeem(store, grant_id="code only", now=NOW + 2) == Gone()
    assert await store.rotate("g1", 0, now=NOW + 2) == Gone()
    assert not await store.forget_login_token("g1")
    assert [found.id for found in await store.grants_of(BOB)] == ["bob's"]
    assert await store.sign_out_person(ADA, now=NOW + 3) == ()


async def test_signing_a_client_out_ends_what_everybody_allowed_it(store: Store) -> None:
    await store.add_grant(grant("ada's", expires_at=UNTIL))
    await store.add_grant(grant("bob's", principal=BOB, expires_at=UNTIL))
    await store.add_grant(grant("other", client="client-2", expires_at=UNTIL))
    ended = await store.sign_out_client("client-1", now=NOW + 1)
    assert sorted(found.id for found in ended) == ["ada's", "bob's"]
    assert [found.id for found in await store.grants_of(ADA)] == ["other"]


@pytest.mark.parametrize("who", ["person", "client"])
async def test_a_login_from_before_a_sign_out_becomes_no_grant_and_one_from_after_does(store: Store, who: str) -> None:
    if who == "person":
        await store.sign_out_person(ADA, now=NOW)
    else:
        await store.sign_out_client("client-1", now=NOW)
    for number, logged_in_at in enumerate((0.0, NOW - 1, NOW)):
        assert not await store.add_grant(grant(f"late-{number}", logged_in_at=logged_in_at))
        assert await store.find_grant(f"late-{number}") is None
    assert await store.add_grant(grant("fresh", logged_in_at=NOW + 1))
    assert await store.add_grant(grant("someone else's", principal=BOB, client="client-2", logged_in_at=NOW - 1))


async def test_a_sign_out_is_forgotten_when_no_login_from_before_can_come_any_more(store: Store) -> None:
    await store.sign_out_person(ADA, now=NOW)
    assert await store.purge(now=NOW + DAY) == 0
    assert await store.purge(now=NOW + DAY + 1) == 1
    assert await store.add_grant(grant(logged_in_at=NOW - 1))


async def test_when_a_person_was_signed_out_is_known_for_a_day(store: Store) -> None:
    assert await store.signed_out_at(ADA) is None
    await store.sign_out_person(ADA, now=NOW)
    await store.sign_out_client("client-1", now=NOW + 5)
    await store.sign_out_person(BOB, now=NOW + 5)
    assert await store.signed_out_at(ADA) == NOW
    await store.purge(now=NOW + DAY + 1)
    assert await store.signed_out_at(ADA) is None


async def test_a_persons_last_login_is_that_of_their_newest_grant_also_a_revoked_one(store: Store) -> None:
    assert await store.last_login(ADA) is None
    await store.add_grant(grant("g1", logged_in_at=NOW - 9))
    await store.add_grant(grant("g2", logged_in_at=NOW - 3))
    await store.add_grant(grant("g3", logged_in_at=NOW - 5))
    await store.add_grant(grant("g4", logged_in_at=NOW, principal=BOB))
    await store.revoke_grant("g2", now=NOW)
    assert await store.last_login(ADA) == NOW - 3


# Asking the identity provider again


async def login(store: Store, grant_id: str = "g1") -> None:
    await store.keep_login_token(grant_id, "refresh-0", next_check_at=NOW + 300, kept_until=NOW + 600)


async def take(store: Store, now: float = NOW + 300) -> LoginToken | None:
    return await store.take_login_check("g1", now=now, next_check_at=now + 300)


async def test_a_check_is_given_out_when_it_is_due_and_to_one(store: Store) -> None:
    await login(store)
    assert await take(store) is None  # a login of which no grant has come
    await store.add_grant(grant(expires_at=UNTIL))
    assert await take(store, NOW + 299) is None
    answers = await gather(20, lambda _: take(store))
    assert [answer for answer in answers if answer is not None] == [LoginToken("g1", "refresh-0", 0)]
    assert await take(store, NOW + 599) is None
    assert await take(store, NOW + 600) == LoginToken("g1", "refresh-0", 0)


async def test_what_the_provider_rotated_takes_the_place_of_exactly_the_token_it_was_given_for(store: Store) -> None:
    await login(store)
    await store.add_grant(grant(expires_at=UNTIL))
    first = await take(store)
    assert first is not None
    assert await store.renew_login_token(first, "refresh-1")
    assert not await store.renew_login_token(first, "from a slow process")
    assert await take(store, NOW + 600) == LoginToken("g1", "refresh-1", 1)


@pytest.mark.requirement("TK8")
async def test_a_refused_token_ends_its_grant_unless_somebody_renewed_it_meanwhile(store: Store) -> None:
    await login(store)
    await store.add_grant(grant(expires_at=UNTIL))
    old = await take(store)
    assert old is not None
    await store.renew_login_token(old, "refresh-1")
    assert not await store.end_login(old, now=NOW + 301)
    assert await store.grants_of(ADA)
    new = await take(store, NOW + 600)
    assert new is not None
    assert await store.end_login(new, now=NOW + 601)
    assert await store.grants_of(ADA) == ()
    assert await store.revoked_since(NOW) == {"g1"}
    assert not await store.renew_login_token(new, "refresh-2")
    assert not await store.end_login(new, now=NOW + 602)


async def test_a_logins_token_goes_with_its_grant_or_when_none_comes(store: Store) -> None:
    for number, grant_id in enumerate(("live", "revoked", "ended", "never")):
        await store.keep_login_token(grant_id, f"r{number}", next_check_at=NOW, kept_until=NOW + 600)
    await store.add_grant(grant("live", expires_at=UNTIL))
    await store.add_grant(grant("revoked", expires_at=UNTIL))
    await store.add_grant(grant("ended"))
    await store.revoke_grant("revoked", now=NOW)
    assert not await store.forget_login_token("revoked")
    assert await store.purge(now=NOW + 599) == 0
    assert await store.purge(now=NOW + 600) == 2
    assert [await store.forget_login_token(each) for each in ("never", "ended", "live")] == [False, False, True]


async def test_a_login_tokens_text_hides_its_secret() -> None:
    assert "refresh-0" not in repr(LoginToken("g1", "refresh-0", 0))


# Health, cancellation


async def test_a_store_that_works_says_so(store: Store) -> None:
    await store.check()
    await store.check()


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "consume": lambda store: store.consume("t", expires_at=NOW + 60),
    "is_consumed": lambda store: store.is_consumed("t"),
    "add_grant": lambda store: store.add_grant(grant("g2")),
    "redeem": redeem,
    "rotate": lambda store: store.rotate("g1", 0, now=NOW),
    "find_grant": lambda store: store.find_grant("g1"),
    "grants_of": lambda store: store.grants_of(ADA),
    "revoke_grant": lambda store: store.revoke_grant("g1", now=NOW),
    "revoked_since": lambda store: store.revoked_since(NOW),
    "find_grants": lambda store: store.find_grants("ada"),
    "last_login": lambda store: store.last_login(ADA),
    "sign_out_person": lambda store: store.sign_out_person(ADA, now=NOW),
    "sign_out_client": lambda store: store.sign_out_client("client-1", now=NOW),
    "keep_login_token": login,
    "forget_login_token": lambda store: store.forget_login_token("g1"),
    "take_login_check": take,
    "renew_login_token": lambda store: store.renew_login_token(LoginToken("g1", "x", 0), "y"),
    "end_login": lambda store: store.end_login(LoginToken("g1", "x", 0), now=NOW),
    "announce_key": lambda store: store.announce_key(now=NOW),
    "old_rows": lambda store: store.old_rows(),
    "reencrypt": lambda store: store.reencrypt(OldRow("connections", (ADA.key, "gmail"), (), True)),
    "save_connection": lambda store: store.save_connection(connection(id="c2")),
    "find_connection": lambda store: store.find_connection(ADA, "gmail"),
    "connections_of": lambda store: store.connections_of(ADA),
    "take_refresh": lambda store: store.take_refresh(connection(), owner="me", now=NOW, until=NOW + 25),
    "renew_connection": lambda store: store.renew_connection(
        connection(),
        access_token="a1",
        refresh_token="r1",
        token_type="Bearer",
        scope=None,
        issued_at=NOW + 9,
        expires_at=None,
    ),
    "postpone_refresh": lambda store: store.postpone_refresh(connection(), reason="busy", next_try_at=NOW + 5),
    "want_scope": lambda store: store.want_scope(connection(), "mail.send"),
    "note_use": lambda store: store.note_use(connection(), now=NOW),
    "end_connection": lambda store: store.end_connection(connection(), reason="ended"),
    "forget_connection": lambda store: store.forget_connection(ADA, "gmail"),
    "save_registration": lambda store: store.save_registration(registration()),
    "find_registration": lambda store: store.find_registration("gmail", "https://as.example"),
    "forget_registration": lambda store: store.forget_registration("gmail", "https://as.example", "our-id"),
    "signed_out_at": lambda store: store.signed_out_at(ADA),
    "post_mail": lambda store: store.post_mail("one", "text", now=NOW, expires_at=NOW + 60),
    "mail_since": lambda store: store.mail_since(0, ["one"], now=NOW),
    "find_session": lambda store: store.find_session("s1"),
    "change_session": lambda store: store.change_session("s1", ADA.key, SetLevel("info"), expires_at=NOW + 60),
    "purge": lambda store: store.purge(now=NOW),
    "check": lambda store: store.check(),
}


async def everything(store: Store) -> tuple[object, ...]:
    """All that can be seen of the rows these tests touch, by calls that change nothing."""
    return (
        await store.find_grant("g1"),
        await store.find_grant("g2"),
        await store.find_connection(ADA, "gmail"),
        await store.find_registration("gmail", "https://as.example"),
        await store.revoked_since(0),
    )


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_is_done_or_not_done_and_the_store_goes_on(store: Store, name: str, steps: int) -> None:
    await store.add_grant(grant())
    await store.save_connection(connection())
    before = await everything(store)
    finished = []

    async def call() -> None:
        await CALLS[name](store)
        finished.append(True)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(store.check)  # trio starts them in any order: one may wait for the other's turn
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        after = await everything(store)
        if steps == 0:
            assert not finished
            assert after == before
        await store.check()
        # What was or was not done, doing it now (again) works.
        await store.consume("other", expires_at=NOW)
        assert await store.add_grant(grant("g3", logged_in_at=NOW + 1))
        assert isinstance(await redeem(store, "code-3", "g3"), Redeemed)


async def test_every_call_of_the_contract_is_cancelled_here() -> None:
    contract = {name for part in (Store, MailStore, SessionStore) for name in vars(part)}
    assert set(CALLS) == {name for name in contract if not name.startswith("_")}


async def test_a_cancelled_redemption_spends_code_and_changes_grant_together(store: Store) -> None:
    for number in range(20):
        grant_id = f"g{number}"
        await store.add_grant(grant(grant_id))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(redeem, store, f"code-{number}", grant_id)
                for _ in range(number % 5):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        found = await store.find_grant(grant_id)
        spent = not await store.consume(f"code-{number}", expires_at=NOW + 60)
        assert found is not None
        assert spent == (found.expires_at == UNTIL)
