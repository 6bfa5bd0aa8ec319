"""What a program writes to its stderr, in our log: a little of much, and the last of it."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from aggregator.upstream.commands.child_log import CHUNK, ChildLog


async def drained(log: ChildLog, text: bytes) -> float:
    """The seconds that it takes."""
    began = trio.current_time()
    sender, receiver = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.drain, receiver)
        await sender.send_all(text)
        await sender.aclose()
    return trio.current_time() - began


async def test_of_a_flood_a_few_lines_and_the_last_are_kept(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    log = ChildLog("upstream up", secrets=["s3cr3t-word"])
    with caplog.at_level(logging.INFO):
        took = await drained(log, b"noise\n" * (10 * CHUNK // 6) + b"it failed with s3cr3t-word\n")
    assert list(log.last) == ["noise", "it failed with ***"]
    assert len(caplog.records) < 100
    assert "s3cr3t-word" not in caplog.text
    assert 0.05 < took < 0.5, "who shouts without end is read ever more slowly"


async def test_a_few_lines_are_logged_at_once(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    log = ChildLog("upstream up")
    with caplog.at_level(logging.INFO):
        assert await drained(log, b"one\ntwo\n\nthree") == 0
    assert [record.getMessage() for record in caplog.records] == [
        "upstream up stderr: one",
        "upstream up stderr: two",
        "upstream up stderr: three",
    ]
