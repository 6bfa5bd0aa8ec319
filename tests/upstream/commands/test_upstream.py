"""The supervisor of a command, with processes in memory and time that jumps."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aggregator.config.model import ConnectRetry
from aggregator.errors import UpstreamLost
from aggregator.protocol.jsonrpc import Notice, Success
from aggregator.protocol.subscriptions import Wanted
from aggregator.protocol.translate import Envelope
from aggregator.upstream.commands.child import Command
from aggregator.upstream.commands.handshake import SILENCE
from aggregator.upstream.commands.upstream import CommandUpstream, open_command
from aggregator.upstream.credentials import NOTHING
from aggregator.upstream.peers import LISTING, Answered, Outgoing, Respondent

from ...fakes.child import FakeChild, FakeStarts, Script, answer, modern, older

MODERN, OLDER = "2026-07-28", "2025-11-25"


@asynccontextmanager
async def commanding(
    *scripts: Script | UpstreamLost,
    idle_stop: float | None = None,
    one_person: bool = False,
    retry: ConnectRetry | None = None,
) -> AsyncIterator[tuple[CommandUpstream, FakeStarts]]:
    starts = FakeStarts(*scripts)
    command = Command(("server", "--secret"), {})
    async with trio.open_nursery() as nursery:
        async with open_command(
            "up",
            command,
            {"name": "us"},
            nursery,
            idle_stop=idle_stop,
            one_person=one_person,
            retry=retry,
            start=starts,
        ) as upstream:
            yield upstream, starts
        nursery.cancel_scope.cancel()


async def call(upstream: CommandUpstream, name: str = "t", *, level: str | None = None) -> Answered:
    async def ignore(notice: Notice) -> None: ...

    params = {"name": name, "arguments": {}}
    return await upstream.request(Outgoing("tools/call", params, Envelope(MODERN, {}, None, level), "alice"), ignore)


async def silent(child: FakeChild) -> None:
    """Older, and it says nothing to what it does not know."""
    while (message := await child.hear())["method"] != "initialize":
        pass
    await answer(child, message, {"protocolVersion": OLDER})
    await older(child)


async def strict(child: FakeChild) -> None:
    """Older, and it ends when anything else comes first."""
    if (message := await child.hear())["method"] == "initialize":
        await answer(child, message, {"protocolVersion": OLDER})
        await older(child)
    child.exit(1)


async def slow(child: FakeChild) -> None:
    """Modern, and it takes twenty seconds to start."""
    await trio.sleep(20)
    await modern(child)


async def slow_and_hasty(child: FakeChild) -> None:
    """Modern and slow to start; then it refuses the handshake before it has answered what came first."""
    await trio.sleep(20)
    first, second = await child.hear(), await child.hear()
    await child.send(id=second["id"], error={"code": -32022, "message": "not accepted"})
    await trio.sleep(0.5)
    await answer(child, first, {"supportedVersions": [MODERN]})
    await modern(child)


async def slow_and_obliging(child: FakeChild) -> None:
    """Modern and slow to start; it takes the handshake, too, and is an older one from then on."""
    await trio.sleep(20)
    while (message := await child.hear())["method"] != "initialize":
        await answer(child, message, {"supportedVersions": [MODERN]})
    await answer(child, message, {"protocolVersion": OLDER})
    await older(child)


async def slow_and_older(child: FakeChild) -> None:
    await trio.sleep(20)
    await older(child)


async def slow_and_broken(child: FakeChild) -> None:
    """It refuses the handshake, and never answers what came first."""
    await trio.sleep(20)
    await child.hear()
    second = await child.hear()
    await child.send(id=second["id"], error={"code": -32603, "message": "no\n  API key"})
    await mute(child)


async def crash(child: FakeChild) -> None:
    child.exit(1)


async def test_nothing_starts_before_the_first_question() -> None:
    async with commanding(modern) as (upstream, starts):
        await wait_all_tasks_blocked()
        assert (starts.at, upstream.state, upstream.peer) == ([], "stopped", None)
        assert (await upstream.meet()).revision == MODERN
        assert upstream.state == "running"


@pytest.mark.parametrize(
    ("script", "revision", "methods", "after"),
    [
        (modern, MODERN, ["server/discover"], 0.0),
        (older, OLDER, ["server/discover", "initialize", "notifications/initialized"], 0.0),
        (silent, OLDER, ["server/discover", "initialize", "notifications/initialized"], SILENCE),
        (slow, MODERN, ["server/discover", "initialize"], 20.0),
        (slow_and_hasty, MODERN, ["server/discover", "initialize"], 20.5),
        (slow_and_obliging, OLDER, ["server/discover", "initialize", "notifications/initialized"], 20.0),
        (slow_and_older, OLDER, ["server/discover", "initialize", "notifications/initialized"], 20.0),
    ],
)
async def test_each_kind_of_server_is_met(
    autojump_clock: Any, script: Script, revision: str, methods: list[str], after: float
) -> None:
    async with commanding(script) as (upstream, starts):
        began = trio.current_time()
        assert (await upstream.meet()).revision == revision
        assert trio.current_time() - began == pytest.approx(after)
        await wait_all_tasks_blocked()
        [child] = starts.runs
        assert [
            message["method"] for message in child.heard if message["method"] != "notifications/cancelled"
        ] == methods


async def test_a_server_that_ends_at_discover_is_started_again_at_once_and_asked_as_it_likes(
    autojump_clock: Any,
) -> None:
    async with commanding(strict) as (upstream, starts):
        assert (await upstream.meet()).revision == OLDER
        assert len(starts.at) == 2
        assert starts.at[1] - starts.at[0] < 3


async def test_a_server_that_took_both_is_asked_only_the_first_when_it_is_started_again(autojump_clock: Any) -> None:
    async with commanding(slow_and_obliging, slow, idle_stop=60) as (upstream, starts):
        assert (await call(upstream)).revision == OLDER
        await trio.sleep(100)
        assert (await call(upstream)).revision == MODERN
        assert [message["method"] for message in starts.runs[1].heard] == ["server/discover", "tools/call"]


async def test_many_who_come_at_once_start_it_once() -> None:
    async with commanding(modern) as (upstream, starts), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call, upstream)
        await wait_all_tasks_blocked()
        assert len(starts.at) == 1
        assert [message["method"] for message in starts.runs[0].heard].count("tools/call") == 20


async def test_a_crash_loop_is_seldom_and_is_said(autojump_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with commanding(crash) as (upstream, starts):
        for _ in range(3):
            with pytest.raises(UpstreamLost, match="ended with exit code 1") as lost:
                await upstream.meet()
            assert not lost.value.executed
            assert "started again in" in str(lost.value)
            assert "--secret" not in str(lost.value)
        assert upstream.state == "waiting"
        await trio.sleep(3600)
        # Each step tries both ways to begin; 5 + 10 + ... + 640 + 900 s.
        assert 18 <= len(starts.at) <= 24
        assert len(caplog.records) == len(starts.at) / 2


async def test_one_that_cannot_be_started_says_why(autojump_clock: Any) -> None:
    missing = UpstreamLost("cannot be started: No such file or directory", executed=False)
    async with commanding(missing, missing, modern) as (upstream, starts):
        with pytest.raises(UpstreamLost, match=r"^its command \S+ cannot be started: No such file .* again in \d+ s$"):
            await call(upstream)
        await trio.sleep(60)
        assert isinstance((await call(upstream)).outcome, Success)
        assert len(starts.at) == 3


async def test_retry_starts_it_now(autojump_clock: Any) -> None:
    async with commanding(UpstreamLost("cannot be started"), modern) as (upstream, starts):
        with pytest.raises(UpstreamLost):
            await call(upstream)
        upstream.retry()
        await call(upstream)
        assert starts.at[1] - starts.at[0] < 1


async def dies_in_call(child: FakeChild) -> None:
    message = await child.hear()
    await answer(child, message, {"supportedVersions": [MODERN]})
    await child.hear()
    child.exit(-11)


async def test_a_call_under_way_when_it_dies_may_have_been_executed_and_is_not_repeated(autojump_clock: Any) -> None:
    async with commanding(dies_in_call, modern) as (upstream, starts):
        with pytest.raises(UpstreamLost, match="was ended by signal 11") as lost:
            await call(upstream)
        assert lost.value.executed
        assert len(starts.at) == 1, "not yet"
        await call(upstream)
        assert 0.8 <= starts.at[1] - starts.at[0] <= 1.2, "whoever comes waits for the next one"


async def test_one_that_had_lived_is_back_without_being_asked(autojump_clock: Any) -> None:
    async with commanding(dies_in_call, modern) as (upstream, starts):
        with pytest.raises(UpstreamLost):
            await call(upstream)
        await trio.sleep(5)
        assert upstream.state == "running"
        assert len(starts.at) == 2


async def mute(child: FakeChild) -> None:
    while True:
        await child.hear()


async def test_a_handshake_that_is_never_answered_has_a_deadline(autojump_clock: Any) -> None:
    async with commanding(mute) as (upstream, starts):
        with pytest.raises(UpstreamLost, match="did not answer the handshake within 120 s"):
            await upstream.meet()
        assert trio.current_time() - starts.at[0] == pytest.approx(120, abs=5)
        assert starts.runs[0].ended == "gently"


async def test_the_deadline_of_the_handshake_is_the_configured_one(autojump_clock: Any) -> None:
    async with commanding(mute, retry=ConnectRetry(attempt_timeout=7.0)) as (upstream, _):
        with pytest.raises(UpstreamLost, match="did not answer the handshake within 7 s"):
            await upstream.meet()
        assert 7 <= trio.current_time() < 12


async def test_no_wait_between_starts_is_longer_than_the_configured_one(autojump_clock: Any) -> None:
    async with commanding(*[crash] * 18, modern, retry=ConnectRetry(max_delay=10.0)) as (upstream, starts):
        with pytest.raises(UpstreamLost):
            await upstream.meet()
        await trio.sleep(120)
        assert (await upstream.meet()).revision == MODERN
        assert all(later - earlier < 13 for earlier, later in pairwise(starts.at))


NEVER = ConnectRetry(enabled=False)


async def test_if_nothing_is_retried_one_that_fails_is_left_alone_until_somebody_asks(autojump_clock: Any) -> None:
    async with commanding(crash, crash, modern, retry=NEVER) as (upstream, starts):
        with pytest.raises(UpstreamLost, match=r"exit code 1 .*; ask again in \d s"):
            await upstream.meet()
        with pytest.raises(UpstreamLost, match="; ask again in"):
            await upstream.meet()
        await trio.sleep(80_000)
        assert (upstream.state, len(starts.at)) == ("stopped", 2)
        assert "exit code 1" in str(upstream.reason)
        await call(upstream)
        assert (upstream.state, len(starts.at)) == ("running", 3)


async def test_if_nothing_is_retried_whoever_wants_it_at_once_has_it_at_once(autojump_clock: Any) -> None:
    async with commanding(crash, crash, modern, retry=NEVER) as (upstream, _):
        with pytest.raises(UpstreamLost):
            await upstream.meet()
        before = trio.current_time()
        upstream.retry()
        assert (await upstream.meet()).revision == MODERN
        assert trio.current_time() - before < 2


async def test_if_nothing_is_retried_those_who_listen_start_nothing(autojump_clock: Any) -> None:
    async def dies_early(child: FakeChild) -> None:
        await answer(child, await child.hear(), {"supportedVersions": [MODERN]})
        await trio.sleep(30)
        child.exit(1)

    def nothing(what: Any) -> None: ...

    async def listen() -> None:
        for _ in range(3):
            with contextlib.suppress(UpstreamLost):
                await upstream.listen(LISTING, NOTHING, Wanted(frozenset({"tools"})), nothing, nothing)

    async with commanding(dies_early, modern, retry=NEVER) as (upstream, starts), trio.open_nursery() as nursery:
        await upstream.meet()
        nursery.start_soon(listen)
        await trio.sleep(10_000)
        assert (upstream.state, len(starts.at)) == ("stopped", 1)
        await call(upstream)
        assert len(starts.at) == 2
        nursery.cancel_scope.cancel()


async def test_a_refused_handshake_is_told_in_one_line_and_not_waited_out(autojump_clock: Any) -> None:
    async with commanding(slow_and_broken) as (upstream, starts):
        with pytest.raises(UpstreamLost, match=r"^refused the handshake: no API key \(-32603\); "):
            await upstream.meet()
        assert trio.current_time() - starts.at[0] < 30


async def test_whoever_waits_for_a_start_may_go(autojump_clock: Any) -> None:
    async with commanding(slow) as (upstream, _):
        with trio.move_on_after(5) as scope:
            await upstream.meet()
        assert scope.cancelled_caught
        assert (await upstream.meet()).revision == MODERN


async def busy(child: FakeChild) -> None:
    """Single-threaded: an hour in one call it hears nothing."""
    message = await child.hear()
    await answer(child, message, {"supportedVersions": [MODERN]})
    message = await child.hear()
    await trio.sleep(3600)
    await answer(child, message, {"content": []})
    await modern(child)


async def test_a_busy_server_is_left_alone(autojump_clock: Any) -> None:
    async with commanding(busy, idle_stop=60) as (upstream, starts):
        await call(upstream)
        assert trio.current_time() - starts.at[0] == pytest.approx(3600)
        assert len(starts.at) == 1


async def test_an_idle_server_is_stopped_and_started_on_use(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with commanding(modern, idle_stop=60) as (upstream, starts):
        await call(upstream)
        await trio.sleep(50)
        await call(upstream)
        await trio.sleep(50)
        assert upstream.state == "running"
        await trio.sleep(20)
        assert upstream.state == "stopped"
        assert starts.runs[0].ended == "gently"
        await trio.sleep(10_000)
        assert len(starts.at) == 1
        await call(upstream)
        assert len(starts.at) == 2
    said = [record.getMessage() for record in caplog.records if record.name == "aggregator.upstream.commands.upstream"]
    assert said == ["upstream up: stopped: nobody used it; it starts when somebody does"]


async def test_listing_does_not_wake_a_stopped_server_nor_keep_it_awake(autojump_clock: Any) -> None:
    async with commanding(modern, idle_stop=60) as (upstream, starts):
        tools = ([{"name": "t"}], None)
        for _ in range(10):
            assert await upstream.list_all("tools/list", "tools") == tools
            await trio.sleep(30)
        assert (upstream.state, len(starts.at)) == ("stopped", 1)
        assert (await upstream.meet()).revision == MODERN


async def slow_to_list(child: FakeChild) -> None:
    """Takes an hour for a listing."""
    await answer(child, await child.hear(), {"supportedVersions": [MODERN]})
    message = await child.hear()
    await trio.sleep(3600)
    await answer(child, message, {"tools": []})
    await modern(child)


async def test_a_server_is_not_idle_while_it_lists(autojump_clock: Any) -> None:
    async with commanding(slow_to_list, idle_stop=60) as (upstream, starts):
        assert await upstream.list_all("tools/list", "tools") == ([], None)
        await trio.sleep(2)
        assert (upstream.state, len(starts.at)) == ("stopped", 1)


@pytest.mark.parametrize("script", [modern, older])
async def test_a_subscription_neither_keeps_a_server_awake_nor_wakes_it(autojump_clock: Any, script: Script) -> None:
    async with commanding(script, idle_stop=60) as (upstream, starts), trio.open_nursery() as nursery:
        listened: list[float] = []
        tools = Wanted(frozenset({"tools"}))

        async def listen() -> None:
            while True:
                listened.append(trio.current_time())
                try:
                    await upstream.listen(LISTING, NOTHING, tools, lambda _: None, lambda _: None)
                except UpstreamLost:
                    pass
                await trio.sleep(1)

        await call(upstream)
        nursery.start_soon(listen)
        await trio.sleep(500)
        assert (upstream.state, len(starts.at), len(listened)) == ("stopped", 1, 2)
        await call(upstream)
        await trio.sleep(30)
        assert (upstream.state, len(starts.at), len(listened)) == ("running", 2, 2)
        nursery.cancel_scope.cancel()


async def test_closing_ends_the_process_and_refuses_whoever_comes() -> None:
    async with commanding(modern) as (upstream, starts):
        await call(upstream)
    assert starts.runs[0].ended == "gently"
    with pytest.raises(UpstreamLost, match="is closed") as lost:
        await call(upstream)
    assert not lost.value.executed


@pytest.mark.parametrize("steps", range(12))
async def test_closing_at_any_moment_of_the_start_leaves_nothing(steps: int) -> None:
    starts = FakeStarts(modern)
    async with trio.open_nursery() as nursery:
        async with open_command("up", Command(("server",), {}), {}, nursery, start=starts) as upstream:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_after, scope, steps)
                await upstream.meet()
        assert upstream.state == "stopped"
        nursery.cancel_scope.cancel()
    assert all(child.exited.is_set() for child in starts.runs)


async def _cancel_after(scope: trio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_the_apps_cancellation_ends_the_process_and_whoever_waits() -> None:
    starts = FakeStarts(mute)
    command = Command(("server",), {})
    async with trio.open_nursery() as nursery, open_command("up", command, {}, nursery, start=starts) as upstream:
        nursery.start_soon(upstream.meet)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert starts.runs[0].ended == "gently"


async def test_an_older_server_has_the_lowest_level_that_anybody_asked_for() -> None:
    async with commanding(older) as (upstream, starts):
        for level in ("warning", "error", "debug", "info"):
            await call(upstream, level=level)
        set_to = [m["params"]["level"] for m in starts.runs[0].heard if m["method"] == "logging/setLevel"]
        assert set_to == ["warning", "debug"]


async def complaining(child: FakeChild) -> None:
    await child.complain(b"token is s3cr3t-value\x1b[2J\nand \xff more")
    await modern(child)


async def test_stderr_is_logged_with_the_upstreams_name_and_without_its_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    starts = FakeStarts(complaining)
    command = Command(("server",), {"TOKEN": "s3cr3t-value"}, secrets=("s3cr3t-value",))
    async with trio.open_nursery() as nursery:
        async with open_command("up", command, {}, nursery, start=starts) as upstream:
            await call(upstream)
        nursery.cancel_scope.cancel()
    assert "upstream up stderr: token is *** [2J" in caplog.text
    assert "upstream up stderr: and \ufffd more" in caplog.text
    assert "s3cr3t" not in caplog.text + repr(command) + repr(upstream)


async def test_a_stateless_process_learns_what_an_older_client_can_be_asked(autojump_clock: Any) -> None:
    async def ignore(notice: Notice) -> None: ...

    async with commanding(modern) as (upstream, starts):
        able: dict[str, Any] = {"elicitation": {"form": {}}}
        envelope = Envelope(OLDER, able)
        outgoing = Outgoing(
            "tools/call", {"name": "t", "arguments": {}}, envelope, "alice", respondent=Respondent(able)
        )
        await upstream.request(outgoing, ignore)
        [child] = starts.runs
        asked = child.heard[-1]["params"]["_meta"]
        assert asked["io.modelcontextprotocol/clientCapabilities"] == able
