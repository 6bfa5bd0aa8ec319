"""From upstreams to methods: everything that answers MCP requests, whoever sends them and however they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from .. import __version__
from ..config.model import Upstream
from ..protocol.jsonrpc import Json
from ..protocol.oauth.site import site_of
from ..upstream.authorized import AuthorizedUpstream
from ..upstream.kinds import open_configured, shared_credentials
from ..upstream.listings import Listings
from ..upstream.personal_credentials import PersonalCredentials
from ..upstream.streams import Streams
from ..web.asking import Asking
from ..web.client_sessions import ClientSessions
from ..web.conversing import Conversing
from ..web.gateway_tools import GatewayTools, gateway_tools
from ..web.listening import Listening
from ..web.mcp_methods import McpMethods
from ..web.mcp_streams import McpStreams
from ..web.parking import Parking
from ..web.pulse import Pulse
from ..web.questions import Questions
from .ground import Ground

IDENTITY: Json = {"name": "mcp-aggregator", "title": "MCP aggregator", "version": __version__}


@dataclass(frozen=True, slots=True)
class Relay:
    """The parts that a front needs."""

    listings: Listings
    sessions: ClientSessions
    questions: Questions
    pulse: Pulse
    streams: McpStreams
    methods: McpMethods


@asynccontextmanager
async def open_relay(ground: Ground, nursery: trio.Nursery) -> AsyncIterator[Relay]:
    """`nursery` has the tasks. No upstream has to be there; on exit their sessions are ended (bounded)."""
    config, keys, clock = ground.config, ground.keys, ground.clock
    async with AsyncExitStack() as stack:
        upstreams = []
        for upstream in config.upstreams:
            if not upstream.enabled:
                continue
            opened = open_configured(upstream, IDENTITY, ground.own, nursery, ground.proxy)
            credentials = (
                PersonalCredentials(upstream, ground.connections, clock)
                if isinstance(upstream, Upstream) and upstream.auth_type == "user"
                else shared_credentials(upstream, nursery, clock)
            )
            upstreams.append(AuthorizedUpstream(upstream, await stack.enter_async_context(opened), credentials))
        listings = Listings(upstreams, nursery, name_length=config.limits.name_length, ours=gateway_tools)
        site, sessions, pulse = site_of(config.issuer_url), ClientSessions(keys), Pulse()
        nursery.start_soon(pulse.run)
        told = Streams(listings.upstreams(), nursery, listings.relist)
        questions = Questions(patience=config.input_timeout)
        parking = Parking(nursery, keys, questions.instance, patience=config.input_timeout, clock=clock)
        methods = McpMethods(
            config,
            listings,
            GatewayTools(site, listings, ground.connections),
            Asking(site, keys, ground.connections, clock),
            Conversing(questions, parking),
            sessions,
            IDENTITY,
        )
        streams = McpStreams(Listening(listings, told), sessions, pulse)
        yield Relay(listings, sessions, questions, pulse, streams, methods)
