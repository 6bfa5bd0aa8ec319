from __future__ import annotations

import trio

from aggregator.web.mcp.tool_clock import ToolClock


async def test_time_counts_only_while_nobody_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    clock = ToolClock(10)
    with clock.scope:
        await trio.sleep(6)
        with clock.standing():
            await trio.sleep(1000)
        await trio.sleep(3.9)
    assert not clock.scope.cancelled_caught


async def test_questions_that_overlap_stop_it_once(autojump_clock: trio.testing.MockClock) -> None:
    clock = ToolClock(10)

    async def ask(after: float, seconds: float) -> None:
        await trio.sleep(after)
        with clock.standing():
            await trio.sleep(seconds)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 4, 50)
        nursery.start_soon(ask, 20, 100)  # it stands from 4 to 120
        with clock.scope:
            await trio.sleep_forever()
    assert trio.current_time() - began == 126


async def test_a_question_in_the_last_moment_does_not_turn_time_back(autojump_clock: trio.testing.MockClock) -> None:
    clock = ToolClock(10)
    began = trio.current_time()
    with clock.scope:
        with trio.move_on_after(10 - 1e-9):
            await trio.sleep_forever()
        with clock.standing():
            await trio.sleep(100)
        await trio.sleep(1)
    assert clock.scope.cancelled_caught
    assert trio.current_time() - began < 110.1


async def test_a_question_that_outlives_the_call_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    clock = ToolClock(10)
    with clock.scope:
        asked = clock.standing()
        asked.__enter__()
    await trio.sleep(100)
    asked.__exit__(None, None, None)
    assert not clock.scope.cancelled_caught
