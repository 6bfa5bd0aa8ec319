"""`open_store` chooses the store that the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aggregator.errors import StoreUnavailable
from aggregator.store.memory import MemoryStore
from aggregator.store.open import open_store
from aggregator.store.sqlite import SqliteStore

from .samples import keys


async def test_memory_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("memory", keys(), issuer=None) as store:
        assert isinstance(store, MemoryStore)
    assert not os.listdir(tmp_path)


async def test_a_path_is_sqlite(tmp_path: Path) -> None:
    async with open_store(str(tmp_path / "s.sqlite"), keys(), issuer=None) as store:
        assert isinstance(store, SqliteStore)


async def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("s 100%?.sqlite", keys(), issuer=None) as store:
        await store.check()
    assert (tmp_path / "s 100%?.sqlite").exists()


async def test_postgres_is_refused_for_now_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match="'postgresql://' stores are not supported yet") as caught:
        async with open_store("postgresql://me:hunter2@db/x", keys(), issuer=None):
            pass
    assert "hunter2" not in str(caught.value)
