"""The aggregator as a whole: what is opened, in which order, and what closes it.

`open_aggregator` is for other trio programs, `serve` adds our own listening
sockets, `run` the process. Closing is leaving the blocks in reverse. This file
wires rooms together and decides nothing itself.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import trio

from .assembly.changing import Changing
from .assembly.front import Front
from .assembly.ground import open_ground
from .assembly.local import as_team, local_front
from .assembly.relay import IDENTITY, open_relay
from .assembly.team import open_team_front
from .config.model import LocalConfig, Servable
from .errors import StoreUnavailable
from .keys.deployment import watch_secret_files
from .protocol.principal import LOCAL
from .reloading import Reload, obey_signals, watch
from .serving import check_reach, first_leaf, listen, run_until_signalled, say, serve_application, url_of
from .stdio.front import PagesOnly, attend, needs_pages
from .stdio.pipes import Pipes
from .store import Store
from .systemd import Service, take_sockets
from .tls import make_server_context, watch_certificate
from .unix_socket import open_unix_socket
from .upstream.listings import NOBODY, Listings
from .upstream.roster import Change
from .web.app import Application
from .web.body_budget import BodyBudget
from .web.gate import Gate
from .web.hypercorn.guard import guarded
from .web.mcp.endpoint import McpEndpoint
from .web.mcp.streams import McpStreams
from .web.people.accounts import Accounts, Controls, catalog_of, known_statuses, statuses
from .web.probes import probe_routes
from .web.reply import Receive, Send

# Seconds. What has expired is refused anyway; but anybody can begin and cancel logins, a row for each, by the hundred a
# second: an hour of them is 100 MB in the `memory` store.
PURGE_INTERVAL = 300.0
STATUS_INTERVAL = 2.0  # seconds between two looks at what the service manager is to be told
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h

_WAITS = {"needs_login": "login", "unreachable": "unreachable", "retrying": "trying again", "connecting": "connecting"}

ServableT = TypeVar("ServableT", bound=Servable)

log = logging.getLogger(__name__)


class Aggregator:
    """An open aggregator: an ASGI application. Its tasks belong to the block of `open_aggregator`."""

    def __init__(self, config: Servable, listings: Listings, streams: McpStreams) -> None:
        self.config = config
        self.draining = False
        self._listings = listings
        self._streams = streams
        self._app: Any = None
        self._changing: Changing | None = None

    def __repr__(self) -> str:
        return f"<Aggregator {self.config.issuer_url} {self._listings!r}{' draining' if self.draining else ''}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def summary(self) -> str:
        """How many upstreams answer, and which wait for something; one line."""
        view = self._listings.view_at_hand(LOCAL if isinstance(self.config, LocalConfig) else NOBODY)
        if view is None:
            return "draining" if self.draining else "starting"
        rows = self._listings.status(view)
        answering = [row for row in rows if row.state == "connected"]
        told = f"{len(answering)} of {len(rows)} upstreams, {sum(row.tools for row in answering)} tools"
        waiting = ", ".join(f"{row.name} ({_WAITS[row.state]})" for row in rows if row.state in _WAITS)
        return ("draining: " if self.draining else "") + told + (f"; waiting for {waiting}" if waiting else "")

    async def become(self, config: Servable) -> Change:
        """Take up the upstreams of another configuration of the same mode; see `Changing.become`."""
        assert self._changing is not None
        return await self._changing.become(config)

    def try_now(self, name: str | None = None) -> tuple[str, ...]:
        """Have upstreams that fail be tried at once: all, or the one called `name`. Which were tried, by name."""
        return self._listings.try_now(name)

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
        front.start(nursery, relay.listings)
        nursery.start_soon(keep_purged, ground.store, clock)
        nursery.start_soon(watch_secret_files, team, ground.keys)
        listings = relay.listings
        aggregator = Aggregator(config, listings, relay.streams)
        endpoint = McpEndpoint(
            front.authentication,
            relay.sessions,
            relay.methods,
            relay.questions,
            relay.running,
            relay.pulse,
            relay.streams,
            relay.replies,
            relay.session_endpoint,
            body_limit=team.limits.body,
            clock=clock,
        )
        accounts = Accounts(
            ground.oauth,
            ground.connections,
            listings.upstreams(),
            partial(statuses, listings),
            controls=Controls(partial(known_statuses, listings), aggregator.try_now),
        )
        application = Application(
            Gate(team),
            urlsplit(team.issuer_url).path + team.listen.path,
            endpoint,
            front.routes(team, accounts, partial(catalog_of, listings)),
            probe_routes(
                ground.store,
                lambda: aggregator.draining,
                lambda: ground.agreement.is_broken,
                lambda: ground.connections.is_behind,
            ),
            front.pages,
            BodyBudget(team.limits.body),
        )
        aggregator._app = guarded(application)
        aggregator._changing = Changing(team, ground, front, relay, accounts, application)
        listings.warm()
        yield aggregator
        nursery.cancel_scope.cancel("aggregator closed")


async def serve(
    config: Servable,
    *,
    shutdown: trio.Event | None = None,
    passed: Sequence[socket.socket] = (),
    service: Service | None = None,
    reload: Reload | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `config` until cancelled, or until `shutdown` is set and the drain is over.

    `passed` are listening sockets that somebody else has opened, in the place of those that `config` names; they are
    taken over. `service` is told how we do. `task_status` receives the bound addresses as URLs, once connections are
    accepted. With `reload`, SIGHUP and SIGUSR1 are obeyed.

    Raises:
        CannotListen: if the address cannot be had, or must not be, before anything else is opened.
        StoreUnavailable: see `open_aggregator`.
    """
    service = service or Service({})
    with open_sockets(config, passed) as sockets:
        if isinstance(config, LocalConfig):
            check_reach(config.listen, sockets)
        config = as_listened(config, sockets)
        context = None if config.tls is None else make_server_context(config.tls)
        async with open_aggregator(config) as aggregator, trio.open_nursery() as nursery:
            if config.tls is not None and context is not None:
                nursery.start_soon(watch_certificate, config.tls, context)
            await start_reloading(nursery, aggregator, reload)
            log.info("%s serves %s", IDENTITY["name"], _names(config))
            urls = [url_of(listener, scheme="https" if config.tls else "http") for listener in sockets]
            log.info("MCP endpoint %s%s on %s", config.issuer_url, config.listen.path, ", ".join(urls))
            nursery.start_soon(service.feed_watchdog)
            nursery.start_soon(tell_status, aggregator, service)
            nursery.start_soon(tell_stopping, shutdown, service)
            await serve_application(
                aggregator,
                host=config.host,
                port=config.port,
                drain=config.drain,
                shutdown=shutdown,
                sockets=sockets,
                context=context,
                task_status=_Ready(service, task_status),  # type: ignore[arg-type]  # mypy: one overload of two
            )
            nursery.cancel_scope.cancel("served")


