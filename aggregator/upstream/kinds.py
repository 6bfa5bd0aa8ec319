"""Which kind of upstream a configuration means, and which credentials it has that are the same for everyone.

Each person's own accounts are `upstream/accounts/connections.py`'s affair. This file
chooses and opens; it does nothing else.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from ..config.model import AnyUpstream, ConnectRetry, StdioUpstream, Upstream
from ..protocol.jsonrpc import Json
from .commands.child import Command
from .commands.child_environment import FOR_HELPERS, FOR_SERVERS, child_environment
from .commands.credential_helper import HelperCredentials
from .commands.upstream import open_command
from .credentials import ConfiguredCredentials, Credentials, configured_headers
from .http.upstream import open_upstream
from .network.proxy import Proxy
from .peers import McpUpstream


@asynccontextmanager
async def open_configured(
    config: Upstream | StdioUpstream,
    client: Json,
    context: ssl.SSLContext,
    nursery: trio.Nursery,
    proxy: Proxy | None,
    *,
    one_person: bool = False,
    retry: ConnectRetry | None = None,
) -> AsyncIterator[McpUpstream]:
    """The upstream, ready to be asked; nothing is sent or started before the first request. See `open_upstream` and
    `open_command` for what happens on exit. `one_person` says that all who will ever ask are one and the same, `retry`
    how a command that fails is started again."""
    if isinstance(config, StdioUpstream):
        env = {name: value.reveal() for name, value in config.env.items()}
        command = Command(
            config.command, child_environment(os.environ, FOR_SERVERS, env), config.cwd, secrets=tuple(env.values())
        )
        async with open_command(
            config.name, command, client, nursery, idle_stop=config.idle_stop, one_person=one_person, retry=retry
        ) as started:
            yield started
    else:
        async with open_upstream(config.name, config.url, client, context, nursery, proxy) as reached:
            yield reached


def shared_credentials(config: AnyUpstream, nursery: trio.Nursery, clock: Callable[[], float]) -> Credentials:
    """What is sent for everyone: what a program prints, or what is configured. `nursery` runs the program."""
    if config.token_command is None:
        return ConfiguredCredentials(config)
    command = Command(config.token_command.argv, child_environment(os.environ, FOR_HELPERS, {}))
    more = configured_headers(config)
    return HelperCredentials(config.name, command, nursery, ttl=config.token_command.ttl, clock=clock, more=more)
