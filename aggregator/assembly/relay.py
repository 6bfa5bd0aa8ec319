"""From upstreams to methods: everything that answers MCP requests, whoever sends them and however they arrive."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from ..config.model import Config
from ..protocol.oauth.site import site_of
from ..protocol.principal import LOCAL
from ..upstream.authorized import AuthorizedUpstream
from ..upstream.listings import Listings
from ..upstream.peers import McpUpstream
from ..upstream.roster import Roster, open_roster
from ..upstream.streams import Streams
from ..web.mcp.asking import Asking
from ..web.mcp.client_sessions import ClientSessions
from ..web.mcp.conversing import Conversing
from ..web.mcp.gateway_tools import GatewayTools, gateway_tools
from ..web.mcp.kept_streams import KeptStreams
from ..web.mcp.listening import Listening
from ..web.mcp.mailbox import Mailbox
from ..web.mcp.methods import McpMethods
from ..web.mcp.parking import Parking
from ..web.mcp.questions import Questions
from ..web.mcp.resumable_reply import ResumableReplies
from ..web.mcp.running_calls import RunningCalls
from ..web.mcp.session_endpoint import SessionEndpoint
from ..web.mcp.session_states import SessionStates
from ..web.mcp.streams import McpStreams
from ..web.mcp.taking_up import TakingUp
from ..web.mcp.tasks import TaskIds
from ..web.pulse import Pulse
from .ground import Ground
from .opening import IDENTITY, opener

__all__ = ["IDENTITY", "Relay", "open_relay"]

# Seconds that a list waits for upstreams of a daemon on one person's machine. Programs start slowly there, and whoever
# waits is at the keyboard; what comes later is told (list_changed), and the list says that it will not do for long
# (ttlMs). A client that starts us itself (stdio) lists once, often for good: it gets each upstream's whole time.
LOCAL_PATIENCE = 1.5


@dataclass(frozen=True, slots=True)
class Relay:
    """The parts that a front needs."""

    roster: Roster
    listings: Listings
    sessions: ClientSessions
    questions: Questions
    running: RunningCalls
    pulse: Pulse
    streams: McpStreams
    methods: McpMethods
    replies: ResumableReplies
    session_endpoint: SessionEndpoint


@asynccontextmanager
async def open_relay(ground: Ground, nursery: trio.Nursery) -> AsyncIterator[Relay]:
    """`nursery` has the tasks. No upstream has to be there; on exit their sessions are ended (bounded)."""
    config, keys, clock = ground.config, ground.keys, ground.clock
    async with AsyncExitStack() as stack:
        enabled = [upstream for upstream in config.upstreams if upstream.enabled]
        roster = await stack.enter_async_context(open_roster(opener(ground), enabled))
        listings = Listings(
            roster.upstreams,
            nursery,
            name_length=config.limits.name_length,
            ours=gateway_tools,
            stamp=ground.connections.stamp,
            patience=LOCAL_PATIENCE if is_local_daemon(config) else math.inf,
            retry=config.connect_retry,
        )
        site, mailbox, pulse = site_of(config.issuer_url), Mailbox(ground.store, clock=clock), Pulse()
        sessions = ClientSessions(keys, SessionStates(ground.store, mailbox))
        sessions.states.when_over(partial(forget, listings.upstreams()))
        nursery.start_soon(pulse.run)
        nursery.start_soon(mailbox.run)
        told = Streams(listings.upstreams(), nursery, listings.relist)
        questions = Questions(mailbox, sessions.states, patience=config.input_timeout)
        parking = Parking(nursery, keys, mailbox, patience=config.input_timeout, clock=clock)
        stack.enter_context(listings.watched(told.end_gone))
        tasks = TaskIds(keys, clock)
        methods = McpMethods(
            config,
            listings,
            GatewayTools(site, listings, ground.connections),
            Asking(site, keys, ground.connections, clock),
            Conversing(questions, parking),
            sessions,
            tasks,
            IDENTITY,
        )
        streams = McpStreams(Listening(listings, told), sessions, pulse, mailbox, tasks)
        kept = KeptStreams(mailbox.instance)
        nursery.start_soon(kept.run)
        yield Relay(
            roster,
            listings,
            sessions,
            questions,
            RunningCalls(mailbox),
            pulse,
            streams,
            methods,
            ResumableReplies(kept, nursery),
            SessionEndpoint(streams, TakingUp(kept, sessions.states, pulse, mailbox, nursery)),
        )


def forget(upstreams: Mapping[str, AuthorizedUpstream | McpUpstream], client: str) -> None:
    """A client ended its session: older upstreams need not keep theirs with it."""
    for upstream in upstreams.values():
        upstream.forget(client)


def is_local_daemon(config: Config) -> bool:
    return config.auth.issuer == LOCAL.issuer and config.listen.transport == "http"
