"""How one upstream is opened, with the credentials that requests to it carry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .. import __version__
from ..config.model import Upstream
from ..protocol.jsonrpc import Json
from ..protocol.principal import LOCAL
from ..upstream.accounts.personal_credentials import PersonalCredentials
from ..upstream.authorized import AuthorizedUpstream
from ..upstream.kinds import open_configured, shared_credentials
from ..upstream.roster import Configured, OpenUpstream
from .ground import Ground

IDENTITY: Json = {"name": "mcp-aggregator", "title": "MCP aggregator", "version": __version__}


def opener(ground: Ground) -> OpenUpstream:
    """Opens upstreams over `ground`; see `open_configured` for what happens on exit."""
    one_person = ground.config.auth.issuer == LOCAL.issuer

    @asynccontextmanager
    async def open_one(config: Configured, nursery: trio.Nursery) -> AsyncIterator[AuthorizedUpstream]:
        credentials = (
            PersonalCredentials(config, ground.connections, ground.clock)
            if isinstance(config, Upstream) and config.auth_type == "user"
            else shared_credentials(config, nursery, ground.clock)
        )
        retry = ground.config.connect_retry
        async with open_configured(
            config, IDENTITY, ground.own, nursery, ground.proxy, one_person=one_person, retry=retry
        ) as peer:
            yield AuthorizedUpstream(config, peer, credentials)

    return open_one
