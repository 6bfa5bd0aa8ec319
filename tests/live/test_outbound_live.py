"""Whom we trust on the way out: the system's authorities, and those of the operator's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.config.model import Config, Secret
from aggregator.server import open_aggregator
from tests.fakes.http_proxy import open_http_proxy
from tests.fakes.https import HttpsServer, make_authority, open_https_server
from tests.parts.processes import free_port, wait_until

from .deployment import config_of

pytestmark = pytest.mark.live


async def reached(config: Config, server: HttpsServer, *, connections: int = 0) -> set[str]:
    """The two paths that an aggregator just opened asks for; or what it has asked for after so many `connections`."""
    async with open_aggregator(config):
        if connections:
            await wait_until(lambda: server.connections >= connections)
        else:
            await wait_until(lambda: len({head.split()[1] for head in server.requests}) >= 2)
    return {head.split()[1] for head in server.requests}


async def test_an_authority_of_the_operator_is_trusted_for_provider_and_upstreams(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with open_https_server(authority) as server:
        url = f"https://localhost:{server.port}"
        without = config_of(url, free_port(), {"private": f"{url}/mcp"})
        assert await reached(without, server, connections=2) == set()  # they came, and turned away
        trusting = config_of(url, free_port(), {"private": f"{url}/mcp"}, ca_file=str(authority.authority))
        assert await reached(trusting, server) == {"/.well-known/openid-configuration", "/mcp"}


@pytest.mark.requirement("UP8")
async def test_provider_and_upstreams_are_reached_through_the_proxy_of_the_operator(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with (
        open_https_server(authority) as server,
        open_http_proxy({"client.example:443": server.port}) as proxy,
    ):
        proxy.authorization = "Basic YTpi"
        config = config_of(
            "https://client.example",
            free_port(),
            {"private": "https://client.example/mcp"},
            ca_file=str(authority.authority),
            proxy=Secret(f"http://a:b@127.0.0.1:{proxy.port}"),
        )
        assert await reached(config, server) == {"/.well-known/openid-configuration", "/mcp"}
    assert set(proxy.targets) == {"client.example:443"}
    assert set(server.sni) == {"client.example"}
