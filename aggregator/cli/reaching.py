"""Reaching upstreams without serving: opened as a server opens them, with the logins that local mode's store holds.

The daemon may run meanwhile: processes share the store, and renew a token once for
all of them. This file must not know what upstreams are asked.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from .. import __version__
from ..config.model import AnyConfig, AnyUpstream, LocalConfig, StdioUpstream, Upstream
from ..errors import StoreUnavailable
from ..protocol.jsonrpc import Json
from ..protocol.principal import LOCAL, Principal
from ..upstream.authorized import AuthorizedUpstream
from ..upstream.kinds import open_configured, shared_credentials
from ..upstream.proxy import parse_proxy

IDENTITY: Json = {"name": "mcp-aggregator-list", "version": __version__}


@dataclass(frozen=True, slots=True)
class Reached:
    """The upstreams, in the order in which they were named, and in whose name they are asked; nobody's if None."""

    person: Principal | None
    upstreams: Sequence[AuthorizedUpstream]


@asynccontextmanager
async def open_upstreams(
    config: AnyConfig | None, wanted: Sequence[AnyUpstream], nursery: trio.Nursery
) -> AsyncIterator[Reached]:
    """Open `wanted`, which belong to `config` or, without one, to nobody. Nothing is asked; all are closed on exit."""
    served = [upstream for upstream in wanted if isinstance(upstream, Upstream | StdioUpstream)]  # there are no others
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if isinstance(config, LocalConfig) and _has_logins(config, served):
            try:
                with_logins = await _with_logins(config, served, nursery, stack)
            except StoreUnavailable:
                pass  # then without them: who is asked for a login says so
            else:
                yield with_logins
                return
        context = ssl.create_default_context()
        if config is not None and config.ca_file is not None:
            context.load_verify_locations(config.ca_file)
        proxy = None if config is None else parse_proxy(config.proxy)
        reached = []
        for upstream in served:
            peer = await enter(open_configured(upstream, IDENTITY, context, nursery, proxy))
            reached.append(AuthorizedUpstream(upstream, peer, shared_credentials(upstream, nursery, time.time)))
        yield Reached(None, reached)


def _has_logins(config: LocalConfig, upstreams: Sequence[AnyUpstream]) -> bool:
    """Whether there may be logins to go with. Where there is no store yet, `list` makes none."""
    if not any(upstream.auth_type == "oauth" for upstream in upstreams):
        return False
    return config.storage != "memory" and os.path.exists(config.storage)


async def _with_logins(
    config: LocalConfig, upstreams: Sequence[Upstream | StdioUpstream], nursery: trio.Nursery, stack: AsyncExitStack
) -> Reached:
    """Raises:
    StoreUnavailable: if the store cannot be used.
    """
    from ..assembly.ground import open_ground
    from ..assembly.local import as_team
    from ..assembly.opening import opener

    team = await trio.to_thread.run_sync(as_team, config)
    ground = await stack.enter_async_context(open_ground(team, importing_for=None, clock=time.time))
    open_one = opener(ground)
    as_persons = {upstream.name: upstream for upstream in team.upstreams}
    reached = [await stack.enter_async_context(open_one(as_persons[each.name], nursery)) for each in upstreams]
    return Reached(LOCAL, reached)
