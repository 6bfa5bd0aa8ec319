from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aggregator.errors import UpstreamLost
from aggregator.protocol.jsonrpc import Call, Failure, Notice, Success
from aggregator.upstream.commands.child_log import ChildLog
from aggregator.upstream.commands.wire import CHUNK, ENDLESS, MAX_LINE, NOTICES, ORDERS, Wire

from ...fakes.child import FakeChild

Json = dict[str, Any]


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[Wire, FakeChild]]:
    child = FakeChild()
    wire = Wire("up", child.stdin, child.stdout, ChildLog("upstream up").babbled)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.read)
        nursery.start_soon(wire.write)
        yield wire, child
        nursery.cancel_scope.cancel()


async def ask(wire: Wire, id: str, seen: list[Notice] | None = None, owner: str = "alice") -> Success | Failure:
    async def hear(notice: Notice) -> None:
        if seen is not None:
            seen.append(notice)

    return await wire.ask(Call(id, "tools/call", {"id": id}), owner, hear)


async def test_answers_find_their_calls_in_any_order() -> None:
    async with wired() as (wire, child):
        found: dict[str, Any] = {}

        async def one(id: str) -> None:
            found[id] = await ask(wire, id)

        async with trio.open_nursery() as nursery:
            for id in "abc":
                nursery.start_soon(one, id)
            asked = [(await child.hear())["id"] for _ in range(3)]
            for id in reversed(asked):
                await child.send(id=id, result={"of": id})
        assert {id: outcome.result["of"] for id, outcome in found.items()} == {"a": "a", "b": "b", "c": "c"}
        assert wire.calls == 0


async def test_progress_goes_to_its_own_call_and_in_order() -> None:
    async with wired() as (wire, child):
        seen_a: list[Notice] = []
        seen_b: list[Notice] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, "a", seen_a)
            nursery.start_soon(ask, wire, "b", seen_b, "bob")
            await child.hear()
            await child.hear()
            for number in range(5):
                params = {"progressToken": "a", "progress": number}
                await child.send(method="notifications/progress", params=params)
            await child.send(method="notifications/progress", params={"progressToken": ["a"], "progress": 9})
            await child.send(id="a", result={})
            await child.send(id="b", result={})
        assert [notice.params["progress"] for notice in seen_a] == [0, 1, 2, 3, 4]
        assert seen_b == []


@pytest.mark.parametrize(("owners", "delivered"), [(["alice", "alice", ""], 1), (["alice", "bob"], 0)])
async def test_what_names_no_call_is_shown_only_where_it_can_be_nobody_elses(owners: list[str], delivered: int) -> None:
    async with wired() as (wire, child):
        seen: list[Notice] = []
        async with trio.open_nursery() as nursery:
            for number, owner in enumerate(owners):
                nursery.start_soon(ask, wire, str(number), seen, owner)
                await child.hear()
            await child.send(method="notifications/message", params={"level": "info", "data": "private"})
            for number in range(len(owners)):
                await child.send(id=str(number), result={})
        assert len(seen) == delivered


async def test_a_caller_that_takes_no_progress_holds_up_nobody() -> None:
    async with wired() as (wire, child):
        release = trio.Event()
        taken: list[Notice] = []

        async def slow(notice: Notice) -> None:
            taken.append(notice)
            await release.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.ask, Call("slow", "tools/call", {}), "alice", slow)
            await child.hear()
            for number in range(NOTICES * 2):
                params = {"progressToken": "slow", "progress": number}
                await child.send(method="notifications/progress", params=params)
            nursery.start_soon(child.hear)
            with trio.fail_after(60):
                async with trio.open_nursery() as others:
                    others.start_soon(ask, wire, "quick")
                    await wait_all_tasks_blocked()
                    await child.send(id="quick", result={})
            await child.send(id="slow", result={})
            release.set()
        assert len(taken) == NOTICES + 1, "the rest was dropped, and the answer was not"


async def test_a_cancelled_call_is_told_and_its_late_answer_is_nobodys() -> None:
    async with wired() as (wire, child):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, wire, "a")
                await child.hear()
                scope.cancel()
        said = await child.hear()
        assert (said["method"], said["params"]["requestId"]) == ("notifications/cancelled", "a")
        await child.send(id="a", result={})
        await wait_all_tasks_blocked()
        assert wire.calls == 0


class Clogged(trio.abc.SendStream):
    """The stdin of a process that does not read."""

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.tried.append(bytes(data))
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_process_that_does_not_read_cannot_keep_us_from_reading_it(autojump_clock: Any) -> None:
    child = FakeChild()
    stdin = Clogged()
    wire = Wire("up", stdin, child.stdout, ChildLog("upstream up").babbled)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.read)
        nursery.start_soon(wire.write)
        for number in range(ORDERS * 3):
            await child.send(id=number, method="ping")
        for number in range(3):
            with trio.move_on_after(1) as scope:
                await ask(wire, str(number))
            assert scope.cancelled_caught
        wire.lose("gone")
        with pytest.raises(UpstreamLost) as lost:
            await ask(wire, "late")
        assert not lost.value.executed
        assert len(stdin.tried) == 1
        nursery.cancel_scope.cancel()


async def test_a_call_that_was_never_written_was_never_executed() -> None:
    child, stdin = FakeChild(), Clogged()
    wire = Wire("up", stdin, child.stdout, ChildLog("upstream up").babbled)
    outcomes: dict[str, bool] = {}

    async def one(id: str) -> None:
        with pytest.raises(UpstreamLost, match="it crashed") as lost:
            await ask(wire, id)
        outcomes[id] = lost.value.executed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.write)
        nursery.start_soon(one, "first")
        await wait_all_tasks_blocked()
        for number in range(ORDERS + 5):  # more than wait in the queue
            nursery.start_soon(one, str(number))
        await wait_all_tasks_blocked()
        wire.lose("it crashed")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert outcomes.pop("first")
    assert set(outcomes.values()) == {False}
    assert len(outcomes) == ORDERS + 5


