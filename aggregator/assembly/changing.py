"""Taking up another configuration while people are served: which parts follow it, and in which order.

Upstreams and everything that is said of them follow. All other settings were built
in when the process started.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..config.model import Config, Servable, Upstream
from ..upstream.roster import Change, change_between
from ..web.app import Application
from ..web.people.accounts import Accounts, catalog_of
from .front import Front
from .ground import Ground
from .local import team_upstreams
from .relay import Relay


class Changing:
    """`team` is the configuration that everything was built of, as a team's."""

    def __init__(
        self,
        team: Config,
        ground: Ground,
        front: Front,
        relay: Relay,
        accounts: Accounts,
        application: Application,
    ) -> None:
        self._team = team
        self._ground = ground
        self._front = front
        self._relay = relay
        self._accounts = accounts
        self._application = application

    async def become(self, config: Servable) -> Change:
        """From now on the upstreams are those of `config`. Calls in flight end where they began; nobody is refused."""
        wanted = team_upstreams(config)
        enabled = [upstream for upstream in wanted if upstream.enabled]
        listings = self._relay.listings
        change = change_between(self._relay.roster.configured, enabled)
        async with self._relay.roster.becoming(enabled) as upstreams:
            # Nothing is awaited in this block: whoever comes now sees all of the one, or all of the other.
            team = replace(self._team, upstreams=wanted)
            routes = self._front.routes(team, self._accounts, partial(catalog_of, listings))
            reached = [upstream for upstream in wanted if isinstance(upstream, Upstream)]
            self._ground.oauth.know(reached)
            self._ground.connections.know(reached)
            self._application.replace_routes(routes)
            listings.replace(upstreams)
        return change

    def try_now(self, name: str | None = None) -> tuple[str, ...]:
        """See `Listings.try_now`."""
        return self._relay.listings.try_now(name)
