"""A store that cannot be used ends `serve` with one line and 69, wherever in the opening that shows."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import trio

from tests.parts.processes import PATIENCE, free_port, open_process

from .own_process import configuration, open_own_process, stop

pytestmark = pytest.mark.live

NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize("table", ["meta", "grants"])
async def test_a_store_that_lacks_a_table_is_named_in_one_line(table: str, tmp_path: Path) -> None:
    store, file = tmp_path / "store.sqlite", tmp_path / "config.json"
    config = configuration(NOBODY, free_port(), {"gone": f"{NOBODY}/mcp"}, storage=str(store))
    async with open_own_process("serve", config) as process:
        assert await stop(process) == 0
    with sqlite3.connect(store) as database:
        database.execute(f"DROP TABLE {table}")
    database.close()
    file.write_text(json.dumps(config))
    async with open_process("serve", [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]) as process:
        with trio.fail_after(PATIENCE):
            assert await process.process.wait() == 69
        complaints = [line for line in process.output().splitlines() if " INFO " not in line]
    assert complaints == [
        f"mcp-aggregator: error: storage: {store}: no such table: {table} (SQLITE_ERROR). Nothing was changed."
    ]


async def test_a_store_that_takes_no_word_about_keys_serves_and_is_not_ready(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    config = configuration(NOBODY, free_port(), {"gone": f"{NOBODY}/mcp"}, storage=str(store))
    async with open_own_process("serve", config) as process:
        assert await stop(process) == 0
    with sqlite3.connect(store) as database:
        database.execute("CREATE TRIGGER ill BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'ill'); END")
    database.close()
    async with open_own_process("serve", config) as process:
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream("127.0.0.1", config["port"])
            async with stream:
                await stream.send_all(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 503")
        assert "Traceback" not in process.output()
        assert await stop(process) == 0