async def test_a_call_cancelled_before_it_was_written_is_never_written() -> None:
    async with wired() as (wire, child):
        with trio.CancelScope() as scope:
            scope.cancel()
            await ask(wire, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, "b")
            assert (await child.hear())["id"] == "b"
            await child.send(id="b", result={})


async def test_garbage_on_stdout_is_counted_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async with wired() as (wire, child):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, "a")
            await child.hear()
            for garbage in (b"Listening on stdio\n", b"\n", b"\xff\xfe\n", b"{\n", b"[]\n", b'{"jsonrpc":"1.0"}\n'):
                await child.write(garbage)
            await child.send(id="nobody's", result={})
            await child.send(id="a", result={})
        assert wire.garbage == 5
        assert "upstream up wrote to stdout what is no message, skipped: Listening on stdio\n" in caplog.text
        assert "not MCP, skipped: " in caplog.text


async def test_who_babbles_is_read_ever_more_slowly_until_it_says_something(autojump_clock: MockClock) -> None:
    """Its pipe fills, so that it waits and nobody else does."""

    async def asked(id: str, garbage: int) -> float:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, id)
            await child.hear()
            await child.write(b"garbage\n" * (garbage // 8))
            await child.send(id=id, result={})
        return trio.current_time() - began

    async with wired() as (wire, child):
        # 2, 4, ..., 40 ms after each chunk but the first.
        assert await asked("a", 20 * CHUNK) == pytest.approx(0.418, abs=0.05)
        assert await asked("b", CHUNK) < 0.01, "one who has said something begins anew"


async def test_a_line_of_garbage_now_and_then_slows_nobody(autojump_clock: MockClock) -> None:
    async with wired() as (wire, child):
        for number in range(500):
            await child.write(b"still alive\n")
            await child.send(method="notifications/tools/list_changed", params={})
            await trio.sleep(0.01 * (number % 2))
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, "a")
            await child.hear()
            await child.send(id="a", result={})
        assert trio.current_time() == began


async def test_a_flood_of_garbage_is_no_flood_of_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    async with wired() as (wire, child):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, wire, "a")
            await child.hear()
            await child.write(b"garbage\n" * 20_000)
            await child.send(id="a", result={})
        assert wire.garbage == 20_000
        assert len(caplog.records) < 60


@pytest.mark.parametrize("first", ["id", "result"])
async def test_an_answer_that_is_too_long_fails_its_own_call_only(first: str) -> None:
    async with wired() as (wire, child):
        causes: list[str] = []

        async def large() -> None:
            with pytest.raises(UpstreamLost) as lost:
                await ask(wire, "large")
            causes.append(str(lost.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(large)
            await child.hear()
            nursery.start_soon(ask, wire, "small")
            await child.hear()
            body: Json = {"jsonrpc": "2.0", "id": "large", "result": {"text": "x" * MAX_LINE}}
            order = sorted(body, reverse=first == "result")
            await child.write(json.dumps({key: body[key] for key in order}).encode() + b"\n")
            await child.send(id="small", result={})
        assert causes == [f"answered with {len(json.dumps(body))} bytes; the limit is {MAX_LINE}"]
        assert not wire.stopped.is_set()


async def test_a_line_that_never_ends_ends_the_wire() -> None:
    async with wired() as (wire, child):
        chunk = b"x" * 2**20
        for _ in range(ENDLESS // len(chunk) + 1):
            await child.write(chunk)
        with trio.fail_after(60):
            await wire.stopped.wait()


async def test_only_ping_is_answered() -> None:
    async with wired() as (_, child):
        await child.send(id=1, method="ping")
        assert await child.hear() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        await child.send(id="r", method="roots/list")
        refused = await child.hear()
        assert (refused["id"], refused["error"]["code"]) == ("r", -32601)


async def test_a_batch_is_several_messages() -> None:
    async with wired() as (wire, child), trio.open_nursery() as nursery:
        nursery.start_soon(ask, wire, "a")
        nursery.start_soon(ask, wire, "b")
        await child.hear()
        await child.hear()
        answers = [{"jsonrpc": "2.0", "id": id, "result": {}} for id in "ab"]
        await child.write(json.dumps(answers).encode() + b"\n")


async def test_a_second_answer_to_one_call_is_dropped() -> None:
    async with wired() as (wire, child), trio.open_nursery() as nursery:
        outcomes: list[Success | Failure] = []

        async def one() -> None:
            outcomes.append(await ask(wire, "a"))

        nursery.start_soon(one)
        await child.hear()
        twice = [{"jsonrpc": "2.0", "id": "a", "result": {"n": n}} for n in (1, 2)]
        await child.write(b"".join(json.dumps(one).encode() + b"\n" for one in twice))
        await wait_all_tasks_blocked()
        assert outcomes == [Success("a", {"n": 1})]


async def test_a_message_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with wired() as (wire, child), trio.open_nursery() as nursery:
        text = "two\nlines\r\n\u2028 and \ud800"

        async def one() -> None:
            async def ignore(notice: Notice) -> None: ...

            await wire.ask(Call("a", "tools/call", {"text": text}), "alice", ignore)

        nursery.start_soon(one)
        assert (await child.hear())["params"]["text"] == text
        await child.send(id="a", result={})
