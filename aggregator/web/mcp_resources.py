"""`resources/read`: the URI leads to one upstream, and its answer is shown under the URI that was asked for."""

from __future__ import annotations

from ..protocol import jsonrpc
from ..protocol.catalog import Catalog
from ..protocol.jsonrpc import Failure, Success, failure
from ..protocol.links import Publish
from ..protocol.revisions import not_found_code
from ..protocol.uris import Place
from ..upstream.listings import Listings, View
from .asked import Asked
from .conversing import Tell
from .relaying import Errand, Relaying


class McpResources:
    """Reads resources."""

    def __init__(self, listings: Listings, relaying: Relaying) -> None:
        self._listings = listings
        self._relaying = relaying

    async def read(self, asked: Asked, tell: Tell) -> Success | Failure:
        """Raises:
        StoreUnavailable: if it is not known which accounts the person has connected.
        """
        uri = asked.call.params.get("uri")
        if not isinstance(uri, str):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'uri' must be a string")
        return await self._relaying.for_person(asked, lambda resumed: self._relay(resumed, uri, tell))

    async def _relay(self, asked: Asked, uri: str, tell: Tell) -> Success | Failure:
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        catalog = await self._listings.catalog_where(view, lambda found: found.locate_uri(uri) is not None)
        place = catalog.locate_uri(uri)
        if place is None:
            text = f"Resource not found: {uri[:200]}{self._unasked(view)}"
            return failure(asked.call.id, not_found_code(asked.revision), text, {"uri": uri})
        params = {**asked.call.params, "uri": place.uri}
        errand = Errand(place.upstream, uri, params, publish=_publisher(catalog, place, uri))
        return await self._relaying.run(asked, view, errand, tell)

    def _unasked(self, view: View) -> str:
        """Which upstreams might have it and could not be asked."""
        absent = [
            f"{row.name} ({'needs a login' if row.state == 'needs_login' else row.error or 'not listed yet'})"
            for row in self._listings.status(view)
            if row.state != "connected" and not row.stale
        ]
        return f"; not known yet: {', '.join(absent)[:500]}" if absent else ""


def _publisher(catalog: Catalog, place: Place, uri: str) -> Publish | None:
    """As the catalog's, but what was asked for is called as it was asked for."""
    publish = catalog.publisher(place.upstream)
    if publish is None and place.uri == uri:
        return None
    return lambda own: uri if own == place.uri else own if publish is None else publish(own)
