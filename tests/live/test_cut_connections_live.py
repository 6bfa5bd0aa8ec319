"""Real clients whose connection is cut in the middle of a call get its answer, and everything before it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.parts.login import obtain_token
from tests.parts.scripted_clients import Kind, run_client
from tests.parts.servers import open_older_python_server
from tests.parts.servers.fixtures import open_fixture_server

from .cutting import open_cutting
from .deployment import open_deployment

pytestmark = pytest.mark.live

KINDS: tuple[Kind, ...] = ("python1", "python2", "typescript1", "typescript2")
OLDER = ("2025-06-18", "2025-03-26", "2024-11-05")
COUNTS = "test_tool_with_progress"


async def test_every_client_gets_the_answer_of_a_call_whose_connection_was_cut() -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            "new": await stack.enter_async_context(open_fixture_server("all")),
            "older": await stack.enter_async_context(open_fixture_server("older")),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)

        async def cut(kind: Kind, upstream: str, protocol: str | None = None) -> None:
            # Once behind the first message of the call, and once more on the stream that took it up.
            marks = (b'"progress":0', b'"progress":50')
            async with open_cutting(deployment.mcp, *marks) as (url, cutting):
                run = await run_client(kind, url, tool=f"{upstream}__{COUNTS}", token=token, protocol=protocol)
            assert run.result is not None
            assert run.result["content"][0]["text"] == "progress reported", (kind, upstream)
            # The Python SDKs forget what came on the stream that took up the first, and ask for it again.
            came = list(dict.fromkeys(run.progress)) if kind.startswith("python") else run.progress
            assert came == [0, 50, 100], (kind, upstream)
            assert cutting.cut == 2, (kind, upstream)
            assert run.protocol == (protocol or "2025-11-25")

        for upstream in upstreams:
            async with trio.open_nursery() as nursery:
                for kind in KINDS:
                    nursery.start_soon(cut, kind, upstream)

        async def undisturbed(protocol: str) -> None:
            """Older clients get ids, which they do not mind, and no event of empty data, which they would."""
            run = await run_client("python1", deployment.mcp, tool=f"new__{COUNTS}", token=token, protocol=protocol)
            assert (run.protocol, run.progress) == (protocol, [0, 50, 100])
            assert "Error parsing" not in run.output

        async with trio.open_nursery() as nursery:
            for protocol in OLDER:
                nursery.start_soon(cut, "python1", "new", protocol)
                nursery.start_soon(undisturbed, protocol)


async def test_every_client_is_asked_again_on_the_stream_that_takes_up_the_broken_one() -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            "new": await stack.enter_async_context(open_fixture_server("all")),
            "older": await stack.enter_async_context(open_older_python_server()),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)
        tools = {"new": "new__test_input_required_result_elicitation", "older": "older__ask"}

        async def cut(kind: Kind, tool: str) -> None:
            async with open_cutting(deployment.mcp, b"retry:") as (url, cutting):
                run = await run_client(kind, url, tool=tool, answer={"name": "Zoe"}, token=token)
            assert run.result is not None
            assert run.result["content"][0]["text"] == "Hello, Zoe!", (kind, tool)
            assert cutting.cut == 1

        for tool in tools.values():
            async with trio.open_nursery() as nursery:
                for kind in KINDS:
                    nursery.start_soon(cut, kind, tool)
