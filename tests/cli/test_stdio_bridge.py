"""Where `mcp-aggregator stdio` finds the server of a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.cli.stdio_bridge import endpoint_of
from aggregator.config.model import AnyConfig, Auth, Listen, Tls


def config(**keys: Any) -> AnyConfig:
    fields: dict[str, Any] = {"auth": None, "upstreams": (), "issuer_url": "http://localhost:3000", "host": "127.0.0.1"}
    return AnyConfig(**{**fields, **keys})


@pytest.mark.parametrize(
    ("keys", "endpoint"),
    [
        ({}, ("http://127.0.0.1:3000/mcp", None)),
        ({"host": "0.0.0.0", "port": 8080}, ("http://127.0.0.1:8080/mcp", None)),
        ({"host": "::", "port": 8080}, ("http://[::1]:8080/mcp", None)),
        ({"host": "192.168.1.5", "listen": Listen(path="/tools")}, ("http://192.168.1.5:3000/tools", None)),
        ({"listen": Listen(socket="/run/x.sock")}, ("http://localhost/mcp", "/run/x.sock")),
        ({"tls": Tls("c", "k"), "issuer_url": "https://me.example"}, ("https://me.example/mcp", None)),
        ({"auth": Auth("https://idp"), "issuer_url": "https://mcp.example"}, ("https://mcp.example/mcp", None)),
    ],
)
def test_the_server_is_where_its_configuration_lets_it_listen(
    keys: dict[str, Any], endpoint: tuple[str, str | None]
) -> None:
    assert endpoint_of(config(**keys)) == endpoint
