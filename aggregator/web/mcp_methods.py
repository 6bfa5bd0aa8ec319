"""What each MCP method does here: lists from the catalog, calls to upstreams, our own tools.

Deadlines around upstream work are set here and nowhere below. Whatever goes
wrong with an upstream becomes words that a model can act on: which upstream,
why, after how long. This file knows no HTTP.
"""

from __future__ import annotations

import logging

import trio

from ..config.model import Config, Upstream
from ..errors import ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol import jsonrpc
from ..protocol.catalog import Catalog
from ..protocol.headers import check_parameters, parameter_headers
from ..protocol.jsonrpc import Failure, Json, Success, dump, failure
from ..protocol.merged_tools import Route
from ..protocol.revisions import FOR_CLIENTS, LOG_LEVELS, is_stateless
from ..protocol.translate import result_for_client, signed, tool_error
from ..upstream.listings import Listings, View, why_refused
from ..upstream.peers import Answered, OnNotice
from .asked import Asked, Rendered
from .asking import Asking, Declined
from .client_sessions import ClientSessions
from .gateway_tools import GatewayTools, instructions

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


class McpMethods:
    """Dispatch by method, the same for every revision that has it."""

    def __init__(
        self,
        config: Config,
        listings: Listings,
        gateway: GatewayTools,
        asking: Asking,
        sessions: ClientSessions,
        server: Json,
    ) -> None:
        self._listings = listings
        self._upstreams = listings.upstreams()
        self._gateway = gateway
        self._asking = asking
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
                view = self._listings.view_at_hand(asked.principal)
                catalog = None if view is None else self._listings.catalog_at_hand(view)
                return None if view is None or catalog is None else self._list_tools(asked, view, catalog)
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
            StoreUnavailable: if it is not known which accounts the person has connected.
        """
        if asked.call.method == "tools/list":
            view = await self._listings.view(asked.principal)
            return self._list_tools(asked, view, await self._listings.catalog(view))
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

    def _list_tools(self, asked: Asked, view: View, catalog: Catalog) -> Rendered | Failure:
        cursor = asked.call.params.get("cursor")
        if not isinstance(cursor, str | None):
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, "'cursor' must be a string")
        ttl = int(self._listings.time_to_live(view) * 1000)
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
        if self._gateway.runs(name):
            return Success(id, await self._call_gateway(name, arguments, asked))
        key = asked.principal.key
        if self._calls.get(key, 0) >= self._calls_per_person:
            text = f"You have {self._calls_per_person} calls running already; wait for one of them to end."
            return Success(id, tool_error(text, asked.revision))
        self._calls[key] = self._calls.get(key, 0) + 1
        try:
            resumed = await self._asking.resume(asked)
            if isinstance(resumed, Declined):
                text = f"The person did not want to connect {resumed.upstream}, so nothing was run."
                return Success(id, tool_error(text, asked.revision))
            return await self._locate_and_relay(resumed, name, arguments, on_notice)
        finally:
            self._calls[key] -= 1
            if not self._calls[key]:
                del self._calls[key]

    async def _locate_and_relay(
        self, asked: Asked, name: str, arguments: Json, on_notice: OnNotice
    ) -> Success | Failure:
        started = trio.current_time()
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        route = (await self._listings.catalog_for(view, name)).locate(name)
        if route is None and (absent := self._listings.absent(view, name)) is not None:
            if absent.needs_login:
                return self._asking.ask(asked, absent.config, absent.error or "it asks for a login")
            cause = f"{absent.error}; its tools are not known yet, so nothing was run"
            elapsed = trio.current_time() - started
            return Success(asked.call.id, tool_error(_error_text(name, absent.config, cause, elapsed), asked.revision))
        if route is None:
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:128]}")
        if is_stateless(asked.revision):
            check_parameters(route.annotated, arguments, asked.headers)
        return await self._relay(asked, view, name, route, arguments, on_notice)

    async def _call_gateway(self, name: str, arguments: Json, asked: Asked) -> Json:
        try:
            view = await self._listings.view(asked.principal)
            return await self._gateway.call(name, arguments, view, asked.revision)
        except StoreUnavailable as exc:
            log.warning("%s: %s", name, exc)
            return tool_error(f"{name}: the aggregator's store is not available now; try again later.", asked.revision)

    async def _relay(
        self, asked: Asked, view: View, name: str, route: Route, arguments: Json, on_notice: OnNotice
    ) -> Success | Failure:
        upstream = self._upstreams[route.upstream]
        config = upstream.config
        headers = tuple(parameter_headers(route.annotated, arguments)) if route.annotated else ()
        params = {**asked.call.params, "name": route.tool}
        started = trio.current_time()
        cause: str
        with trio.move_on_after(config.tool_timeout):
            try:
                answered = await upstream.request(
                    asked.principal, "tools/call", params, asked.envelope, on_notice, headers
                )
                return self._answer_of(asked, view, upstream.name, answered)
            except ConnectNeeded as exc:
                return self._asking.ask(asked, config, str(exc))
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

    def _answer_of(self, asked: Asked, view: View, upstream: str, answered: Answered) -> Success | Failure:
        """Raises:
        UpstreamLost: for an answer that the client cannot be given.
        """
        match answered.outcome:
            case Failure(_, error) as refused:
                if refused.code == jsonrpc.HEADER_MISMATCH:
                    self._listings.doubt(view, upstream)  # its schema has changed, and with it the headers to send
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
