"""The main job on real parts: real clients log in through a real provider and call tools of real upstreams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.parts.processes import free_port
from tests.parts.scripted_clients import KINDS, MODERN_KINDS, ClientRun, Kind, Mode, run_client
from tests.parts.servers import open_everything, open_oidc_provider, open_python_server, open_ts_server

from .deployment import Deployment, open_deployment

pytestmark = pytest.mark.live

BOTH: list[tuple[Kind, Mode]] = [(kind, "legacy") for kind in KINDS]
BOTH += [(kind, "2026") for kind in MODERN_KINDS]


@asynccontextmanager
async def open_all() -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        upstreams = {
            "everything": await stack.enter_async_context(open_everything()),
            "modern": await stack.enter_async_context(open_ts_server("modern")),
            "python": await stack.enter_async_context(open_python_server()),
        }
        yield await stack.enter_async_context(open_deployment(upstreams))


async def test_every_client_logs_in_and_calls_every_upstream(tmp_path: Path) -> None:
    """One deployment, every client, both revisions: one login each, then tools of all three upstreams."""
    async with open_all() as deployment:
        for kind, mode in BOTH:
            state = tmp_path / f"{kind}-{mode}"
            first = await run_client(
                kind,
                deployment.mcp,
                tool="everything__echo",
                arguments={"message": "hello"},
                mode=mode,
                state=state,
            )
            assert first.authorized, (kind, mode)
            assert text(first) == "Echo: hello"
            assert {"everything__get-sum", "modern__era", "python__count", "gateway__status"} <= set(first.tools)
            if kind != "mcp-remote":
                assert first.protocol == ("2026-07-28" if mode == "2026" else "2025-11-25")


async def test_progress_and_log_messages_pass_through_in_every_cell() -> None:
    """The Python server speaks both revisions to us as its clients do: here it is asked in 2026-07-28."""
    async with open_all() as deployment:
        cells: list[tuple[Kind, Mode]] = [("python1", "legacy"), ("python2", "2026"), ("typescript2", "legacy")]
        for kind, mode in cells:
            run = await run_client(kind, deployment.mcp, tool="python__count", arguments={"to": 3}, mode=mode)
            assert text(run) == "counted to 3"
            assert run.progress == [1, 2, 3], (kind, mode)
            if mode == "legacy":
                assert run.logs == ["counted 1", "counted 2", "counted 3"], kind


async def test_a_client_that_registered_before_a_restart_needs_nothing_after_it(tmp_path: Path) -> None:
    """Client id and tokens are sealed values: given a fixed secret and a store, a restart changes nothing."""
    async with AsyncExitStack() as stack:
        everything = await stack.enter_async_context(open_everything())
        port = free_port()
        issuer = await stack.enter_async_context(open_oidc_provider(f"http://127.0.0.1:{port}/callback"))
        store = str(tmp_path / "store.sqlite")
        runs = []
        for _ in range(2):
            async with open_deployment({"everything": everything}, issuer=issuer, port=port, storage=store) as running:
                runs.append(
                    await run_client(
                        "python2",
                        running.mcp,
                        tool="everything__echo",
                        arguments={"message": "again"},
                        state=tmp_path / "client",
                    )
                )
        assert [run.authorized for run in runs] == [True, False]
        assert [text(run) for run in runs] == ["Echo: again", "Echo: again"]


def text(run: ClientRun) -> str:
    assert run.result is not None
    content: str = run.result["content"][0]["text"]
    return content
