"""Long lists of tools, through pages on both sides."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.parts.scripted_clients import Kind, Mode, run_client
from tests.parts.servers import open_older_python_server, open_python_server

from .asking import LEGACY, MODERN, bearer_for, open_asking
from .deployment import open_deployment

pytestmark = pytest.mark.live

NOBODY_LOGS_IN = "http://127.0.0.1:9"
PAGES, ON_EACH = 5, 300


async def test_1500_tools_in_five_pages_arrive_at_every_client_in_one_order_across_restarts() -> None:
    expected = [f"long__tool_{number:04}" for number in range(PAGES * ON_EACH)]
    kinds: list[tuple[Kind, Mode]] = [("python1", "legacy"), ("python2", "2026"), ("typescript1", "legacy")]
    kinds.append(("typescript2", "2026"))
    seen: list[list[str]] = []
    async with AsyncExitStack() as stack:
        upstreams = {
            "short": await stack.enter_async_context(open_python_server()),
            "long": await stack.enter_async_context(open_older_python_server(pages=PAGES)),
        }
        for _ in range(2):
            async with open_deployment(upstreams, issuer=NOBODY_LOGS_IN) as deployment:
                token = bearer_for(deployment.url)
                for kind, mode in kinds:
                    run = await run_client(kind, deployment.mcp, mode=mode, token=token)
                    seen.append(run.tools)
                for revision in (MODERN, LEGACY):
                    async with open_asking(deployment.url, revision) as asking:
                        first = await asking.ask("tools/list")
                        assert len(first["tools"]) == 1000
                        assert "nextCursor" in first
                        seen.append(await asking.tools())
            kinds = kinds[:1]
    assert [name for name in seen[0] if name.startswith("long__")] == expected
    assert {"gateway__status", "short__echo"} < set(seen[0])
    assert len(seen[0]) == len(set(seen[0]))
    assert all(names == seen[0] for names in seen)