async def start_reloading(nursery: trio.Nursery, aggregator: Aggregator, reload: Reload | None) -> None:
    if reload is not None:
        await nursery.start(obey_signals, aggregator, reload)
        if reload.files:
            nursery.start_soon(watch, aggregator, reload)


@contextmanager
def open_sockets(config: Servable, passed: Sequence[socket.socket]) -> Iterator[Sequence[socket.socket]]:
    """The listening sockets: those `passed` to us, else one at the path of `listen.socket`, else at host and port.

    Raises:
        CannotListen: if they cannot be had.
    """
    with ExitStack() as stack:
        if passed:
            sockets = tuple(passed)
        elif config.listen.socket is not None:
            sockets = (stack.enter_context(open_unix_socket(config.listen.socket)),)
        else:
            sockets = listen(config.host, config.port)
        for listener in sockets:
            stack.callback(listener.close)
        yield sockets


@dataclass(frozen=True, slots=True)
class _Ready:
    """Tells the service manager, too, when connections are accepted."""

    service: Service
    task_status: trio.TaskStatus[list[str]]

    def started(self, value: list[str]) -> None:
        self.service.ready()
        self.task_status.started(value)


def _names(config: Servable) -> str:
    return ", ".join(upstream.name for upstream in config.upstreams if upstream.enabled) or "no upstream"


