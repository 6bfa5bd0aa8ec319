"""A thousand clients over real sockets, all with the same ids and progress tokens, a tenth of whom break off: nothing
reaches the wrong one, and what they took is given back."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from aggregator.upstream.http.upstream import AT_WORK

from .crowd_plans import Errand, Plan, plan_of
from .crowded import Scene, Taken, connections_at, open_scene, raise_file_limit, run_round
from .crowding import Tally
from .oracle import open_files, running_tasks

pytestmark = pytest.mark.live

CLIENTS, PEOPLE = 1000, 100
FILES = 4096  # a connection for calls, others for answers and streams, and those to upstreams
SETTLING = 120.0  # seconds; streams of upstream sessions outlive the last request by a minute if nobody said farewell
ASKED = AT_WORK + 100
FEW = 15  # objects for each client; a connection or a task would be several times as many


def plans(seed: str, clients: int = CLIENTS, *, is_last: bool = False) -> list[Plan]:
    return [plan_of(one, seed=seed, people=PEOPLE, errands=1, is_last=is_last) for one in range(clients)]


def assert_in_order(tally: Tally, planned: list[Plan]) -> None:
    """Nobody met with what was not theirs, and everybody with all that was."""
    assert tally.wrong == []
    leaving = sum(plan.leaves is not None for plan in planned)
    assert leaving == len(planned) // 10
    assert tally.ended["stayed"] == len(planned) - leaving
    assert tally.ended["answered"] + tally.ended["cancelled"] == len(planned) - leaving


async def wait_until(is_so: Callable[[], bool]) -> bool:
    """Whether it came to be so in `SETTLING` seconds; nobody tells of it."""
    with trio.move_on_after(SETTLING):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.2)
        return True
    return is_so()


async def assert_left(scene: Scene) -> None:
    """No client is connected, and no upstream works for one who left."""
    for port, pid in zip(scene.ports, scene.pids, strict=True):
        assert await wait_until(lambda port=port, pid=pid: not connections_at(port, pid))  # type: ignore[misc]
    with trio.move_on_after(SETTLING):
        while any(told["running"] for told in (await scene.census()).values()):  # noqa: ASYNC110
            await trio.sleep(0.2)
    told = await scene.census()
    assert {name: (one["running"], one["wrong"]) for name, one in told.items()} == dict.fromkeys(told, (0, 0))


@pytest.mark.requirement("AF6", "AF16")
async def test_a_thousand_clients_meet_with_nothing_of_anothers_and_leave_nothing_behind(tmp_path: Path) -> None:
    raise_file_limit(FILES)
    async with open_scene(tmp_path, people=PEOPLE) as scene:
        (pid,) = scene.pids
        await scene.census()
        base = Taken.by(pid)
        crowds = [plans("first", is_last=True), plans("second", is_last=True)]
        taken = []
        for planned in crowds:
            tally, (held,) = await run_round(scene, planned)
            assert_in_order(tally, planned)
            assert held.files > CLIENTS, "they were all there at once"
            assert min(tally.heard[what] for what in ("progress", "log message", "question", "update")) > 100
            await assert_left(scene)
            taken.append(Taken.by(pid))
        assert await wait_until(lambda: Taken.by(pid).files <= base.files), (base, Taken.by(pid))
        assert Taken.by(pid).threads <= base.threads + 1
        # What the first left for a minute (streams to be resumed) lives beside the second; objects are counted below.
        assert Taken.by(pid).rss <= 1.25 * taken[0].rss, (base, taken, Taken.by(pid))


async def test_more_people_than_an_upstream_is_asked_for_at_once_think_at_the_same_time(tmp_path: Path) -> None:
    """Their answers reach it, and a second crowd leaves no task and no objects that the first did not."""
    raise_file_limit(FILES)
    async with open_scene(tmp_path, people=PEOPLE, way="embedded", mute=True) as scene:
        await scene.census()
        before, files, left = running_tasks(), open_files(os.getpid()), []
        for seed in ("first", "second", "third"):
            tally, _ = await run_round(scene, planned := asked(seed))
            assert_in_order(tally, planned)
            del tally, planned
            await assert_left(scene)
            assert await wait_until(lambda: running_tasks() <= before), running_tasks() - before
            assert await wait_until(lambda: open_files(os.getpid()) <= files), open_files(os.getpid()) - files
            gc.collect()
            left.append(len(gc.get_objects()))
        assert left[2] - left[1] < FEW * ASKED, left


def asked(seed: str) -> list[Plan]:
    """Everybody is asked by the same upstream, and thinks for longer than it takes to ask them all."""

    def made(errand: Errand) -> Errand:
        return replace(errand, upstream="older", asks=True, think=2.0, cancel_after=None)

    return [replace(plan, listens=None, errands=(made(plan.errands[0]),)) for plan in plans(seed, ASKED, is_last=True)]


async def test_answers_cancellations_and_retries_that_come_to_the_other_process_find_whom_they_are_for(
    tmp_path: Path,
) -> None:
    raise_file_limit(FILES)
    async with open_scene(tmp_path, people=PEOPLE, way="command", instances=2) as scene:
        await scene.census()
        planned = plans("both", 120, is_last=True)
        tally, _ = await run_round(scene, planned)
        assert_in_order(tally, planned)
        await assert_left(scene)
