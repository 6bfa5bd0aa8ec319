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
from ..upstream.network.proxy import parse_proxy
from ..upstream.roster import Configured, OpenUpstream, open_roster

IDENTITY: Json = {"name": "mcp-aggregator-list", "version": __version__}


@dataclass(frozen=True, slots=True)
class Reached:
    """The upstreams, in the order in which they were named, and in whose name they are asked; nobody's if None."""

    person: Principal | None
    upstreams: Sequence[AuthorizedUpstream]


@asynccontextmanager
async def open_upstreams(config: AnyConfig | None, wanted: Sequence[AnyUpstream]) -> AsyncIterator[Reached]:
    """Open `wanted`, which belong to `config` or, without one, to nobody. Nothing is asked. On exit all are closed at
    the same time, since a program that does not heed it takes seconds to end."""
    served = [upstream for upstream in wanted if isinstance(upstream, Upstream | StdioUpstream)]  # there are no others
    async with AsyncExitStack() as stack:
        person: Principal | None = None
        open_one = _without_logins(config)
        if isinstance(config, LocalConfig) and _has_logins(config, served):
            try:
                open_one, served = await _with_logins(config, served, stack)
                person = LOCAL
            except StoreUnavailable:
                pass  # then without them: who is asked for a login says so
        roster = await stack.enter_async_context(open_roster(open_one, served))
        yield Reached(person, roster.upstreams)


def _has_logins(config: LocalConfig, upstreams: Sequence[AnyUpstream]) -> bool:
    """Whether there may be logins to go with. Where there is no store yet, `list` makes none."""
    if not any(upstream.auth_type == "oauth" for upstream in upstreams):
        return False
    return config.storage != "memory" and os.path.exists(config.storage)


def _without_logins(config: AnyConfig | None) -> OpenUpstream:
    context = ssl.create_default_context()
    if config is not None and config.ca_file is not None:
        context.load_verify_locations(config.ca_file)
    proxy = None if config is None else parse_proxy(config.proxy)

    @asynccontextmanager
    async def open_one(upstream: Configured, nursery: trio.Nursery) -> AsyncIterator[AuthorizedUpstream]:
        async with open_configured(upstream, IDENTITY, context, nursery, proxy) as peer:
            yield AuthorizedUpstream(upstream, peer, shared_credentials(upstream, nursery, time.time))

    return open_one


async def _with_logins(
    config: LocalConfig, upstreams: Sequence[Configured], stack: AsyncExitStack
) -> tuple[OpenUpstream, list[Configured]]:
    """How upstreams are opened with the logins of the store, and what they are called to that end.

    Raises:
        StoreUnavailable: if the store cannot be used.
    """
    from ..assembly.ground import open_ground
    from ..assembly.local import as_team
    from ..assembly.opening import opener

    team = await trio.to_thread.run_sync(as_team, config)
    ground = await stack.enter_async_context(open_ground(team, importing_for=None, clock=time.time))
    as_persons = {upstream.name: upstream for upstream in team.upstreams}
    return opener(ground), [as_persons[each.name] for each in upstreams]
