"""Team mode's front: people log in at the identity provider, their clients have access tokens of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from ..config.model import Config
from ..upstream.client_documents import ClientDocuments
from ..upstream.identity.login_checks import open_login_checks
from ..upstream.identity.provider import open_identity_provider
from ..upstream.listings import Listings
from ..upstream.network.learned_http import open_learned_http
from ..web.http import Route
from ..web.oauth.authority import IdentityProvider, LoginChecking
from ..web.oauth.bearer import BearerAuthentication
from ..web.oauth.clients import is_on_loopback
from ..web.oauth.revocations import Revocations
from ..web.pages import Pages
from ..web.people.accounts import Accounts
from ..web.people.tools_page import CatalogOf
from ..web.routes import oauth_routes
from .ground import Ground


@dataclass(frozen=True, slots=True)
class TeamFront:
    """See `Front`. Opened by `open_team_front`."""

    ground: Ground
    authentication: BearerAuthentication
    pages: Pages
    identity_provider: IdentityProvider
    login_checks: LoginChecking
    revocations: Revocations
    documents: ClientDocuments

    def start(self, nursery: trio.Nursery, listings: Listings) -> None:
        nursery.start_soon(self.revocations.watch, self.ground.store)

    def routes(self, config: Config, accounts: Accounts, catalog_of: CatalogOf) -> tuple[Route, ...]:
        return oauth_routes(
            config,
            self.ground.keys,
            self.ground.store,
            self.identity_provider,
            self.login_checks,
            self.revocations,
            self.pages,
            self.documents,
            clock=self.ground.clock,
            accounts=accounts,
            catalog_of=catalog_of,
        )


@asynccontextmanager
async def open_team_front(ground: Ground) -> AsyncIterator[TeamFront]:
    """The identity provider does not have to be there.

    Raises:
        StoreUnavailable: if it is not known which grants are revoked.
    """
    config, clock = ground.config, ground.clock
    revocations = Revocations(config.tokens.access, clock=clock)
    await revocations.read(ground.store)
    open_provider = partial(open_identity_provider, clock=clock, ssl_context=ground.own, proxy=ground.proxy)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        provider = await enter(open_provider(config.auth, f"{config.issuer_url}/callback"))
        checks = await enter(open_login_checks(ground.store, provider, clock=clock))
        learned = await enter(
            open_learned_http(ground.public, allow_loopback=is_on_loopback(config), proxy=ground.proxy)
        )
        yield TeamFront(
            ground,
            BearerAuthentication(config, ground.keys, revocations, clock=clock),
            Pages(config),
            provider,
            checks,
            revocations,
            ClientDocuments(learned, config.client_schemes),
        )
