"""What each MCP method does here: lists from the catalog, calls to upstreams, our own tools.

Deadlines around upstream work are set here and nowhere below. Whatever goes
wrong with an upstream becomes words that a model can act on: which upstream,
why, after how long. This file knows no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from ..config.model import Config, Upstream
from ..errors import StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol import jsonrpc
from ..protocol.catalog import Catalog, Route
from ..protocol.headers import check_parameters, parameter_headers
from ..protocol.jsonrpc import Call, Failure, Json, Success, dump, failure
from ..protocol.names import is_gateway_name
from ..protocol.principal import Principal
from ..protocol.revisions import FOR_CLIENTS, LOG_LEVELS, is_stateless
from ..protocol.translate import Envelope, result_for_client, signed, tool_error
from ..upstream.http import HttpUpstream, OnNotice, Outgoing
from ..upstream.listings import Listings, why_refused
from .client_sessions import ClientSession, ClientSessions
from .gateway_tools import TOOLS, GatewayTools, instructions

DISCOVER_TTL = 3600_000  # milliseconds; what we say about ourselves changes with a restart only

# What an upstream says with these is about the request that we made. A client would take them for its own: a 404 for
# `tools/call`, a reason to fall back to an older revision.
_ABOUT_US = frozenset(
    {
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.HEADER_MISMATCH,
        jsonrpc.UNSUPPORTED_VERSION,
    }
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of one person, its envelope read."""

    call: Call
    revision: str
    principal: Principal
    envelope: Envelope
    headers: Mapping[str, str]
    session: ClientSession | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A whole JSON-RPC answer, JSON already."""

    body: bytes


class McpMethods:
    """Dispatch by method, the same for every revision that has it."""

    def __init__(
        self, config: Config, listings: Listings, gateway: GatewayTools, sessions: ClientSessions, server: Json
    ) -> None:
        self._listings = listings
        self._upstreams = listings.upstreams()
        self._gateway = gateway
        self._sessions = sessions
        self._server = server
        self._instructions = instructions(config.upstreams)
        self._calls_per_person = config.limits.calls_per_person
        self._calls: dict[str, int] = {}

    def answer_at_once(self, asked: Asked) -> Success | Failure | Rendered | None:
        """The answer to a request that nothing has to be waited for; None if something has.

        Most of what clients send is of this kind, and it needs no nursery.
        """
        call, stateless = asked.call, is_stateless(asked.revision)
        match call.method:
            case "tools/call":
                return None
            case "tools/list":
                catalog = self._listings.catalog_at_hand()
                return None if catalog is None else self._list_tools(asked, catalog)
            case "server/discover" if stateless:
                return Success(call.id, signed(self._discovered(), self._server))
            case "initialize" if not stateless:
                return Success(call.id, self._initialized(asked.revision))
            case "ping" if not stateless:
                return Success(call.id, {})
            case "logging/setLevel" if not stateless:
                return self._set_level(asked)
            case _:
                return failure(call.id, jsonrpc.METHOD_NOT_FOUND, f"Method not found: {call.method[:80]}")

    async def answer(self, asked: Asked, on_notice: OnNotice) -> Success | Failure | Rendered:
        """The answer to a request for which `answer_at_once` has none. Cancelling it cancels the upstream's work.

        Raises:
            Mismatch: if `Mcp-Param-*` headers contradict the arguments.
        """
        if asked.call.method == "tools/list":
            return self._list_tools(asked, await self._listings.catalog())
        outcome = await self._call_tool(asked, on_notice)
        if isinstance(outcome, Success) and is_stateless(asked.revision):
            return Success(outcome.id, signed(outcome.result, self._server))
        return outcome

    def _discovered(self) -> Json:
        return {
            "resultType": "complete",
            "supportedVersions": list(FOR_CLIENTS),
            "capabilities": {"tools": {}, "logging": {}},
            **({"instructions": self._instructions} if self._instructions else {}),
            "ttlMs": DISCOVER_TTL,
            "cacheScope": "private",
        }

    def _initialized(self, agreed: str) -> Json:
        return {
            "protocolVersion": agreed,
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": self._server,
            **({"instructions": self._instructions} if self._instructions else {}),
        }

    def _set_level(self, asked: Asked) -> Success | Failure:
        level = asked.call.params.get("level")
        if level not in LOG_LEVELS:
            expected = ", ".join(LOG_LEVELS)
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"'level' must be one of {expected}")
        if asked.session is not None:
            self._sessions.set_level(asked.session, level)
        return Success(asked.call.id, {})

    def _list_tools(self, asked: Asked, catalog: Catalog) -> Rendered | Failure:
        cursor = asked.call.params.get("cursor")
        if not isinstance(cursor, str | None):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'cursor' must be a string")
        ttl = int(self._listings.time_to_live() * 1000)
        try:
            page = catalog.page(asked.revision, cursor, ttl=ttl, server=self._server)
        except ValueError as exc:
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, str(exc))
        return Rendered(b"".join((b'{"jsonrpc":"2.0","id":', dump(asked.call.id), b',"result":', *page, b"}")))

    async def _call_tool(self, asked: Asked, on_notice: OnNotice) -> Success | Failure:
        params, id = asked.call.params, asked.call.id
        name, arguments = params.get("name"), params.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            return failure(id, jsonrpc.INVALID_PARAMS, "'name' must be a string and 'arguments' an object")
        arguments = arguments or {}
        if is_gateway_name(name) and any(tool["name"] == name for tool in TOOLS):
            return Success(id, await self._call_gateway(name, arguments, asked))
        key = asked.principal.key
        if self._calls.get(key, 0) >= self._calls_per_person:
            text = f"You have {self._calls_per_person} calls running already; wait for one of them to end."
            return Success(id, tool_error(text, asked.revision))
        self._calls[key] = self._calls.get(key, 0) + 1
        started = trio.current_time()
        try:
            route = (await self._listings.catalog_for(name)).locate(name)
            if route is None and (absent := self._listings.absent(name)) is not None:
                config, error = absent
                cause = f"{error}; its tools are not known yet, so nothing was run"
                elapsed = trio.current_time() - started
                return Success(id, tool_error(_error_text(name, config, cause, elapsed), asked.revision))
            if route is None:
                return failure(id, jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:128]}")
            if is_stateless(asked.revision):
                check_parameters(route.annotated, arguments, asked.headers)
            return await self._relay(asked, name, route, arguments, on_notice)
        finally:
            self._calls[key] -= 1
            if not self._calls[key]:
                del self._calls[key]

    async def _call_gateway(self, name: str, arguments: Json, asked: Asked) -> Json:
        try:
            return await self._gateway.call(name, arguments, asked.principal, asked.revision)
        except StoreUnavailable as exc:
            log.warning("%s: %s", name, exc)
            return tool_error(f"{name}: the aggregator's store is not available now; try again later.", asked.revision)

    async def _relay(
        self, asked: Asked, name: str, route: Route, arguments: Json, on_notice: OnNotice
    ) -> Success | Failure:
        config, upstream = self._upstreams[route.upstream]
        headers = tuple(parameter_headers(route.annotated, arguments)) if route.annotated else ()
        params = {**asked.call.params, "name": route.tool}
        outgoing = Outgoing("tools/call", params, asked.envelope, asked.principal.key, headers)
        started = trio.current_time()
        cause: str
        with trio.move_on_after(config.tool_timeout):
            try:
                return await self._ask(asked, upstream, outgoing, on_notice)
            except UpstreamRefused as exc:
                cause = why_refused(exc)
            except UpstreamLost as exc:
                cause = str(exc) if exc.executed else f"{exc}; the tool was not run"
            elapsed = trio.current_time() - started
            return Success(asked.call.id, tool_error(_error_text(name, config, cause, elapsed), asked.revision))
        cause = (
            f"no answer within toolTimeout ({config.tool_timeout:g} s); it was told to stop and may have run in part"
        )
        elapsed = trio.current_time() - started
        return Success(asked.call.id, tool_error(_error_text(name, config, cause, elapsed), asked.revision))

    async def _ask(
        self, asked: Asked, upstream: HttpUpstream, outgoing: Outgoing, on_notice: OnNotice
    ) -> Success | Failure:
        answered = await upstream.request(outgoing, on_notice)
        match answered.outcome:
            case Failure(_, error) as refused:
                if refused.code == jsonrpc.HEADER_MISMATCH:
                    self._listings.doubt(upstream.name)  # its schema has changed, and with it the headers to send
                if refused.code in _ABOUT_US:
                    raise UpstreamLost(f"refused our request: {refused.message[:200]} ({refused.code})")
                return Failure(asked.call.id, error)
            case Success(_, result):
                shown = result_for_client(result, answered.revision, asked.revision)
                if shown is None:
                    kind = str(result.get("resultType"))[:40]
                    raise UpstreamLost(
                        f"answered with a result of type '{kind}', which this client cannot be given yet"
                    )
                return Success(asked.call.id, shown)


def _error_text(name: str, config: Upstream, cause: str, elapsed: float) -> str:
    return f"Error calling {name}: upstream {config.name}: {cause} (after {elapsed:.1f} s)"
