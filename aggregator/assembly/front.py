"""What differs between the modes in front: who may call, and which pages and endpoints there are."""

from __future__ import annotations

from typing import Protocol

import trio

from ..config.model import Config
from ..upstream.listings import Listings
from ..web.authentication import Authentication
from ..web.http import Route
from ..web.pages import Pages
from ..web.people.accounts import Accounts
from ..web.people.tools_page import CatalogOf


class Front(Protocol):
    """One mode's."""

    @property
    def authentication(self) -> Authentication: ...

    @property
    def pages(self) -> Pages: ...

    def start(self, nursery: trio.Nursery, listings: Listings) -> None:
        """Start what runs as long as requests are answered."""
        ...

    def routes(self, config: Config, accounts: Accounts, catalog_of: CatalogOf) -> tuple[Route, ...]:
        """Every endpoint but MCP's own and the probes, for the upstreams of `config`."""
        ...
