"""One aggregator on real sockets, in front of real upstreams and behind a real identity provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from aggregator.config.model import Auth, Config, Secret, StdioUpstream, Upstream
from aggregator.server import serve
from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers import PUBLIC, open_oidc_provider

from .oracle import Balance, assert_healthy, assert_tells_no_secret, kept_log

SECRET = "3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running aggregator. `shutdown` drains it."""

    url: str
    config: Config
    shutdown: trio.Event

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"


def config_of(
    issuer: str,
    port: int,
    upstreams: Mapping[str, str],
    *,
    upstream_fields: Mapping[str, Any] | None = None,
    commands: Sequence[StdioUpstream] = (),
    **more: Any,
) -> Config:
    """A configuration value for loopback; `more` are fields of `Config`, `upstream_fields` those of every upstream
    that has a URL."""
    # A slow machine's upstreams are in every list, too.
    each = {"discovery_timeout": PATIENCE, **(upstream_fields or {})}
    by_url = (Upstream(name, url, **{"prefix": name, **each}) for name, url in upstreams.items())
    fields: dict[str, Any] = {
        "auth": Auth(issuer, PUBLIC),
        "upstreams": (*by_url, *commands),
        "issuer_url": f"http://127.0.0.1:{port}",
        "host": "127.0.0.1",
        "port": port,
        "secret": Secret(SECRET),
        "drain": 2.0,
    }
    return Config(**{**fields, **more})


@asynccontextmanager
async def open_deployment(
    upstreams: Mapping[str, str], *, issuer: str | None = None, port: int = 0, **more: Any
) -> AsyncIterator[Deployment]:
    """The aggregator in front of `upstreams`; a real oidc-provider is started unless `issuer` names one.

    At the end of a block that did not fail: see `oracle`.
    """
    port = port or free_port()
    balance = await Balance.take()
    async with AsyncExitStack() as stack:
        log = stack.enter_context(kept_log())
        if issuer is None:
            issuer = await stack.enter_async_context(open_oidc_provider(f"http://127.0.0.1:{port}/callback"))
        config = config_of(issuer, port, upstreams, **more)
        shutdown = trio.Event()
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(_serve, config, shutdown)
            assert addresses == [f"http://127.0.0.1:{port}"]
            yield Deployment(config.issuer_url, config, shutdown)
            if not shutdown.is_set():
                await assert_healthy(config.issuer_url)
            assert_tells_no_secret(log(), (SECRET,))
            nursery.cancel_scope.cancel()
    await balance.assert_even()


async def _serve(
    config: Config, shutdown: trio.Event, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
) -> None:
    await serve(config, shutdown=shutdown, task_status=task_status)
