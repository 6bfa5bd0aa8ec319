"""The aggregator as a whole: what is opened, in which order, and what closes it.

`open_aggregator` is for other trio programs, `serve` adds our own listening
sockets, `run` the process. Closing is leaving the blocks in reverse. This file
wires rooms together and decides nothing itself.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from . import __version__
from .config.model import Config, Upstream
from .deployment_keys import describe, make_key_ring, watch_secret_files
from .errors import StoreUnavailable
from .key_agreement import open_key_agreement
from .protocol.jsonrpc import Json
from .protocol.oauth.site import site_of
from .serving import first_leaf, listen, run_until_signalled, say, serve_application, url_of
from .store import Store
from .store.open import open_store
from .tls import make_server_context, watch_certificate
from .upstream.authorized import AuthorizedUpstream
from .upstream.client_documents import ClientDocuments
from .upstream.connections import open_connections
from .upstream.identity_provider import open_identity_provider
from .upstream.kinds import open_configured, shared_credentials
from .upstream.learned_http import open_learned_http
from .upstream.listings import Listings
from .upstream.login_checks import open_login_checks
from .upstream.oauth_client import open_oauth_client
from .upstream.personal_credentials import PersonalCredentials
from .upstream.proxy import parse_proxy
from .upstream.streams import Streams
from .web.accounts import Accounts, catalog_of, statuses
from .web.app import Application
from .web.asking import Asking
from .web.bearer import BearerAuthentication
from .web.body_budget import BodyBudget
from .web.client_sessions import ClientSessions
from .web.clients import is_on_loopback
from .web.conversing import Conversing
from .web.gate import Gate
from .web.gateway_tools import GatewayTools, gateway_tools
from .web.hypercorn_guard import guarded
from .web.listening import Listening
from .web.mcp_endpoint import McpEndpoint
from .web.mcp_methods import McpMethods
from .web.mcp_streams import McpStreams
from .web.pages import Pages
from .web.parking import Parking
from .web.probes import probe_routes
from .web.pulse import Pulse
from .web.questions import Questions
from .web.reply import Receive, Send
from .web.revocations import Revocations
from .web.routes import oauth_routes

IDENTITY: Json = {"name": "mcp-aggregator", "title": "MCP aggregator", "version": __version__}
# Seconds. What has expired is refused anyway; but anybody can begin and cancel logins, a row for each, by the hundred a
# second: an hour of them is 100 MB in the `memory` store.
PURGE_INTERVAL = 300.0
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h

log = logging.getLogger(__name__)


class Aggregator:
    """An open aggregator: an ASGI application. Its tasks belong to the block of `open_aggregator`."""

    def __init__(self, config: Config, listings: Listings) -> None:
        self.config = config
        self._listings = listings
        self._app: Any = None
        self._streams: McpStreams | None = None
        self.draining = False

    def __repr__(self) -> str:
        return f"<Aggregator {self.config.issuer_url} {self._listings!r}{' draining' if self.draining else ''}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def start_draining(self) -> None:
        """From now on `/readyz` is red; requests are still answered, and streams that only listen end."""
        self.draining = True
        if self._streams is not None:
            self._streams.close()


@asynccontextmanager
async def open_aggregator(config: Config, *, clock: Callable[[], float] = time.time) -> AsyncIterator[Aggregator]:
    """Everything but a socket: store, identity provider, upstreams and the application over them.

    Neither the identity provider nor an upstream has to be there. A crash of a background task leaves this block as
    an exception. On exit upstream sessions are ended (bounded), then connections, then the store.

    Raises:
        StoreUnavailable: if the store cannot be opened.
    """
    keys = await trio.to_thread.run_sync(make_key_ring, config)
    log.info("secret: %s; all instances of a deployment name the same", describe(keys))
    # What the predecessor's store file holds may only be sealed for somebody known, under a key that lasts.
    importing_for = config.auth.issuer if config.secret is not None else None
    context = ssl.create_default_context()
    trust = context  # strangers' hosts are not vouched for by an authority of the operator's own
    if config.ca_file is not None:
        trust = ssl.create_default_context()
        trust.load_verify_locations(config.ca_file)
    proxy = parse_proxy(config.proxy)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(config.storage, keys, issuer=importing_for, clock=clock))
        revocations = Revocations(config.tokens.access, clock=clock)
        await revocations.read(store)
        identity_provider = await stack.enter_async_context(
            open_identity_provider(
                config.auth, f"{config.issuer_url}/callback", clock=clock, ssl_context=trust, proxy=proxy
            )
        )
        login_checks = await stack.enter_async_context(open_login_checks(store, identity_provider, clock=clock))
        learned = await stack.enter_async_context(
            open_learned_http(context, allow_loopback=is_on_loopback(config), proxy=proxy)
        )
        agreement = await stack.enter_async_context(open_key_agreement(store, keys, clock=clock))
        reached = [upstream for upstream in config.upstreams if isinstance(upstream, Upstream)]
        oauth = await stack.enter_async_context(
            open_oauth_client(config, store, public=context, own=trust, proxy=proxy, clock=clock)
        )
        connections = await stack.enter_async_context(open_connections(store, oauth, reached, clock=clock))
        nursery = await stack.enter_async_context(trio.open_nursery())
        upstreams = [
            AuthorizedUpstream(
                upstream,
                await stack.enter_async_context(open_configured(upstream, IDENTITY, trust, nursery, proxy)),
                PersonalCredentials(upstream, connections, clock)
                if isinstance(upstream, Upstream) and upstream.auth_type == "user"
                else shared_credentials(upstream, nursery, clock),
            )
            for upstream in config.upstreams
            if upstream.enabled
        ]
        listings = Listings(upstreams, nursery, name_length=config.limits.name_length, ours=gateway_tools)
        nursery.start_soon(revocations.watch, store)
        nursery.start_soon(keep_purged, store, clock)
        nursery.start_soon(watch_secret_files, config, keys)
        aggregator = Aggregator(config, listings)
        pages = Pages(config)
        site = site_of(config.issuer_url)
        documents = ClientDocuments(learned, config.client_schemes)
        sessions = ClientSessions(keys)
        pulse = Pulse()
        nursery.start_soon(pulse.run)
        streams = McpStreams(
            Listening(listings, Streams(listings.upstreams(), nursery, listings.relist)), sessions, pulse
        )
        aggregator._streams = streams
        questions = Questions(patience=config.input_timeout)
        parking = Parking(nursery, keys, questions.instance, patience=config.input_timeout, clock=clock)
        endpoint = McpEndpoint(
            BearerAuthentication(config, keys, revocations, clock=clock),
            sessions,
            McpMethods(
                config,
                listings,
                GatewayTools(site, listings, connections),
                Asking(site, keys, connections, clock),
                Conversing(questions, parking),
                sessions,
                IDENTITY,
            ),
            questions,
            pulse,
            streams,
            body_limit=config.limits.body,
            clock=clock,
        )
        accounts = Accounts(oauth, connections, listings.upstreams(), partial(statuses, listings))
        aggregator._app = guarded(
            Application(
                Gate(config),
                urlsplit(config.issuer_url).path + "/mcp",
                endpoint,
                oauth_routes(
                    config,
                    keys,
                    store,
                    identity_provider,
                    login_checks,
                    revocations,
                    pages,
                    documents,
                    clock=clock,
                    accounts=accounts,
                    catalog_of=partial(catalog_of, listings),
                ),
                probe_routes(store, lambda: aggregator.draining, lambda: agreement.is_broken),
                pages,
                BodyBudget(config.limits.body),
            )
        )
        listings.warm()
        yield aggregator
        nursery.cancel_scope.cancel("aggregator closed")


async def serve(
    config: Config,
    *,
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `config` until cancelled, or until `shutdown` is set and the drain is over.

    `task_status` receives the bound addresses as URLs, once connections are accepted.

    Raises:
        CannotListen: if the address cannot be had, before anything else is opened.
        StoreUnavailable: see `open_aggregator`.
    """
    sockets = listen(config.host, config.port)
    try:
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


def run(config: Config) -> int:
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


def with_bound_port(config: Config, port: int) -> Config:
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
