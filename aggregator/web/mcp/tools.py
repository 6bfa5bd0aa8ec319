"""`tools/call`: our own tools, and those of upstreams by their published names. This file knows no HTTP."""

from __future__ import annotations

import logging

import trio

from ...errors import StoreUnavailable
from ...protocol import jsonrpc
from ...protocol.headers import check_parameters, foreign_parameters, parameter_headers
from ...protocol.jsonrpc import Failure, Json, Success, failure
from ...protocol.links import with_own_uris
from ...protocol.revisions import is_stateless
from ...protocol.translate import tool_error
from ...upstream.listings import Listings
from ...upstream.locating import locate_tool
from .asked import Asked
from .conversing import Tell
from .gateway_tools import GatewayTools
from .relaying import Errand, Relaying
from .tasks import McpTasks

log = logging.getLogger(__name__)


class McpTools:
    """Calls tools."""

    def __init__(self, listings: Listings, gateway: GatewayTools, relaying: Relaying, tasks: McpTasks) -> None:
        self._listings = listings
        self._gateway = gateway
        self._relaying = relaying
        self._tasks = tasks

    async def call(self, asked: Asked, tell: Tell) -> Success | Failure:
        """Raises:
        Mismatch: if `Mcp-Param-*` headers contradict the arguments.
        StoreUnavailable: if it is not known which accounts the person has connected.
        """
        params, id = asked.call.params, asked.call.id
        name, arguments = params.get("name"), params.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            return failure(id, jsonrpc.INVALID_PARAMS, "'name' must be a string and 'arguments' an object")
        given = arguments or {}
        if self._gateway.runs(name):
            return Success(id, await self._call_gateway(name, given, asked))
        return await self._relaying.for_person(asked, lambda resumed: self._relay(resumed, name, given, tell))

    async def _relay(self, asked: Asked, name: str, arguments: Json, tell: Tell) -> Success | Failure:
        started = trio.current_time()
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        catalog, route = await locate_tool(self._listings, view, name)
        if route is None and (answer := self._relaying.absent(asked, view, name, started)) is not None:
            return answer
        if route is None:
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:128]}")
        headers: tuple[tuple[str, str], ...] = ()
        if is_stateless(asked.revision):
            check_parameters(route.annotated, arguments, asked.headers)
            headers = tuple(foreign_parameters(route.annotated, asked.headers))
        params = {**asked.call.params, "name": route.tool}
        if arguments and (own := catalog.receiver(route.upstream)) is not None:
            params["arguments"] = arguments = with_own_uris(arguments, own)
        if route.annotated:
            headers = (*parameter_headers(route.annotated, arguments), *headers)
        errand = Errand(route.upstream, name, params, headers, catalog.publisher(route.upstream))
        return self._tasks.handle(asked, route.upstream, await self._relaying.run(asked, view, errand, tell))

    async def _call_gateway(self, name: str, arguments: Json, asked: Asked) -> Json:
        try:
            view = await self._listings.view(asked.principal)
            return await self._gateway.call(name, arguments, view, asked.revision)
        except StoreUnavailable as exc:
            log.warning("%s: %s", name, exc)
            return tool_error(f"{name}: the aggregator's store is not available now; try again later.", asked.revision)
