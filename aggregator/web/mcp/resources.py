"""`resources/read`: the URI leads to one upstream, and its answer is shown under the URI that was asked for."""

from __future__ import annotations

from ...protocol import jsonrpc
from ...protocol.catalog import Catalog
from ...protocol.jsonrpc import Failure, Success, failure
from ...protocol.links import Publish
from ...protocol.revisions import not_found_code
from ...protocol.uris import Place
from ...store.session_rows import MAX_SUBSCRIPTIONS, Subscribe, Unsubscribe
from ...upstream.listings import Listings, View
from ...upstream.locating import locate_uri
from .asked import Asked
from .client_sessions import ClientSessions
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

    async def subscribe(self, asked: Asked, sessions: ClientSessions) -> Success | Failure:
        """``resources/subscribe`` (2025-11-25 and before): from now on the session's stream tells of this resource.

        Raises:
            StoreUnavailable: if it is not known which accounts the person has connected.
        """
        uri, id = asked.call.params.get("uri"), asked.call.id
        if not isinstance(uri, str):
            return failure(id, jsonrpc.INVALID_PARAMS, "'uri' must be a string")
        view = await self._listings.view(asked.principal)
        _, place = await locate_uri(self._listings, view, uri)
        if place is None:
            told = f"Resource not found: {uri[:200]}{self._unasked(view)}"
            return failure(id, not_found_code(asked.revision), told, {"uri": uri})
        if asked.session is None:
            return failure(id, jsonrpc.INVALID_REQUEST, "a subscription belongs to a session; initialize first")
        if not await sessions.change(asked.session, Subscribe(uri)):
            told = f"this session has no room for it: {MAX_SUBSCRIPTIONS} subscriptions at most, of modest length"
            return failure(id, jsonrpc.INVALID_REQUEST, told)
        return Success(id, {})

    async def unsubscribe(self, asked: Asked, sessions: ClientSessions) -> Success | Failure:
        """What nobody subscribed to is unsubscribed as well.

        Raises:
            StoreUnavailable: if it cannot be remembered now.
        """
        uri = asked.call.params.get("uri")
        if not isinstance(uri, str):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'uri' must be a string")
        if asked.session is not None and uri in sessions.states.find(asked.session.id).subscriptions:
            await sessions.change(asked.session, Unsubscribe(uri))
        return Success(asked.call.id, {})

    async def _relay(self, asked: Asked, uri: str, tell: Tell) -> Success | Failure:
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        catalog, place = await locate_uri(self._listings, view, uri)
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
