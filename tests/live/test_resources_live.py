"""Real clients read what two real upstreams have under the same URIs, one of every revision and one of older ones."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.parts.login import obtain_token
from tests.parts.scripted_clients import Kind, Mode, run_client
from tests.parts.servers.fixtures import open_fixture_server

from .deployment import open_deployment

pytestmark = pytest.mark.live

CLIENTS: list[tuple[Kind, Mode]] = [
    ("python1", "legacy"),
    ("python2", "legacy"),
    ("python2", "2026"),
    ("typescript1", "legacy"),
    ("typescript2", "legacy"),
    ("typescript2", "2026"),
]
OWN = ["test://static-text", "test://static-binary", "test://watched-resource"]
NAMESPACED = [uri.replace("test://", "test://older.gateway/") for uri in OWN]


async def test_every_sdk_reads_both_of_two_resources_with_one_uri() -> None:
    """Some SDKs parse URIs and write them anew: what is asked for, and what comes back, has to survive that."""
    async with AsyncExitStack() as stack:
        upstreams = {
            "all": await stack.enter_async_context(open_fixture_server("all")),
            "older": await stack.enter_async_context(open_fixture_server("older")),
        }
        deployment = await stack.enter_async_context(open_deployment(upstreams))
        token = await obtain_token(deployment.mcp)
        for kind, mode in CLIENTS:
            run = await run_client(kind, deployment.mcp, mode=mode, token=token, read=True)
            assert run.read is not None, (kind, mode)
            assert run.read["resources"] == {uri: uri for uri in (*OWN, *NAMESPACED)}, (kind, mode)
            assert run.read["templates"] == {
                "test://template/{id}/data": "test://template/7/data",
                "test://older.gateway/template/{id}/data": "test://older.gateway/template/7/data",
            }
            assert run.read["prompts"] == {"all__test_simple_prompt": 1, "older__test_simple_prompt": 1}
