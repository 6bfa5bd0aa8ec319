"""Sessions with upstreams of the handshake revisions: values, not tasks.

A ticket is what an upstream gave us at `initialize`: a session id, the revision
and capabilities agreed on. It belongs to one person, and to one session of their
client that can be asked something, and is never lent to another. Requests carry it;
nothing runs between them. A ticket ends with 404 from the upstream, after `IDLE`
seconds without use, when its client's session ends, when its person needs room for
another, or when we close, each time with one bounded DELETE. This file does not
know what requests mean.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections import Counter
from dataclasses import dataclass, field

import trio

from ...errors import UpstreamLost, UpstreamRefused
from ...protocol.headers import VERSION_HEADER
from ...protocol.jsonrpc import Call, Failure, Id, Json, Message, Notice, render
from ...protocol.offering import AS_A_CLIENT
from ...protocol.revisions import HANDSHAKE, WITH_HANDSHAKE
from ..credentials import NOTHING, Credential
from ..peers import LISTING, OnRequest, SessionKey, instructions_in
from .exchange import Exchange, Headers, converse, read_outcome

IDLE = 600.0  # seconds; a session costs its server memory, and a new one costs two round trips
PER_PERSON = 32  # sessions in which one person can be asked; whoever comes then shares one
SPARED = 60.0  # seconds since its last use in which one does not make room: clients that take turns would lose theirs
LOOK_AGAIN = 30.0  # seconds; whether there are idle ones, or those of sessions that have ended
FAREWELL = 2.0  # seconds for a DELETE that must be sent but may be lost
TELLING = 30.0  # seconds for an upstream to take the answer to what it asked

JSON_AND_EVENTS: Headers = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]

_ALONE = "#"  # in no session id of ours

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ticket:
    """One session at one upstream. `session_id` is None where the upstream keeps none."""

    session_id: str | None
    revision: str
    capabilities: Json
    server: Json
    key: SessionKey = LISTING
    used_at: float = 0.0
    calls: int = 0  # running on it now; a session in use is not idle, however long a call takes
    log_level: str | None = None
    credential: Credential = NOTHING  # the last that was good for it: a token is refreshed while its session lives on
    lost: bool = field(default=False)
    forgotten: bool = False  # its client's session has ended
    instructions: str = ""
    subscribed: set[str] = field(default_factory=set)  # resources, as far as it honoured that
    asking: dict[Id, trio.CancelScope] = field(
        default_factory=dict
    )  # what it asked, on any stream, and is not answered

    def is_asking(self, question: Call) -> trio.CancelScope:
        """Note that the upstream waits for an answer to `question`. What is done for it has to be in the scope."""
        scope = self.asking[question.id] = trio.CancelScope()
        return scope

    def take_back(self, notice: Notice) -> None:
        """``notifications/cancelled`` of the upstream: it no longer wants to know."""
        id = notice.params.get("requestId")
        if isinstance(id, str | int) and (scope := self.asking.get(id)) is not None:
            scope.cancel("the upstream no longer wants to know")

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
    """The tickets of one upstream, by whose they are. `words` is for what is said beside requests, however many of them
    the `exchange` is busy with."""

    def __init__(self, exchange: Exchange, client: Json, words: Exchange | None = None) -> None:
        self._exchange = exchange
        self._words = words or exchange
        self._client = client
        self._held: dict[SessionKey, Ticket] = {}
        self._opening: dict[SessionKey, trio.Event] = {}
        self._leaving: list[Ticket] = []  # those that had to make room
        self._in_place: Counter[str] = Counter()  # held and opening ones in which a person can be asked, by person

    def __len__(self) -> int:
        return len(self._held)

    async def ticket(self, whose: SessionKey, credential: Credential = NOTHING, *, alone: bool = False) -> Ticket:
        """The ticket of `whose`, opened on first use; one `initialize` at a time for one of them.

        For a request that wants to be `alone` in its session it is the first that nobody uses, of as many as there is
        room for. Between this and the ticket's use is no await.

        Raises:
            UpstreamLost, UpstreamRefused: if the handshake fails.
        """
        key = whose
        while True:
            if alone:
                key = self._first_free(whose)
            if key not in self._held and key not in self._opening and not self._has_room(key):
                key, alone = key._replace(client=""), False
            if (held := self._held.get(key)) is not None:
                break
            if (opening := self._opening.get(key)) is not None:
                await opening.wait()  # whoever opens may fail or be cancelled: look again
                continue
            done = self._opening[key] = trio.Event()
            if key.client:
                self._in_place[key.owner] += 1
            try:
                self._held[key] = await self._open(key, credential)
            finally:
                del self._opening[key]
                if key not in self._held:
                    self._leaves(key)
                done.set()
        held.used_at = trio.current_time()
        held.credential = credential
        return held

    def find(self, whose: SessionKey) -> Ticket | None:
        """The ticket of `whose`, if there is one."""
        return self._held.get(whose)

    def drop(self, ticket: Ticket) -> None:
        """The upstream no longer knows this session, or is not to be asked in it any more."""
        ticket.lost = True
        if self._held.get(ticket.key) is ticket:
            del self._held[ticket.key]
            self._leaves(ticket.key)

    async def is_alive(self, ticket: Ticket) -> bool:
        """Whether the upstream still knows the session, as far as a ping tells within `FAREWELL` seconds."""
        id = secrets.token_hex(12)
        with trio.move_on_after(FAREWELL):
            try:
                outcome = await converse(self._exchange, ticket.headers(), render(Call(id, "ping", {})), id, _ignore)
            except UpstreamRefused:
                return False
            except UpstreamLost:
                return True  # nobody knows
            return outcome.id == id
        return True

    def forget(self, client: str) -> None:
        """A client's session has ended: `reap` ends its tickets, once they are not used any more."""
        for ticket in self._held.values():
            if ticket.key.client == client:
                ticket.forgotten = True

    async def reap(self) -> None:
        """End idle sessions; runs until cancelled."""
        while True:
            await trio.sleep(LOOK_AGAIN)
            while self._leaving:
                await self._farewell(self._leaving.pop())
            oldest = trio.current_time() - IDLE
            for ticket in list(self._held.values()):
                if not ticket.calls and (ticket.forgotten or ticket.used_at < oldest):
                    self.drop(ticket)
                    await self._farewell(ticket)

    def _leaves(self, key: SessionKey) -> None:
        if key.client:
            self._in_place[key.owner] -= 1
            if not self._in_place[key.owner]:
                del self._in_place[key.owner]

    def _first_free(self, whose: SessionKey) -> SessionKey:
        """The shared one first, in which requests that follow one another find what they left there."""
        names = itertools.chain([""], (f"{_ALONE}{number}" for number in itertools.count(1)))
        for key in (whose._replace(client=name) for name in names):
            held = self._held.get(key)
            if key not in self._opening and (held is None or not held.calls):
                return key
        raise AssertionError("the names do not end")

    def _has_room(self, key: SessionKey) -> bool:
        """Whether there may be one more, for which the person's one that was not used for longest may have to go, if
        that is long enough."""
        if not key.client or self._in_place[key.owner] < PER_PERSON:
            return True
        theirs = [held for held in self._held.values() if held.key.client and held.key.owner == key.owner]
        oldest_use = trio.current_time() - SPARED
        idle = [held for held in theirs if not held.calls and held.used_at < oldest_use]
        if idle:
            oldest = min(idle, key=lambda held: held.used_at)
            self.drop(oldest)
            self._leaving.append(oldest)
        return bool(idle)

    async def close(self) -> None:
        """End every session: together, shielded and within `FAREWELL` seconds."""
        held = [*self._held.values(), *self._leaving]
        self._held.clear()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for ticket in held:
                    nursery.start_soon(self._farewell, ticket)

    async def _open(self, key: SessionKey, credential: Credential) -> Ticket:
        id = secrets.token_hex(12)
        capabilities = {**AS_A_CLIENT, **(json.loads(key.asked) if key.asked else {})}
        params = {"protocolVersion": HANDSHAKE, "capabilities": capabilities, "clientInfo": self._client}
        call = Call(id, "initialize", params)
        headers = [*JSON_AND_EVENTS, *credential.headers]
        async with self._exchange.send("POST", headers, render(call)) as answer:
            outcome = await read_outcome(answer, id, _ignore)
            session = answer.headers.get("mcp-session-id")
        if isinstance(outcome, Failure):
            raise UpstreamLost(f"refused the handshake: {outcome.message[:200]} ({outcome.code})", executed=False)
        ticket = _read_handshake(outcome.result, session)
        ticket.key, ticket.credential = key, credential
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
        """Post what is not worth failing for if it does not arrive. Bounded, shielded."""
        with trio.move_on_after(FAREWELL, shield=True):
            await self._say(ticket, message)

    async def _say(self, ticket: Ticket, message: Message) -> None:
        try:
            async with self._words.send("POST", ticket.headers(), render(message)):
                pass
        except UpstreamLost as exc:
            log.debug("could not say %s: %s", type(message).__name__, exc)

    async def answer(self, ticket: Ticket, question: Call, answer: OnRequest, scope: trio.CancelScope) -> None:
        """Have `answer` answer what the upstream asked, and say so, in the scope that `Ticket.is_asking` gave."""
        try:
            with scope:
                outcome = await answer(question)
                with trio.move_on_after(TELLING):  # without it a request waits in vain
                    await self._say(ticket, outcome)
        finally:
            if ticket.asking.get(question.id) is scope:
                del ticket.asking[question.id]

    async def _farewell(self, ticket: Ticket) -> None:
        if ticket.session_id is None:
            return
        with trio.move_on_after(FAREWELL, shield=True):
            try:
                async with self._words.send("DELETE", ticket.headers(), b""):
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
