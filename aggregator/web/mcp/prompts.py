"""`prompts/get`, and `completion/complete` for the arguments of prompts and of resource templates."""

from __future__ import annotations

import trio

from ...protocol import jsonrpc
from ...protocol.jsonrpc import Failure, Json, Success, failure
from ...protocol.links import with_own_uris
from ...protocol.revisions import is_stateless
from ...upstream.listings import Listings
from ...upstream.locating import locate_prompt, locate_template
from .asked import Asked
from .conversing import Tell
from .relaying import Errand, Relaying

_NOTHING: Json = {"completion": {"values": [], "total": 0, "hasMore": False}}


class McpPrompts:
    """Gets prompts and completes arguments."""

    def __init__(self, listings: Listings, relaying: Relaying) -> None:
        self._listings = listings
        self._upstreams = listings.upstreams()
        self._relaying = relaying

    async def get(self, asked: Asked, tell: Tell) -> Success | Failure:
        """Raises:
        StoreUnavailable: if it is not known which accounts the person has connected.
        """
        name, arguments = asked.call.params.get("name"), asked.call.params.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'name' must be a string and 'arguments' an object")
        return await self._relaying.for_person(asked, lambda resumed: self._get(resumed, name, tell))

    async def complete(self, asked: Asked, tell: Tell) -> Success | Failure:
        """An upstream that completes nothing completes to nothing.

        Raises:
            StoreUnavailable: as `get`.
        """
        params = asked.call.params
        ref = params.get("ref")
        if not isinstance(ref, dict) or not isinstance(params.get("argument"), dict):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'ref' and 'argument' must be objects")
        key = {"ref/prompt": "name", "ref/resource": "uri"}.get(str(ref.get("type")))
        subject = ref.get(key) if key is not None else None
        if key is None or not isinstance(subject, str):
            expected = "'ref' must be of type 'ref/prompt' with a 'name' or 'ref/resource' with a 'uri'"
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, expected)
        return await self._relaying.for_person(asked, lambda resumed: self._complete(resumed, ref, key, subject, tell))

    async def _get(self, asked: Asked, name: str, tell: Tell) -> Success | Failure:
        started = trio.current_time()
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        catalog, route = await locate_prompt(self._listings, view, name)
        if route is None:
            unknown = failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"Unknown prompt: {name[:128]}")
            return self._relaying.absent(asked, view, name, started) or unknown
        params = {**asked.call.params, "name": route.prompt}
        if isinstance(given := params.get("arguments"), dict) and (own := catalog.receiver(route.upstream)) is not None:
            params["arguments"] = with_own_uris(given, own)
        errand = Errand(route.upstream, name, params, publish=catalog.publisher(route.upstream))
        return await self._relaying.run(asked, view, errand, tell)

    async def _complete(self, asked: Asked, ref: Json, key: str, subject: str, tell: Tell) -> Success | Failure:
        started = trio.current_time()
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        upstream: str | None = None
        own = subject
        if key == "name":
            _, route = await locate_prompt(self._listings, view, subject)
            if route is not None:
                upstream, own = route.upstream, route.prompt
        else:
            _, place = await locate_template(self._listings, view, subject)
            if place is not None:
                upstream, own = place.upstream, place.uri
        if upstream is None:
            unknown = failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"Nothing to complete is called {subject[:128]}")
            absent = self._relaying.absent(asked, view, subject, started) if key == "name" else None
            return absent or unknown
        known = self._upstreams.get(upstream)
        peer = known.peer if known is not None else None
        if peer is not None and not isinstance(peer.capabilities.get("completions"), dict):
            stateless = {"resultType": "complete"} if is_stateless(asked.revision) else {}
            return Success(asked.call.id, {**stateless, **_NOTHING})
        params = {**asked.call.params, "ref": {**ref, key: own}}
        return await self._relaying.run(asked, view, Errand(upstream, subject, params), tell)
