"""The aggregator as a whole: what is opened, in which order, and what closes it.

`open_aggregator` is for other trio programs, `serve` adds our own listening
sockets, `run` the process. Closing is leaving the blocks in reverse. This file
wires rooms together and decides nothing itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from .assembly.front import Front
from .assembly.ground import open_ground
from .assembly.local import as_team, local_front
from .assembly.relay import IDENTITY, open_relay
from .assembly.team import open_team_front
from .config.model import LocalConfig, Servable
from .deployment_keys import watch_secret_files
from .errors import StoreUnavailable
from .serving import check_reach, first_leaf, listen, run_until_signalled, say, serve_application, url_of
from .store import Store
from .tls import make_server_context, watch_certificate
from .upstream.listings import Listings
from .web.accounts import Accounts, catalog_of, statuses
from .web.app import Application
from .web.gate import Gate
from .web.hypercorn_guard import guarded
from .web.mcp_endpoint import McpEndpoint
from .web.mcp_streams import McpStreams
from .web.probes import probe_routes
from .web.reply import Receive, Send

# Seconds. What has expired is refused anyway; but anybody can begin and cancel logins, a row for each, by the hundred a
# second: an hour of them is 100 MB in the `memory` store.
PURGE_INTERVAL = 300.0
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h

log = logging.getLogger(__name__)


class Aggregator:
    """An open aggregator: an ASGI application. Its tasks belong to the block of `open_aggregator`."""

    def __init__(self, config: Servable, listings: Listings, streams: McpStreams) -> None:
        self.config = config
        self.draining = False
        self._listings = listings
        self._streams = streams
        self._app: Any = None

    def __repr__(self) -> str:
        return f"<Aggregator {self.config.issuer_url} {self._listings!r}{' draining' if self.draining else ''}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def start_draining(self) -> None:
        """From now on `/readyz` is red; requests are still answered, and streams that only listen end."""
        self.draining = True
        self._streams.close()


@asynccontextmanager
async def open_aggregator(config: Servable, *, clock: Callable[[], float] = time.time) -> AsyncIterator[Aggregator]:
    """Everything but a socket: store, identity provider, upstreams and the application over them.

    Neither the identity provider nor an upstream has to be there. A crash of a background task leaves this block as
    an exception. On exit upstream sessions are ended (bounded), then connections, then the store.

    Raises:
        StoreUnavailable: if the store cannot be opened.
    """
    async with AsyncExitStack() as stack:
        if isinstance(config, LocalConfig):
            team = await trio.to_thread.run_sync(as_team, config)
            importing_for = None
        else:
            team = config
            # What the predecessor's store file holds may only be sealed for somebody known, under a key that lasts.
            importing_for = config.auth.issuer if config.secret is not None else None
        ground = await stack.enter_async_context(open_ground(team, importing_for=importing_for, clock=clock))
        front: Front = (
            local_front(ground)
            if isinstance(config, LocalConfig)
            else await stack.enter_async_context(open_team_front(ground))
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        relay = await stack.enter_async_context(open_relay(ground, nursery))
        front.start(nursery)
        nursery.start_soon(keep_purged, ground.store, clock)
        nursery.start_soon(watch_secret_files, team, ground.keys)
        listings = relay.listings
        aggregator = Aggregator(config, listings, relay.streams)
        endpoint = McpEndpoint(
            front.authentication,
            relay.sessions,
            relay.methods,
            relay.questions,
            relay.pulse,
            relay.streams,
            body_limit=team.limits.body,
            clock=clock,
        )
        accounts = Accounts(ground.oauth, ground.connections, listings.upstreams(), partial(statuses, listings))
        aggregator._app = guarded(
            Application(
                Gate(team),
                urlsplit(team.issuer_url).path + team.listen.path,
                endpoint,
                front.routes(accounts, partial(catalog_of, listings)),
                probe_routes(ground.store, lambda: aggregator.draining, lambda: ground.agreement.is_broken),
                front.pages,
            )
        )
        listings.warm()
        yield aggregator
        nursery.cancel_scope.cancel("aggregator closed")


async def serve(
    config: Servable,
    *,
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `config` until cancelled, or until `shutdown` is set and the drain is over.

    `task_status` receives the bound addresses as URLs, once connections are accepted.

    Raises:
        CannotListen: if the address cannot be had, or must not be, before anything else is opened.
        StoreUnavailable: see `open_aggregator`.
    """
    sockets = listen(config.host, config.port)
    try:
        if isinstance(config, LocalConfig):
            check_reach(config.listen, sockets)
        config = with_bound_port(config, sockets[0].getsockname()[1])
        context = None if config.tls is None else make_server_context(config.tls)
        async with open_aggregator(config) as aggregator, trio.open_nursery() as nursery:
            if config.tls is not None and context is not None:
                nursery.start_soon(watch_certificate, config.tls, context)
            log.info("%s serves %s", IDENTITY["name"], ", ".join(upstream.name for upstream in config.upstreams))
            urls = [url_of(listener, scheme="https" if config.tls else "http") for listener in sockets]
            log.info("MCP endpoint %s/mcp on %s", config.issuer_url, ", ".join(urls))
            await serve_application(
                aggregator,
                host=config.host,
                port=config.port,
                drain=config.drain,
                shutdown=shutdown,
                sockets=sockets,
                context=context,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel("served")
    finally:
        for listener in sockets:
            listener.close()


def run(config: Servable) -> int:
    """Serve `config` as a process of its own until a signal; the exit code.

    69 if the store cannot be used, with the reason on stderr; else see `run_until_signalled`.
    """

    async def main(shutdown: trio.Event) -> None:
        await serve(config, shutdown=shutdown)

    exit_code = EXIT_UNAVAILABLE
    try:
        exit_code = run_until_signalled(main, drain=config.drain)
    except* StoreUnavailable as group:  # from within a block that has a nursery it comes in groups
        say(f"error: {first_leaf(group)}")
    return exit_code


def with_bound_port(config: Servable, port: int) -> Servable:
    """`config` with the port that the system chose, where the operator left the choice to it."""
    if config.port != 0:
        return config
    return replace(config, port=port, issuer_url=config.issuer_url.replace("://localhost:0", f"://localhost:{port}"))


async def keep_purged(store: Store, clock: Callable[[], float]) -> None:
    """Drop what has expired, every `PURGE_INTERVAL`; several processes doing so at once do no harm."""
    while True:
        await trio.sleep(PURGE_INTERVAL)
        try:
            await store.purge(now=clock())
        except StoreUnavailable as exc:
            log.warning("the store could not be purged: %s", exc)
