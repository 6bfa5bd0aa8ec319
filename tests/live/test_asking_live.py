"""Every real client is asked something by every real server, through the aggregator, in all four cells."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.parts.install import sdk1_python
from tests.parts.login import obtain_token
from tests.parts.processes import PATIENCE, free_port
from tests.parts.scripted_clients import MODERN_KINDS, Kind, Mode, run_client
from tests.parts.servers import HERE as SERVERS
from tests.parts.servers import open_everything, open_older_python_server, open_ts_server
from tests.parts.servers.fixtures import open_fixture_server

from .asking import open_asking
from .deployment import open_deployment
from .own_process import open_own_process

pytestmark = pytest.mark.live

CLIENTS: list[tuple[Kind, Mode]] = [
    ("python1", "legacy"),
    ("python2", "legacy"),
    ("typescript1", "legacy"),
    ("typescript2", "legacy"),
    *((kind, "2026") for kind in MODERN_KINDS if kind != "mcp-remote"),
]
# They ask for a name and greet.
TOOLS = (
    "python2__test_input_required_result_elicitation",  # 2026-07-28
    "typescript2__ask",  # 2026-07-28
    "python2older__test_input_required_result_elicitation",  # 2025-11-25
    "python1__ask",  # 2025-11-25, with sessions
    "python1__ask_beside",  # on the stream of the session
)


async def test_every_client_is_asked_by_every_server() -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            "python2": await stack.enter_async_context(open_fixture_server("all")),
            "typescript2": await stack.enter_async_context(open_ts_server("modern")),
            "python2older": await stack.enter_async_context(open_fixture_server("older")),
            "python1": await stack.enter_async_context(open_older_python_server()),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)

        async def ask(kind: Kind, mode: Mode, tool: str) -> None:
            run = await run_client(kind, deployment.mcp, tool=tool, mode=mode, answer={"name": "Zoe"}, token=token)
            assert run.result is not None
            assert run.result["content"][0]["text"] == "Hello, Zoe!", (kind, mode, tool)
            assert run.protocol == ("2026-07-28" if mode == "2026" else "2025-11-25")

        for kind, mode in CLIENTS:
            async with trio.open_nursery() as nursery:
                for tool in TOOLS:
                    nursery.start_soon(ask, kind, mode, tool)


@pytest.mark.parametrize("kind", ["python1", "python2"])
async def test_calls_of_two_clients_of_one_person_are_each_asked_where_they_came_from(kind: Kind) -> None:
    """Twice as many calls as clients run when the server asks for roots and samples, on the streams of its sessions.

    Clients of 2026-07-28 have no sessions: theirs run apart once the server is known to ask so.
    """
    async with AsyncExitStack() as stack:
        upstreams = {"up": await stack.enter_async_context(open_older_python_server())}
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)
        mode: Mode = "2026" if kind == "python2" else "legacy"

        async def survey(folder: str, times: int, together: int) -> None:
            run = await run_client(
                kind,
                deployment.mcp,
                tool="up__survey",
                arguments={"together": together},
                mode=mode,
                folder=folder,
                times=times,
                token=token,
            )
            assert [result["content"][0]["text"] for result in run.results] == [f"file:///{folder} {folder}"] * times

        if mode == "2026":
            await survey("first", 1, 1)
        async with trio.open_nursery() as nursery:
            for folder in ("home", "work"):
                nursery.start_soon(survey, folder, 2, 4)


async def test_a_program_asks_the_one_client_whose_calls_run() -> None:
    """In local mode, where there is one person; several calls of one session of an older client are one client's."""
    port = free_port()
    program = {"name": "up", "command": [str(sdk1_python()), str(SERVERS / "python1.py"), "stdio"]}
    config = {"host": "127.0.0.1", "port": port, "storage": "memory", "upstreams": [program]}
    async with open_own_process("serve", config):
        async with open_asking(url := f"http://127.0.0.1:{port}") as asking:
            with trio.fail_after(PATIENCE):
                while "up__survey" not in await asking.tools():  # noqa: ASYNC110  programs start slowly
                    await trio.sleep(0.1)
        for kind, mode, times in (("python1", "legacy", 1), ("python1", "legacy", 3), ("python2", "2026", 1)):
            run = await run_client(
                kind,  # type: ignore[arg-type]
                f"{url}/mcp",
                tool="up__survey",
                arguments={"together": times},
                mode=mode,  # type: ignore[arg-type]
                folder="home",
                times=times,
                token="nobody asks for one",
            )
            assert [result["content"][0]["text"] for result in run.results] == ["file:///home home"] * times


async def test_every_client_calls_a_server_of_the_typescript_sdk_1() -> None:
    """Its tools that ask are there only in sessions of clients that can be asked: they are in no list of ours."""
    async with AsyncExitStack() as stack:
        upstreams = {"typescript1": await stack.enter_async_context(open_everything())}
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)
        for kind, mode in CLIENTS:
            told = {"message": f"{kind} {mode}"}
            run = await run_client(
                kind, deployment.mcp, tool="typescript1__echo", arguments=told, mode=mode, token=token
            )
            assert run.result is not None
            assert run.result["content"][0]["text"] == f"Echo: {kind} {mode}"
            assert "typescript1__trigger-elicitation-request" not in run.tools
            assert run.protocol == ("2026-07-28" if mode == "2026" else "2025-11-25")
