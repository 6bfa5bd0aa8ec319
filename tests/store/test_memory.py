"""What only the memory store promises. The contract is in test_contract.py."""

from __future__ import annotations

from aggregator.store.memory import open_memory_store

from .samples import connection, grant


async def test_two_memory_stores_share_nothing() -> None:
    async with open_memory_store() as one, open_memory_store() as other:
        await one.add_grant(grant())
        assert await other.find_grant("g1") is None


async def test_its_text_counts_and_names_nobody() -> None:
    async with open_memory_store() as store:
        await store.add_grant(grant())
        await store.save_connection(connection())
        assert repr(store) == "<MemoryStore 1 grants, 1 connections>"
