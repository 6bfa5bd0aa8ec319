"""F5: one upstream says 503 or 429 to a hundred people, and the others do not notice."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Raw, Speaking
from ...fakes.relay import Relay, open_relay, text_of

Json = dict[str, Any]

PEOPLE = 100
CALLS = 5  # of each, one a second


async def slow(speaking: Speaking) -> Json:
    await trio.sleep(0.2)
    return {"content": [{"type": "text", "text": "ok"}]}


class Storm:
    def __init__(self, status: int, retry_after: str | None) -> None:
        headers = {"content-type": "text/html", **({"retry-after": retry_after} if retry_after else {})}
        self.raw = Raw(status, headers, [b"<h1>busy</h1>"])
        self.begun_at: list[float] = []

    async def __call__(self, incoming: Incoming) -> Raw:
        self.begun_at.append(trio.current_time())
        await trio.sleep(0.05)
        return self.raw


async def person(relay: Relay, number: int, words: list[str], longest: list[float]) -> None:
    client = relay.modern(f"p{number}")
    for _ in range(CALLS):
        started = trio.current_time()
        words.append(text_of(await client.call("busy__run")))
        middle = trio.current_time()
        assert (await client.call("calm__run"))["result"]["content"][0]["text"] == "ok"
        longest[0] = max(longest[0], middle - started)
        longest[1] = max(longest[1], trio.current_time() - middle)
        await trio.sleep(1)


@pytest.mark.requirement("AF5")
@pytest.mark.parametrize("revision", [MODERN, LEGACY])
@pytest.mark.parametrize(("status", "retry_after"), [(503, "20"), (503, None), (429, "20"), (429, None)])
async def test_a_storm_at_one_upstream_reaches_no_other_and_asks_once_per_call_at_most(
    revision: str, status: int, retry_after: str | None, autojump_clock: trio.testing.MockClock
) -> None:
    storm = Storm(status, retry_after)
    words: list[str] = []
    longest = [0.0, 0.0]
    async with trio.open_nursery() as nursery:
        busy, calm = FakeServer(nursery, revision, name="busy"), FakeServer(nursery, revision, name="calm")
        busy.tool("run", slow)
        calm.tool("run", slow)
        async with open_relay({"busy": busy, "calm": calm}) as relay:
            await relay.modern().names()
            busy.scripts["tools/call"] = storm
            async with trio.open_nursery() as people:
                for number in range(PEOPLE):
                    people.start_soon(person, relay, number, words, longest)
            assert relay.is_idle()
            assert len(words) == PEOPLE * CALLS
            assert all(f"HTTP {status}" in text and "busy" in text for text in words)
            assert longest[0] < 1, "who is refused hears it at once"
            assert longest[1] < 0.3, "the calm upstream is as quick as ever"
            if retry_after is None:
                assert len(storm.begun_at) == PEOPLE * CALLS, "never a retry of our own"
            else:
                # Those already on their way when it first said so, and nobody for the twenty seconds after.
                assert len(storm.begun_at) <= PEOPLE
                assert max(storm.begun_at) - min(storm.begun_at) <= 0.1
                assert "it asks to wait" in words[-1]
            del busy.scripts["tools/call"]
            await trio.sleep(20)
            assert "isError" not in (await relay.modern("p1").call("busy__run"))["result"]
            assert not busy.open
            assert not calm.open
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("AF5")
@pytest.mark.parametrize("status", [503, 429])
async def test_a_listing_that_is_refused_is_not_asked_for_before_its_time(
    status: int, autojump_clock: trio.testing.MockClock
) -> None:
    storm = Storm(status, "40")
    async with trio.open_nursery() as nursery:
        busy, calm = FakeServer(nursery, name="busy"), FakeServer(nursery, name="calm")
        busy.tool("run")
        calm.tool("run")
        busy.scripts["tools/list"] = storm
        async with open_relay({"busy": busy, "calm": calm}) as relay:
            clients = [relay.modern(f"p{number}") for number in range(PEOPLE)]
            for _ in range(10):
                for client in clients:
                    assert "calm__run" in await client.names()
                await trio.sleep(9)
        nursery.cancel_scope.cancel()
    gaps = [later - before for before, later in zip(storm.begun_at, storm.begun_at[1:], strict=False)]
    assert 2 <= len(storm.begun_at) <= 4
    assert all(gap >= 0.8 * 40 for gap in gaps), gaps