async def tell_status(aggregator: Aggregator, service: Service) -> None:
    """Until cancelled; returns if nobody listens."""
    while service.is_there:
        service.status(aggregator.summary())
        await trio.sleep(STATUS_INTERVAL)


async def tell_stopping(shutdown: trio.Event | None, service: Service) -> None:
    if shutdown is not None:
        await shutdown.wait()
        service.stopping()


async def serve_stdio(config: LocalConfig, *, shutdown: trio.Event | None = None, reload: Reload | None = None) -> None:
    """Serve `config` over this process's standard input and output, until they end or `shutdown` is set.

    With `reload`, SIGHUP and SIGUSR1 are obeyed.

    Raises:
        StoreUnavailable: see `open_aggregator`.
    """
    if os.isatty(0):
        say("speaking MCP over standard input and output, as an MCP client expects it; for http set listen.transport")
    pipes = Pipes()
    sockets = listen("127.0.0.1", 0) if needs_pages(config) else ()
    with ExitStack() as stack:
        for listener in sockets:
            stack.callback(listener.close)
        config = as_listened(config, sockets)
        async with open_aggregator(config) as aggregator, trio.open_nursery() as nursery:
            if sockets:
                pages, port = PagesOnly(aggregator, config), config.port
                await nursery.start(
                    partial(serve_application, pages, host="127.0.0.1", port=port, drain=0.0, sockets=sockets)
                )
                log.info("pages for connecting accounts: %s/connections", config.issuer_url)
            await start_reloading(nursery, aggregator, reload)
            log.info("%s serves %s", IDENTITY["name"], _names(config))
            await attend(aggregator, config, pipes.lines(), pipes.write, shutdown=shutdown)
            nursery.cancel_scope.cancel("served")


def run(config: Servable, reload: Reload | None = None) -> int:
    """Serve `config` as a process of its own until a signal, or until its one client ends; the exit code.

    `reload` says how to load it again.

    69 if the store cannot be used, with the reason on stderr; else see `run_until_signalled`.
    """

    async def main(shutdown: trio.Event) -> None:
        if isinstance(config, LocalConfig) and config.listen.transport == "stdio":
            await serve_stdio(config, shutdown=shutdown, reload=reload)
            return
        sockets, service = take_sockets(os.environ), Service(os.environ)
        await serve(config, shutdown=shutdown, passed=sockets, service=service, reload=reload)

    exit_code = EXIT_UNAVAILABLE
    try:
        exit_code = run_until_signalled(main, drain=config.drain)
    except* StoreUnavailable as group:  # from within a block that has a nursery it comes in groups
        say(f"error: {first_leaf(group)}")
    return exit_code


def as_listened(config: ServableT, sockets: Sequence[socket.socket]) -> ServableT:
    """`config` as it is with these sockets."""
    port = bound_port(sockets)
    if port is not None:
        config = with_bound_port(config, port)
    if any(listener.family == socket.AF_UNIX for listener in sockets):
        # Clients must name some host, and this is what they write where there is none; no browser comes this way.
        config = replace(config, allowed_hosts=(*config.allowed_hosts, "localhost"))
    return config


def with_bound_port(config: ServableT, port: int) -> ServableT:
    """`config` with the port that is really listened at: chosen by the system, or by whoever passed the socket."""
    own = "://localhost" + ("" if config.listen.socket is not None else f":{config.port}")
    if not config.issuer_url.endswith(own):
        return replace(config, port=port)
    return replace(config, port=port, issuer_url=config.issuer_url.removesuffix(own) + f"://localhost:{port}")


def bound_port(sockets: Sequence[socket.socket]) -> int | None:
    """The first port that is listened at; None if there are only Unix sockets."""
    inet = (listener.getsockname()[1] for listener in sockets if listener.family != socket.AF_UNIX)
    return next(inet, None)


async def keep_purged(store: Store, clock: Callable[[], float]) -> None:
    """Drop what has expired, every `PURGE_INTERVAL`; several processes doing so at once do no harm."""
    while True:
        await trio.sleep(PURGE_INTERVAL)
        try:
            await store.purge(now=clock())
        except StoreUnavailable as exc:
            log.warning("the store could not be purged: %s", exc)
