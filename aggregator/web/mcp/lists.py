"""The lists: tools, prompts, resources and resource templates of everything that a person sees, page by page."""

from __future__ import annotations

from ...protocol import jsonrpc
from ...protocol.catalog import Catalog
from ...protocol.jsonrpc import Failure, Json, dump, failure
from ...protocol.paging import Kind
from ...upstream.listings import Listings, View
from .asked import Asked, Rendered

LISTED: dict[str, Kind] = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


class McpLists:
    """Answers list requests, whose method is a key of `LISTED`. `server` is our own identity."""

    def __init__(self, listings: Listings, server: Json) -> None:
        self._listings = listings
        self._server = server

    def page_at_hand(self, asked: Asked) -> Rendered | Failure | None:
        """The page if nothing has to be waited for."""
        view = self._listings.view_at_hand(asked.principal)
        catalog = None if view is None else self._listings.catalog_at_hand(view)
        return None if view is None or catalog is None else self._page(asked, view, catalog)

    async def page(self, asked: Asked) -> Rendered | Failure:
        """Raises:
        StoreUnavailable: if it is not known which accounts the person has connected.
        """
        view = await self._listings.view(asked.principal)
        return self._page(asked, view, await self._listings.catalog(view))

    def _page(self, asked: Asked, view: View, catalog: Catalog) -> Rendered | Failure:
        cursor, kind = asked.call.params.get("cursor"), LISTED[asked.call.method]
        if not isinstance(cursor, str | None):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'cursor' must be a string")
        ttl = int(self._listings.time_to_live(view) * 1000)
        try:
            beginning, page = catalog.page(
                asked.revision, cursor, ttl=ttl, server=self._server, kind=kind, pages=asked.can_show_pages
            )
        except ValueError as exc:
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, str(exc))
        return Rendered((b"".join((b'{"jsonrpc":"2.0","id":', dump(asked.call.id), b',"result":', beginning)), page))
