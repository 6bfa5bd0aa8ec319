"""What everything else stands on, in both modes: keys, store, trust in others' TLS, and accounts at upstreams."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from ..config.model import Config, Upstream
from ..keys.agreement import FOR_A_TEAM, FOR_ONE_PERSON, KeyAgreement, open_key_agreement
from ..keys.deployment import describe, make_key_ring
from ..protocol.principal import LOCAL
from ..protocol.sealing import KeyRing
from ..store import Store
from ..store.open import open_store
from ..upstream.accounts.connections import Connections, open_connections
from ..upstream.network.proxy import Proxy, parse_proxy
from ..upstream.oauth.client import OAuthClient, open_oauth_client

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ground:
    """`public` is the trust in strangers' hosts, `own` that in hosts of the operator's choice. `clock` is wall time."""

    config: Config
    keys: KeyRing
    store: Store
    agreement: KeyAgreement
    oauth: OAuthClient
    connections: Connections
    public: ssl.SSLContext
    own: ssl.SSLContext
    proxy: Proxy | None
    clock: Callable[[], float]


@asynccontextmanager
async def open_ground(
    config: Config, *, importing_for: str | None, clock: Callable[[], float]
) -> AsyncIterator[Ground]:
    """`importing_for` is the identity provider whose people our predecessor's store file holds, if it may be imported.

    On exit refreshes under way are finished, then the store closes.

    Raises:
        StoreUnavailable: if the store cannot be opened.
    """
    keys = await trio.to_thread.run_sync(make_key_ring, config)
    log.info("%s", _kept(config, keys))
    public, own = trust_of(config)
    proxy = parse_proxy(config.proxy)
    reached = [upstream for upstream in config.upstreams if isinstance(upstream, Upstream)]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(open_store(config.storage, keys, issuer=importing_for, clock=clock))
        complaint = FOR_ONE_PERSON if config.auth.issuer == LOCAL.issuer else FOR_A_TEAM
        agreement = await enter(open_key_agreement(store, keys, clock=clock, complaint=complaint))
        oauth = await enter(open_oauth_client(config, store, public=public, own=own, proxy=proxy, clock=clock))
        connections = await enter(open_connections(store, oauth, reached, clock=clock))
        yield Ground(config, keys, store, agreement, oauth, connections, public, own, proxy, clock)


def _kept(config: Config, keys: KeyRing) -> str:
    """What an operator, or the one person of local mode, wants to know of what is kept."""
    if config.auth.issuer != LOCAL.issuer:
        return f"secret: {describe(keys)}; all instances of a deployment name the same"
    if config.storage == "memory":
        return "logins to upstreams are kept in memory, until the end: set 'storage' to a file to keep them longer"
    return f"logins to upstreams are kept in {config.storage}, encrypted"


def trust_of(config: Config) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For strangers' hosts, which no authority of the operator's own vouches for, and for those the operator chose.

    Reads files.
    """
    public = ssl.create_default_context()
    if config.ca_file is None:
        return public, public
    own = ssl.create_default_context()
    own.load_verify_locations(config.ca_file)
    return public, own
