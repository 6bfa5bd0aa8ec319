"""An MCP server behind a URL: which revision it speaks, and how a request reaches it.

Its revision is found out once (`server/discover`, then `initialize`) and kept
until the server contradicts it; a failure that says nothing about the revision
(503, a broken connection) never passes for an answer. Requests of any client
revision go in, its own wire goes out. This file does not know people beyond
the key that names them, nor catalogs, nor deadlines: those belong to callers.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from ...errors import UpstreamRefused
from ...protocol.jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    UNSUPPORTED_VERSION,
    Call,
    Failure,
    Json,
    Message,
    Notice,
    Success,
    render,
)
from ...protocol.revisions import STATELESS, is_stateless
from ...protocol.subscriptions import Wanted
from ...protocol.translate import Envelope, params_for_upstream
from ..credentials import NOTHING, Credential
from ..network.proxy import Proxy
from ..peers import (
    LISTING,
    Answered,
    Hear,
    OnNotice,
    Outgoing,
    Peer,
    Respondent,
    SessionKey,
    drop,
    list_pages,
    notice_for_client,
    stateless_peer,
)
from .exchange import Exchange, HttpExchange, open_exchange, read_outcome
from .session_requests import SessionRequests
from .session_streams import SessionStreams
from .sessions import Ticket, Tickets
from .streams import STREAMS, listen_in_session, listen_stateless, stateless_headers, subscribe_in_session

# Answers to `server/discover` that say "I am older" rather than "not now" or "not you".
_OLDER = frozenset({400, 404, 405, 406, 415, 422, 501})
# What servers answer, besides 404, that do not know a session: the TypeScript SDK, those made of its parts, rmcp.
_PERHAPS_ENDED = frozenset({400, 401, 410})
_UPGRADED = frozenset({HEADER_MISMATCH, UNSUPPORTED_VERSION})
# What a server of 2026-07-28 means with HTTP 400. Older ones use other codes: they miss a session, or know no such
# version.
_OF_STATELESS = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, INVALID_PARAMS})

AT_WORK = 200  # requests at once: the bulkhead between a slow upstream and everything else
ASKING = 2000  # connections of those that wait for people, beside these; as many as calls can be parked
LOOK_AGAIN = 15.0  # seconds; whether there are connections that nobody uses
WORDS = 20  # connections for answers, cancellations and farewells, which must not wait behind what they are to end

log = logging.getLogger(__name__)


class HttpUpstream:
    """One upstream. Opened by `open_upstream`, which also ends its sessions."""

    def __init__(
        self,
        name: str,
        exchange: Exchange,
        client: Json,
        nursery: trio.Nursery,
        streams: Exchange | None = None,
        words: Exchange | None = None,
    ) -> None:
        self.name = name
        self.peer: Peer | None = None
        self._in_doubt = False
        self._exchange = exchange
        self._streams = streams or exchange
        self._client = client
        self._at_work = trio.CapacityLimiter(AT_WORK)
        self._tickets = Tickets(exchange, client, words)
        self._session_streams = SessionStreams(self._streams, self._tickets, nursery)
        self._in_session = SessionRequests(exchange, self._tickets, self._session_streams, client, nursery)
        self._probing = trio.Lock()

    def __repr__(self) -> str:
        revision = self.peer.revision if self.peer else "revision unknown"
        return f"<HttpUpstream {self.name} {revision}, {len(self._tickets)} sessions>"

    async def request(self, outgoing: Outgoing, on_notice: OnNotice) -> Answered:
        """Have the upstream answer; progress and log messages for the client go to `on_notice` as they come.

        `AT_WORK` requests run at once, those that wait for a person's answer not counted; who comes then waits.

        What an older upstream asks meanwhile goes to the respondent, each question in a task of its own. One that asks
        on the streams of sessions, which say of no request that it is meant, runs requests of clients without sessions
        in a session each, while they are not too many.

        A request that the upstream certainly did not execute (an ended session, another revision) is sent once more.
        When cancelled, an upstream that knows `notifications/cancelled` is told so, within two seconds.

        Raises:
            UpstreamLost, UpstreamRefused: see `converse`.
        """
        try:
            self._at_work.acquire_nowait()
        except trio.WouldBlock:
            await self._at_work.acquire()
        try:
            return await self._request(outgoing, on_notice)
        finally:
            self._at_work.release()

    async def _request(self, outgoing: Outgoing, on_notice: OnNotice) -> Answered:
        if outgoing.respondent.capabilities:
            outgoing = replace(outgoing, respondent=self._unhurried(outgoing.respondent))
        for last in (False, True):
            peer = self.peer
            if peer is None or self._in_doubt:
                peer = await self.meet(outgoing.session, outgoing.credential)
            if is_stateless(peer.revision):
                refused: UpstreamRefused | None = None
                try:
                    outcome, status = await self._ask_stateless(outgoing, on_notice)
                    suspect = status == 400 and isinstance(outcome, Failure) and outcome.code not in _OF_STATELESS
                except UpstreamRefused as exc:
                    refused, suspect = exc, exc.status in _OLDER
                # Whoever is older now ran nothing. Whoever is not meant what it said, and is not asked again.
                if last or not suspect or await self._is_stateless_still(outgoing):
                    if refused is not None:
                        raise refused
                    return Answered(outcome, STATELESS)
                continue
            respondent = outgoing.respondent
            alone = self._session_streams.asked and bool(respondent.capabilities) and not respondent.session
            ticket = await self._tickets.ticket(outgoing.session, outgoing.credential, alone=alone)
            try:
                outcome = await self._in_session.ask(ticket, outgoing, on_notice)
                # Codes that 2026-07-28 brought: the server was upgraded, and it ran nothing.
                is_odd = isinstance(outcome, Failure) and (outcome.code in _UPGRADED or outcome.id is None)
                if last or not is_odd or (outcome.id is None and await self._is_kept(ticket, 400)):
                    return Answered(outcome, ticket.revision)
            except UpstreamRefused as exc:
                # 2025-11-25, session management 4: 404 means the session is over; the client starts a new one.
                if last or exc.challenge or await self._is_kept(ticket, exc.status):
                    raise
            self._tickets.drop(ticket)
            self.doubt()  # a server that forgot its sessions may have been upgraded, too
        raise AssertionError("the second round returns or raises")

    def _unhurried(self, respondent: Respondent) -> Respondent:
        """The same, whose thinking takes no other request's place."""

        async def answer(question: Call) -> Success | Failure:
            self._at_work.total_tokens += 1
            try:
                return await respondent.answer(question)
            finally:
                self._at_work.total_tokens -= 1

        return replace(respondent, answer=answer)

    @property
    def last_words(self) -> tuple[str, ...]:
        """See `McpUpstream.last_words`."""
        return ()

    @property
    def is_in_doubt(self) -> bool:
        return self._in_doubt

    def doubt(self) -> None:
        """What is known of the upstream may be out of date: the next request asks it anew."""
        self._in_doubt = True

    def forget(self, client: str) -> None:
        """See `McpUpstream.forget`."""
        self._tickets.forget(client)

    def retry(self) -> None:
        """Nothing waits here: each request goes at once."""

    async def meet(self, session: SessionKey = LISTING, credential: Credential = NOTHING) -> Peer:
        """Find out what the upstream speaks, one caller at a time.

        Raises:
            UpstreamLost, UpstreamRefused: if it cannot be told now.
        """
        async with self._probing:
            if self.peer is None or self._in_doubt:
                self.peer = await self._discover(credential) or await self._initialize(session, credential)
                self._in_doubt = False
            return self.peer

    async def list_all(
        self, method: str, key: str, *, owner: str = "", credential: Credential = NOTHING
    ) -> tuple[list[Json], float | None]:
        """See `list_pages`."""
        return await list_pages(self, method, key, owner=owner, credential=credential)

    async def listen(
        self,
        session: SessionKey,
        credential: Credential,
        wanted: Wanted,
        hear: Hear,
        acknowledge: Callable[[Wanted], None],
    ) -> None:
        """See `McpUpstream.listen`. The stream has a connection of its own, beside those of requests.

        A session that is no more is begun anew; an upstream that has changed its revision is listened to in the other.
        """
        for last in (False, True):
            peer = self.peer
            if peer is None or self._in_doubt:
                peer = await self.meet(session, credential)
            ticket: Ticket | None = None
            try:
                if is_stateless(peer.revision):
                    await listen_stateless(self._streams, self._client, credential, wanted, hear, acknowledge)
                    return
                ticket = await self._tickets.ticket(session, credential)
                await listen_in_session(self._streams, self._tickets, ticket, wanted, hear, acknowledge)
                return
            except UpstreamRefused as exc:
                if exc.status not in _OLDER:
                    raise
                # Many servers answer a lost session with 400 instead of 404.
                is_lost = ticket is not None and ticket.session_id is not None and exc.status in (400, 404)
                if ticket is not None and is_lost:
                    self._tickets.drop(ticket)
                if last:
                    raise
                self.doubt()
                if not is_lost and (await self.meet(session, credential)).revision == peer.revision:
                    raise

    async def subscribe(self, session: SessionKey, credential: Credential, uris: frozenset[str]) -> frozenset[str]:
        """See `McpUpstream.subscribe`. In a session that is no more nothing is subscribed to."""
        if (ticket := self._tickets.find(session)) is None:
            return frozenset()
        ticket.credential = credential
        return await subscribe_in_session(self._exchange, ticket, uris)

    async def reap(self) -> None:
        await self._tickets.reap()

    async def close(self) -> None:
        await self._tickets.close()

    async def _is_kept(self, ticket: Ticket, status: int) -> bool:
        """Whether the upstream still has the session in which it refused a request, with `status`. Many servers say in
        other ways than 404 that they have not: they then refuse a ping as well."""
        if ticket.session_id is None:
            return True
        if status == 404:
            return False
        return status not in _PERHAPS_ENDED or await self._tickets.is_alive(ticket)

    async def _is_stateless_still(self, outgoing: Outgoing) -> bool:
        self.doubt()
        return is_stateless((await self.meet(outgoing.session, outgoing.credential)).revision)

    async def _ask_stateless(self, outgoing: Outgoing, on_notice: OnNotice) -> tuple[Success | Failure, int]:
        id = secrets.token_hex(12)
        envelope = outgoing.envelope
        token = id if envelope.progress_token is not None else None
        params = params_for_upstream(
            outgoing.params,
            STATELESS,
            envelope,
            token=token,
            client=self._client,
            askable=outgoing.respondent.capabilities,
        )
        headers = stateless_headers(outgoing.method, outgoing.params, outgoing.extra_headers)
        headers.extend(outgoing.credential.headers)

        async def hear(message: Message) -> None:
            if isinstance(message, Notice) and (shown := notice_for_client(message, envelope, id)) is not None:
                await on_notice(shown)

        body = render(Call(id, outgoing.method, params))
        async with self._exchange.send("POST", headers, body) as answer:
            return await read_outcome(answer, id, hear), answer.status

    async def _discover(self, credential: Credential) -> Peer | None:
        """2026-07-28, `server/discover`; None if the upstream is older."""
        id = secrets.token_hex(12)
        params = params_for_upstream({}, STATELESS, Envelope(STATELESS, {}), token=None, client=self._client)
        body = render(Call(id, "server/discover", params))
        headers = [*stateless_headers("server/discover", {}, ()), *credential.headers]
        try:
            async with self._exchange.send("POST", headers, body) as answer:
                outcome = await read_outcome(answer, id, drop)
        except UpstreamRefused as exc:
            if exc.status in _OLDER:
                return None
            raise
        if isinstance(outcome, Failure) and answer.status >= 500 and answer.status not in _OLDER:
            raise UpstreamRefused(answer.status, f"HTTP {answer.status}: {outcome.message[:200]} ({outcome.code})")
        if isinstance(outcome, Failure):
            return None
        return stateless_peer(outcome.result)

    async def _initialize(self, session: SessionKey, credential: Credential) -> Peer:
        ticket = await self._tickets.ticket(session, credential)
        return Peer(ticket.revision, ticket.capabilities, ticket.server, ticket.instructions)


@asynccontextmanager
async def open_upstream(
    name: str,
    url: str,
    client: Json,
    context: ssl.SSLContext,
    nursery: trio.Nursery,
    proxy: Proxy | None = None,
) -> AsyncIterator[HttpUpstream]:
    """An upstream ready to be asked; nothing is sent before the first request. Ends its sessions on exit, bounded.

    `nursery` runs the reaper of idle sessions and what has to be said after a cancelled call.
    """
    async with (
        open_exchange(url, context, proxy, connections=AT_WORK + ASKING) as exchange,
        open_exchange(url, context, proxy, connections=STREAMS) as streams,
        open_exchange(url, context, proxy, connections=WORDS) as words,
    ):
        upstream = HttpUpstream(name, exchange, client, nursery, streams, words)
        nursery.start_soon(upstream.reap)
        nursery.start_soon(_let_go, exchange, streams, words)
        try:
            yield upstream
        finally:
            await upstream.close()


async def _let_go(*exchanges: HttpExchange) -> None:
    """Close connections that nobody uses, until cancelled."""
    while True:
        await trio.sleep(LOOK_AGAIN)
        for exchange in exchanges:
            await exchange.let_go()
