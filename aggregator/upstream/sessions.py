"""Sessions with upstreams of the handshake revisions: values, not tasks.

A ticket is what an upstream gave us at `initialize`: a session id, the revision
and capabilities agreed on. It belongs to one person and is never lent to
another. Requests carry it; nothing runs between them. A ticket ends with 404
from the upstream, after `IDLE` seconds without use, or when we close, each time
with one bounded DELETE. This file does not know what requests mean.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, field

import trio

from ..errors import UpstreamLost, UpstreamRefused
from ..protocol.headers import VERSION_HEADER
from ..protocol.jsonrpc import Call, Failure, Json, Message, Notice, render
from ..protocol.offering import AS_A_CLIENT
from ..protocol.revisions import HANDSHAKE, WITH_HANDSHAKE
from .credentials import NOTHING, Credential
from .exchange import Exchange, Headers, read_outcome
from .peers import SessionKey, instructions_in

IDLE = 600.0  # seconds; a session costs its server memory, and a new one costs two round trips
FAREWELL = 2.0  # seconds for a DELETE that must be sent but may be lost

JSON_AND_EVENTS: Headers = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ticket:
    """One session at one upstream. `session_id` is None where the upstream keeps none."""

    session_id: str | None
    revision: str
    capabilities: Json
    server: Json
    used_at: float = 0.0
    calls: int = 0  # running on it now; a session in use is not idle, however long a call takes
    log_level: str | None = None
    credential: Credential = NOTHING  # the last that was good for it: a token is refreshed while its session lives on
    lost: bool = field(default=False)
    instructions: str = ""
    subscribed: set[str] = field(default_factory=set)  # resources, as far as it honoured that

    def headers(self) -> Headers:
        made = [*JSON_AND_EVENTS, (VERSION_HEADER.encode(), self.revision.encode())]
        if self.session_id is not None:
            made.append((b"mcp-session-id", self.session_id.encode("latin-1")))
        made.extend(self.credential.headers)
        return made

    def stream_headers(self) -> Headers:
        """As `headers`, for the stream that is opened by GET."""
        return [(b"accept", b"text/event-stream"), *self.headers()[len(JSON_AND_EVENTS) :]]

    def __repr__(self) -> str:
        return f"<Ticket {self.revision}{' lost' if self.lost else ''}>"


class Tickets:
    """The tickets of one upstream, by person and by the account that the person uses there."""

    def __init__(self, exchange: Exchange, client: Json) -> None:
        self._exchange = exchange
        self._client = client
        self._held: dict[SessionKey, Ticket] = {}
        self._opening: dict[SessionKey, trio.Event] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def ticket(self, owner: SessionKey, credential: Credential = NOTHING) -> Ticket:
        """The owner's ticket, opened on first use; one `initialize` at a time for one owner.

        Raises:
            UpstreamLost, UpstreamRefused: if the handshake fails.
        """
        while (held := self._held.get(owner)) is None:
            if (opening := self._opening.get(owner)) is not None:
                await opening.wait()  # whoever opens may fail or be cancelled: look again
                continue
            done = self._opening[owner] = trio.Event()
            try:
                self._held[owner] = await self._open(credential, owner[2])
            finally:
                del self._opening[owner]
                done.set()
        held.used_at = trio.current_time()
        held.credential = credential
        return held

    def drop(self, owner: SessionKey, ticket: Ticket) -> None:
        """The upstream no longer knows this session."""
        ticket.lost = True
        if self._held.get(owner) is ticket:
            del self._held[owner]

    async def reap(self) -> None:
        """End idle sessions; runs until cancelled."""
        while True:
            await trio.sleep(IDLE / 4)
            oldest = trio.current_time() - IDLE
            for owner, ticket in list(self._held.items()):
                if not ticket.calls and ticket.used_at < oldest:
                    self.drop(owner, ticket)
                    await self._farewell(ticket)

    async def close(self) -> None:
        """End every session: together, shielded and within `FAREWELL` seconds."""
        held = list(self._held.values())
        self._held.clear()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for ticket in held:
                    nursery.start_soon(self._farewell, ticket)

    async def _open(self, credential: Credential, asked: str) -> Ticket:
        id = secrets.token_hex(12)
        capabilities = {**AS_A_CLIENT, **(json.loads(asked) if asked else {})}
        params = {"protocolVersion": HANDSHAKE, "capabilities": capabilities, "clientInfo": self._client}
        call = Call(id, "initialize", params)
        headers = [*JSON_AND_EVENTS, *credential.headers]
        async with self._exchange.send("POST", headers, render(call)) as answer:
            outcome = await read_outcome(answer, id, _ignore)
            session = answer.headers.get("mcp-session-id")
        if isinstance(outcome, Failure):
            raise UpstreamLost(f"refused the handshake: {outcome.message[:200]} ({outcome.code})", executed=False)
        ticket = _read_handshake(outcome.result, session)
        ticket.credential = credential
        try:
            await self._notify(ticket, Notice("notifications/initialized", {}))
        except BaseException:
            await self._farewell(ticket)
            raise
        return ticket

    async def _notify(self, ticket: Ticket, notice: Notice) -> None:
        async with self._exchange.send("POST", ticket.headers(), render(notice)) as answer:
            if answer.status >= 400:
                raise UpstreamRefused(answer.status, f"HTTP {answer.status} to {notice.method}")

    async def say(self, ticket: Ticket, message: Message) -> None:
        """Post a notification or an answer; whether it arrives is not worth failing for. Bounded, shielded."""
        with trio.move_on_after(FAREWELL, shield=True):
            try:
                async with self._exchange.send("POST", ticket.headers(), render(message)):
                    pass
            except UpstreamLost as exc:
                log.debug("could not say %s: %s", type(message).__name__, exc)

    async def _farewell(self, ticket: Ticket) -> None:
        if ticket.session_id is None:
            return
        with trio.move_on_after(FAREWELL, shield=True):
            try:
                async with self._exchange.send("DELETE", ticket.headers(), b""):
                    pass
            except UpstreamLost as exc:
                log.debug("could not end a session: %s", exc)


def _read_handshake(result: Json, session_id: str | None) -> Ticket:
    revision, capabilities, server = (result.get(key) for key in ("protocolVersion", "capabilities", "serverInfo"))
    if revision not in WITH_HANDSHAKE:
        raise UpstreamLost(f"speaks MCP revision {str(revision)[:40]!r}, which is not supported", executed=False)
    return Ticket(
        session_id,
        revision,
        capabilities if isinstance(capabilities, dict) else {},
        server if isinstance(server, dict) else {},
        instructions=instructions_in(result),
    )


async def _ignore(message: Message) -> None:
    """What a server says before the handshake is done concerns nobody."""
