"""`mcp-aggregator stdio`: a client that speaks stdio only, connected to a running server.

This file owns where that server is, and the life of the process.
"""

from __future__ import annotations

import signal

import trio

from ..config.model import AnyConfig
from ..stdio.bridge import Bridge
from ..stdio.http_endpoint import open_http_endpoint
from ..stdio.pipes import Pipes

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where such a server is reached from its own machine


def endpoint_of(config: AnyConfig) -> tuple[str, str | None]:
    """The URL at which a server of this configuration is reached on this machine, and its Unix socket if it has one."""
    if config.listen.socket is not None:
        return f"http://localhost{config.listen.path}", config.listen.socket
    if config.auth is not None or config.tls is not None:  # a certificate has the name that people use
        return f"{config.issuer_url}{config.listen.path}", None
    host = _ANY.get(config.host, config.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port}{config.listen.path}", None


def run(url: str, socket: str | None, token: str | None) -> int:
    """Bridge until the client ends, or a signal; the exit code."""
    pipes = Pipes()

    async def main() -> None:
        async with open_http_endpoint(url, socket=socket, token=token) as endpoint, trio.open_nursery() as nursery:
            bridge = Bridge(endpoint, pipes.write)

            async def obey_signals() -> None:
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    async for _ in signals:
                        bridge.stop()

            nursery.start_soon(obey_signals)
            await bridge.run(pipes.lines())
            nursery.cancel_scope.cancel()

    trio.run(main)
    return 0
