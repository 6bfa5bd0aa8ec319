"""The real parts work by themselves, before ours stands between them."""

from __future__ import annotations

import pytest

from .scripted_clients import KINDS, MODERN_KINDS, ClientRun, Kind, run_client
from .servers import open_everything, open_python_server, open_ts_server

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", KINDS)
async def test_each_client_calls_a_server_with_sessions(kind: Kind) -> None:
    async with open_everything() as url:
        run = await run_client(kind, url, tool="echo", arguments={"message": "hello"})
    assert run.protocol == "2025-11-25"
    assert "get-sum" in run.tools
    assert _text(run) == "Echo: hello"
    assert not run.authorized


@pytest.mark.parametrize("kind", MODERN_KINDS)
async def test_each_modern_client_calls_a_modern_server(kind: Kind) -> None:
    async with open_ts_server("modern") as url:
        run = await run_client(kind, url, tool="era", mode="2026", token="a-bearer-nobody-checks")
    assert _text(run) == "modern"
    if kind != "mcp-remote":  # in front of it we speak stdio to an older revision
        assert run.protocol == "2026-07-28"


@pytest.mark.parametrize("kind", KINDS)
async def test_progress_and_log_messages_arrive(kind: Kind) -> None:
    async with open_python_server() as url:
        run = await run_client(kind, url, tool="count", arguments={"to": 3})
    assert _text(run) == "counted to 3"
    assert run.progress == [1, 2, 3]
    assert run.logs == ["counted 1", "counted 2", "counted 3"]


async def test_a_dual_server_serves_older_clients() -> None:
    async with open_ts_server("dual") as url:
        run = await run_client("python1", url, tool="add", arguments={"a": 2, "b": 3})
    assert _text(run) == "5"


def _text(run: ClientRun) -> str:
    assert run.result is not None
    text: str = run.result["content"][0]["text"]
    return text
