"""Local mode: a team of one, on this machine. What it is before anything is opened, and its front.

Everything behind the front is the same as a team's: there is one person, `LOCAL`,
and the accounts that everybody shares are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from urllib.parse import urlsplit

import trio

from ..config.model import AnyUpstream, Auth, Config, LocalConfig, Servable, StdioUpstream, Upstream
from ..errors import StoreUnavailable
from ..keys.local import read_local_key
from ..keys.os_keyring import find_keyring
from ..local_browser import open_in_browser
from ..protocol.oauth.site import site_of
from ..protocol.principal import LOCAL
from ..store import Store
from ..upstream.listings import Listings
from ..upstream.upstream_status import UpstreamStatus
from ..web.http import Route
from ..web.local.control import control_routes
from ..web.local.door import LocalAuthentication, ThisMachine
from ..web.local.login_by_hand import LoginByHand, PendingLogins, by_hand_routes
from ..web.oauth.revocations import Revocations
from ..web.pages import LOCAL_PLACES, Pages
from ..web.people.accounts import Accounts
from ..web.people.loopback_return import LoopbackReturns
from ..web.people.tools_page import CatalogOf
from ..web.routes import local_routes
from .ground import Ground
from .logins import Logins

TOGETHER = 60.0  # seconds in which several processes open one window


def as_team(config: LocalConfig) -> Config:
    """The same as the configuration of a team of one, whose people `LOCAL` knows; with the key of this machine.

    Blocks: reads the key's file, or makes it, and the directory of the store.

    Raises:
        StoreUnavailable: if neither can be.
    """
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    settings["auth"] = Auth(LOCAL.issuer)
    settings["upstreams"] = team_upstreams(config)
    team = Config(**settings)
    if config.secret is None and config.storage != "memory":
        return replace(team, secret=read_local_key(config.storage, find_keyring()))
    return team


def team_upstreams(config: Servable) -> tuple[Upstream | StdioUpstream, ...]:
    """The upstreams as those of a team."""
    if not isinstance(config, LocalConfig):
        return config.upstreams
    return tuple(_personal(upstream) for upstream in config.upstreams)


def _personal(upstream: Upstream | StdioUpstream) -> Upstream | StdioUpstream:
    """One account for everybody is that of the one person."""
    return replace(upstream, auth_type="user") if upstream.auth_type == "oauth" else upstream


@dataclass(frozen=True, slots=True)
class LocalFront:
    """See `Front`."""

    ground: Ground
    authentication: LocalAuthentication
    pages: Pages
    returns: LoopbackReturns
    by_hand: PendingLogins

    def start(self, nursery: trio.Nursery, listings: Listings) -> None:
        """Logins are asked for. Nothing is issued, so there is nothing to revoke."""

        async def open_page(url: str) -> bool:
            if config.listen.transport == "stdio" and not await is_first(
                self.ground.store, url, now=self.ground.clock()
            ):
                return False
            return bool(await nursery.start(open_in_browser, url))

        async def statuses() -> tuple[UpstreamStatus, ...]:
            return listings.status(await listings.view(LOCAL))

        def configured() -> list[AnyUpstream]:
            return [upstream.config for upstream in listings.upstreams().values()]

        config, connections = self.ground.config, self.ground.connections
        site = site_of(config.issuer_url)
        logins = Logins(
            site, configured, statuses, connections, open_page, eager=config.eager_auth, has_pages=config.has_pages
        )
        nursery.start_soon(self.returns.run)
        nursery.start_soon(logins.run)

    def routes(self, config: Config, accounts: Accounts, catalog_of: CatalogOf) -> tuple[Route, ...]:
        clock, site = self.ground.clock, site_of(config.issuer_url)
        accounts = replace(accounts, returns=self.returns)
        pages = local_routes(
            config,
            self.ground.keys,
            self.ground.store,
            ThisMachine(site, config.listen),
            Revocations(config.tokens.access, clock=clock),
            self.pages,
            accounts,
            catalog_of,
            clock=clock,
        )
        if accounts.controls is None:
            return pages
        by_hand = LoginByHand(config, site, self.ground.store, accounts, self.by_hand)
        return (
            *pages,
            *control_routes(site, self.authentication, accounts.controls, accounts.connections),
            *by_hand_routes(by_hand, self.authentication),
        )


async def is_first(store: Store, url: str, *, now: float) -> bool:
    """Whether no other process has just opened the page `url` of its own: clients start one each, all at once."""
    page, slot = urlsplit(url).path, int(now // TOGETHER)
    try:
        if await store.is_consumed(f"opened:{page}:{slot - 1}"):
            return False
        return await store.consume(f"opened:{page}:{slot}", expires_at=now + 2 * TOGETHER)
    except StoreUnavailable:
        return True


def local_front(ground: Ground) -> LocalFront:
    return LocalFront(
        ground,
        LocalAuthentication(ground.config.listen),
        Pages(ground.config, LOCAL_PLACES),
        LoopbackReturns(),
        PendingLogins(),
    )
