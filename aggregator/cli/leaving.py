"""What a person leaves behind at upstreams: their accounts, forgotten here and revoked where their tokens came from.

This works beside running servers: one that is about to refresh such an account
finds it gone and revokes what it was given. This file must not know who the
person is, nor words for operators.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio

from ..assembly.ground import trust_of
from ..config.model import Config, Upstream
from ..protocol.principal import Principal
from ..store import Connection, Store
from ..upstream.accounts.refreshing import Refreshes
from ..upstream.network.proxy import parse_proxy
from ..upstream.oauth.client import open_oauth_client


@dataclass(frozen=True, slots=True)
class EndedAccount:
    """`account` is as it was. `is_revoked` is False where its server could not be told, or did not say that it did."""

    account: Connection
    is_revoked: bool


async def end_accounts(config: Config, store: Store, principal: Principal) -> tuple[EndedAccount, ...]:
    """End every account of the person, by name of upstream: all of them here, then each at its authorization server,
    within `refreshing.REVOKE_DEADLINE`.

    Raises:
        StoreUnavailable: if they cannot be forgotten; those that were are not revoked.
    """
    gone = []
    for each in await store.connections_of(principal):
        forgotten = await store.forget_connection(principal, each.upstream)
        if forgotten is not None:
            gone.append(forgotten)
    if not gone:
        return ()
    configured = {upstream.name: upstream for upstream in config.upstreams if isinstance(upstream, Upstream)}
    revoked: set[str] = set()
    public, own = await trio.to_thread.run_sync(trust_of, config)
    async with (
        open_oauth_client(config, store, public=public, own=own, proxy=parse_proxy(config.proxy)) as oauth,
        trio.open_nursery() as nursery,
    ):
        refreshes = Refreshes(nursery, store, oauth, time.time, lambda changed: None)

        async def revoke(upstream: Upstream, connection: Connection) -> None:
            if await refreshes.revoke(upstream, connection):
                revoked.add(connection.upstream)

        for connection in gone:
            if connection.upstream in configured:
                nursery.start_soon(revoke, configured[connection.upstream], connection)
    return tuple(EndedAccount(connection, connection.upstream in revoked) for connection in gone)
