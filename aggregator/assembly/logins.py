"""Local mode: asking the person at this machine to log in where upstreams wait for it.

For each upstream once, one after another: the connect link is logged, and opened
in the browser unless ``openBrowser`` says no. What is asked at the start is what
keeps an upstream from being listed, or with mcpmux's ``eager_auth`` every account that is
not there yet; one that is down at first is asked for when it is there. A login that
ends later is asked for when a call needs it, and by `mcp-aggregator login`: no window
opens behind anybody's back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import trio

from ..config.model import AnyUpstream
from ..errors import StoreUnavailable
from ..protocol.oauth.site import Site
from ..protocol.principal import LOCAL, Principal
from ..upstream.upstream_status import UpstreamStatus
from ..web.mcp.gateway_tools import connect_url

PATIENCE = 180.0  # seconds for one login before the next is asked for; a person may do them in any order
GLANCE = 2.0  # seconds between two looks at who waits, as long as somebody may

OpenPage = Callable[[str], Awaitable[bool]]  # whether a browser was started
Statuses = Callable[[], Awaitable[Sequence[UpstreamStatus]]]  # of all upstreams, without asking them

log = logging.getLogger(__name__)


class Waiting(Protocol):
    async def wait_connected(self, principal: Principal, upstream: str) -> None:
        """Return once the account is connected."""
        ...


class Logins:
    """Asks while `run` runs.

    `configured` are the upstreams that there are now, `eager` is ``eager_auth``, `has_pages` whether a browser can open
    our pages.
    """

    def __init__(
        self,
        site: Site,
        configured: Callable[[], Iterable[AnyUpstream]],
        statuses: Statuses,
        connections: Waiting,
        open_page: OpenPage,
        *,
        eager: bool,
        has_pages: bool = True,
    ) -> None:
        self._site = site
        self._configured = configured
        self._statuses = statuses
        self._connections = connections
        self._open_page = open_page
        self._eager = eager
        self._has_pages = has_pages
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        return f"<Logins {sorted(self._asked)} asked for>"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for upstream in await self._missing():
                self._asked.add(upstream.name)
                await self._ask(upstream)
            await trio.sleep(GLANCE)

    def _logged_in_to(self) -> list[AnyUpstream]:
        return [config for config in self._configured() if config.browser_login is not None]

    async def _missing(self) -> list[AnyUpstream]:
        """Those whose login is missing and was not asked for."""
        if all(upstream.name in self._asked for upstream in self._logged_in_to()):
            return []
        try:
            statuses = {status.name: status for status in await self._statuses()}
        except StoreUnavailable:
            return []  # it is said elsewhere, and asked again
        return [
            config
            for config in self._logged_in_to()
            if config.name not in self._asked
            and (status := statuses.get(config.name)) is not None
            and (status.state == "needs_login" or (self._eager and status.standing.state == "shared"))
        ]

    async def _ask(self, upstream: AnyUpstream) -> None:
        url = connect_url(self._site, upstream.name)
        login = upstream.browser_login
        if not self._has_pages:
            log.warning("upstream %s waits for its login: run mcp-aggregator login %s", upstream.name, upstream.name)
            return
        opened = login is not None and login.open_browser and await self._open_page(url)
        how = "in the browser that was opened" if opened else "open it in a browser"
        log.warning("upstream %s waits for its login: %s (%s)", upstream.name, url, how)
        with trio.move_on_after(PATIENCE):
            await self._connections.wait_connected(LOCAL, upstream.name)
            log.info("upstream %s: logged in", upstream.name)
