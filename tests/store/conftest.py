"""The stores of the contract suite, each as a fixture and as a way to open it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.store import Store
from aggregator.store.memory import open_memory_store
from aggregator.store.sqlite import open_sqlite_store

from .samples import NOW, keys


class Clock:
    """A wall clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    opening = (
        open_memory_store(clock=clock)
        if request.param == "memory"
        else open_sqlite_store(str(tmp_path / "store.sqlite"), keys(), clock=clock)
    )
    async with opening as opened:
        yield opened
