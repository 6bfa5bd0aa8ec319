"""Streams of clients end for reasons of their own: no store, a client that stopped reading, too many, a drain."""

from __future__ import annotations

import pytest
import trio

from aggregator.errors import StoreUnavailable
from aggregator.protocol.principal import Principal
from aggregator.upstream.credentials import Standing
from aggregator.web.mcp.streams import STREAMS_PER_PERSON
from aggregator.web.pulse import SILENCE, STALLED

from ...fakes.mcp_server import LEGACY, META, MODERN
from ...fakes.relay import FakeCredentials, Relay, client_of, one
from .test_conversing import CALL, CAPABILITIES, FORM, asks
from .test_listening import EVERYTHING, listening, settle

PERSONAL = {"up": {"auth_type": "user"}}


class AwayStore(FakeCredentials):
    """Credentials whose store has gone away."""

    def standing_at_hand(self, principal: Principal) -> Standing | None:
        return None

    async def standing(self, principal: Principal) -> Standing:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("the store is away (fake)")


def store_goes_away(relay: Relay) -> None:
    upstream = relay.listings.upstreams()["up"]
    upstream.credentials = AwayStore(relay.connections, upstream.config)  # type: ignore[arg-type]


async def test_a_subscription_that_cannot_begin_without_the_store_is_refused_in_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN, upstreams=PERSONAL) as (_server, relay):
        store_goes_away(relay)
        received = await relay.modern().request("subscriptions/listen", {"notifications": EVERYTHING})
        assert received.status == 503
        assert len(relay.streams) == 0


async def test_a_stream_that_cannot_begin_without_the_store_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with one(LEGACY, upstreams=PERSONAL) as (_server, relay):
        client = await relay.legacy()
        store_goes_away(relay)
        async with client.open_stream() as ongoing:
            await ongoing.done.wait()
        assert ongoing.ended
        assert len(relay.streams) == 0


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_stream_outlives_a_store_that_goes_away_for_a_while(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(MODERN, upstreams=PERSONAL) as (server, relay):
        server.tells_of_changes()
        async with listening(await client_of(relay, revision)) as ongoing:
            await settle()
            upstream = relay.listings.upstreams()["up"]
            good = upstream.credentials
            store_goes_away(relay)
            await settle(30)
            upstream.credentials = good
            await server.announce("notifications/tools/list_changed")
            await settle(10)
            assert any(message["method"].endswith("tools/list_changed") for message in ongoing.messages())


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_stream_whose_client_stopped_reading_ends_and_is_not_kept_broken(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(MODERN) as (_server, relay), listening(await client_of(relay, revision)) as ongoing:
        await settle()
        ongoing.stalls = True
        await settle(SILENCE + STALLED + 20)
        assert ongoing.done.is_set()
        assert not ongoing.ended, "what was cut off is not ended in order"
        assert len(relay.streams) == 0
        assert len(relay.endpoint._pulse) == 0


async def test_a_person_has_a_bounded_number_of_streams_and_others_have_theirs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with one(MODERN) as (_server, relay), trio.open_nursery() as nursery:

        async def listen(person: str) -> None:
            async with listening(relay.modern(person)):
                await trio.sleep_forever()

        for _ in range(STREAMS_PER_PERSON):
            nursery.start_soon(listen, "alice")
        await settle()
        refused = await relay.modern("alice").request("subscriptions/listen", {"notifications": EVERYTHING})
        assert refused.status == 429
        async with listening(relay.modern("bob")) as his:
            await settle()
            assert his.status == 200
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("RS6", "TK8")
@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_a_stream_ends_with_the_access_of_whoever_opened_it(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Who is signed out hears no more of what changes: a stream is no standing permission."""
    async with one(MODERN) as (server, relay):
        server.tells_of_changes()
        async with (
            listening(await client_of(relay, revision, "alice")) as hers,
            listening(await client_of(relay, revision, "bob")) as his,
        ):
            await settle(600)
            relay.bearer.withdraw("alice")
            with trio.fail_after(1):
                await hers.done.wait()
            heard = len(hers.messages())
            await server.announce("notifications/tools/list_changed")
            await settle(10)
            assert not his.done.is_set()
            assert any(message["method"].endswith("tools/list_changed") for message in his.messages())
            assert len(hers.messages()) == heard
        assert len(relay.streams) == 0


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_streams_and_parked_calls_do_not_hold_a_drain(
    revision: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with one(LEGACY) as (server, relay):
        asks(server, ("elicitation/create", FORM))
        parked = await relay.modern(meta={f"{META}clientCapabilities": CAPABILITIES}).request("tools/call", CALL)
        assert parked.json()["result"]["resultType"] == "input_required"
        async with listening(await client_of(relay, revision)) as ongoing:
            await settle()
            relay.streams.close()
            with trio.fail_after(1):
                await ongoing.done.wait()
            assert ongoing.ended
        async with listening(await client_of(relay, revision)) as late:
            with trio.fail_after(1):
                await late.done.wait()
            assert late.ended
