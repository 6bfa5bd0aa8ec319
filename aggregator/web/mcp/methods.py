"""Which method is answered where, and what we say about ourselves.

Lists, tools, resources and prompts have a file each (`lists`, `tools`,
`resources`, `prompts`); what goes to an upstream goes through `relaying`.
This file knows no HTTP.
"""

from __future__ import annotations

from ...config.model import Config
from ...protocol import jsonrpc
from ...protocol.jsonrpc import Failure, Json, Success, failure
from ...protocol.offering import Described, capabilities_for, instructions_for
from ...protocol.revisions import FOR_CLIENTS, LOG_LEVELS, is_stateless
from ...protocol.translate import signed
from ...store.session_rows import SetLevel
from ...upstream.listings import Listings
from .asked import Asked, Rendered
from .asking import Asking
from .client_sessions import ClientSessions
from .conversing import Conversing, Tell
from .gateway_tools import GatewayTools
from .lists import LISTED, McpLists
from .prompts import McpPrompts
from .relaying import Relaying
from .resources import McpResources
from .tasks import McpTasks, TaskIds
from .tools import McpTools

# Milliseconds. What we say about ourselves changes when an upstream does, or the configuration; while an upstream has
# not been met, it is a guess that the next moment may correct.
DISCOVER_TTL, GUESS_TTL = 600_000, 5_000


class McpMethods:
    """Dispatch by method, the same for every revision that has it."""

    def __init__(
        self,
        config: Config,
        listings: Listings,
        gateway: GatewayTools,
        asking: Asking,
        conversing: Conversing,
        sessions: ClientSessions,
        tasks: TaskIds,
        server: Json,
    ) -> None:
        self._upstreams = listings.upstreams()
        self._sessions = sessions
        self._server = server
        relaying = Relaying(listings, asking, conversing, calls_per_person=config.limits.calls_per_person)
        self._calls = relaying.calls
        self._lists = McpLists(listings, server)
        self._tasks = McpTasks(listings, relaying, tasks)
        self._tools = McpTools(listings, gateway, relaying, self._tasks)
        self._resources = McpResources(listings, relaying)
        self._prompts = McpPrompts(listings, relaying)

    def answer_at_once(self, asked: Asked) -> Success | Failure | Rendered | None:
        """The answer to a request that nothing has to be waited for; None if something has.

        Most of what clients send is of this kind, and it needs no nursery.
        """
        call, stateless = asked.call, is_stateless(asked.revision)
        match call.method:
            case "tools/call" | "resources/read" | "prompts/get" | "completion/complete":
                return None
            case "tasks/get" | "tasks/update" | "tasks/cancel" if stateless:
                return None
            case "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" if not stateless:
                return None
            case method if method in LISTED:
                return self._lists.page_at_hand(asked)
            case "server/discover" if stateless:
                return Success(call.id, signed(self._discovered(), self._server))
            case "initialize" if not stateless:
                return Success(call.id, self._initialized(asked.revision))
            case "ping" if not stateless:
                return Success(call.id, {})
            case _:
                return failure(call.id, jsonrpc.METHOD_NOT_FOUND, f"Method not found: {call.method[:80]}")

    async def answer(self, asked: Asked, tell: Tell) -> Success | Failure | Rendered:
        """The answer to a request for which `answer_at_once` has none. Cancelling it cancels the upstream's work.

        Raises:
            Mismatch: if `Mcp-Param-*` headers contradict the arguments.
            StoreUnavailable: if it is not known which accounts the person has connected, or what the client says of its
                session cannot be remembered.
        """
        match asked.call.method:
            case "tools/call":
                outcome = await self._tools.call(asked, tell)
            case "resources/read":
                outcome = await self._resources.read(asked, tell)
            case "resources/subscribe":
                return await self._resources.subscribe(asked, self._sessions)
            case "resources/unsubscribe":
                return await self._resources.unsubscribe(asked, self._sessions)
            case "logging/setLevel":
                return await self._set_level(asked)
            case "prompts/get":
                outcome = await self._prompts.get(asked, tell)
            case "completion/complete":
                outcome = await self._prompts.complete(asked, tell)
            case "tasks/get" | "tasks/update" | "tasks/cancel":
                outcome = await self._tasks.ask(asked, tell)
            case _:
                return await self._lists.page(asked)
        if isinstance(outcome, Success) and is_stateless(asked.revision):
            return Success(outcome.id, signed(outcome.result, self._server))
        return outcome

    def _discovered(self) -> Json:
        return {
            "resultType": "complete",
            "supportedVersions": list(FOR_CLIENTS),
            **self._about(stateless=True),
            "ttlMs": DISCOVER_TTL if all(one.peer for one in self._upstreams.values()) else GUESS_TTL,
            "cacheScope": "private",
        }

    def _initialized(self, agreed: str) -> Json:
        return {"protocolVersion": agreed, "serverInfo": self._server, **self._about(stateless=False)}

    def _about(self, *, stateless: bool) -> Json:
        """What upstreams, as far as they were met, let us promise; and what the operator and they say about them."""
        upstreams = list(self._upstreams.values())
        peers = [upstream.peer for upstream in upstreams]
        instructions = instructions_for(
            Described(
                upstream.name,
                upstream.config.prefix,
                upstream.config.description or "",
                peer.instructions if peer is not None and upstream.config.instructions else "",
            )
            for upstream, peer in zip(upstreams, peers, strict=True)
        )
        capabilities = capabilities_for(
            (None if peer is None else peer.capabilities for peer in peers),
            list_changed=True,
            subscribe=True,
            stateless=stateless,
        )
        return {"capabilities": capabilities, **({"instructions": instructions} if instructions else {})}

    async def _set_level(self, asked: Asked) -> Success | Failure:
        level = asked.call.params.get("level")
        if level not in LOG_LEVELS:
            expected = ", ".join(LOG_LEVELS)
            return failure(asked.call.id, jsonrpc.INVALID_PARAMS, f"'level' must be one of {expected}")
        if asked.session is not None:
            await self._sessions.change(asked.session, SetLevel(level))
        return Success(asked.call.id, {})
