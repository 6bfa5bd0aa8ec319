"""The GET streams of sessions in which people's requests run (2025-11-25, listening for messages from the server).

On them a server asks what it does not ask on the stream of the request that caused
it: the Python SDK 1.x sends every question for roots so, and most for samples. There
it tells, too, that a request of this session changed a list. A stream is open before
a request goes out, and for a while after the last. This file must not know what is
asked, nor who answers.
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass, field

import trio

from ...errors import UpstreamLost, UpstreamRefused
from ...protocol.jsonrpc import INVALID_REQUEST, Call, Message, Notice, Success, failure
from ...protocol.subscriptions import BETWEEN_CALLS
from ..credentials import EVERYONE
from ..peers import NOBODY, OnNotice, Outgoing, Respondent, refuse
from .exchange import Exchange, OnMessage, read_stream
from .sessions import Ticket, Tickets

PATIENCE = 2.0  # seconds that a request waits for the stream of its session
LINGER = 60.0  # seconds that a stream outlives the last request: people make several
UNAVAILABLE = 600.0  # seconds until an upstream that has no such streams is asked again
FIRST_RETRY, LAST_RETRY = 1.0, 30.0  # seconds before one that broke is opened again

_NEVER = frozenset({405, 501})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A request that runs in a session: who answers for it, and what hears what is said of it."""

    respondent: Respondent
    hear: OnMessage


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What is being asked; it may be about any of these requests, and ends with the last of them."""

    scope: trio.CancelScope
    about: set[Listener]


@dataclass(slots=True, eq=False)
class _Stream:
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    settled: trio.Event = field(default_factory=trio.Event)  # open, or known not to open now
    listeners: list[Listener] = field(default_factory=list)  # requests that run in the session
    questions: set[_Question] = field(default_factory=set)
    overhear: OnNotice | None = None  # the last one's; of use for what no request is about, even when that has ended

    def concerned(self) -> Listener | None:
        """Who hears what is said, or asked, of no request by name. Nothing says which one it is about: so it has to be
        the only one, or all have to be of the same session of a client; then it is the newest, whose own stream is the
        most likely to be open still."""
        sessions = {listener.respondent.session for listener in self.listeners}
        is_clear = len(self.listeners) == 1 or (len(sessions) == 1 and "" not in sessions)
        return self.listeners[-1] if is_clear else None


class SessionStreams:
    """Those of one upstream. Their tasks run in `nursery`.

    `asked` is whether the upstream ever asked something on one.
    """

    def __init__(self, streams: Exchange, tickets: Tickets, nursery: trio.Nursery) -> None:
        self.asked = False
        self._exchange = streams
        self._tickets = tickets
        self._nursery = nursery
        self._open: dict[int, _Stream] = {}  # by the identity of the ticket, which the stream's task holds
        self._not_before = -math.inf

    def __len__(self) -> int:
        return len(self._open)

    async def join(self, outgoing: Outgoing, ticket: Ticket, listener: Listener, overhear: OnNotice) -> None:
        """A request begins in the session: `listener` gets what is asked meanwhile. Waits for the stream, if there is
        one to be had and something may come on it. `leave` undoes it, however this ended."""
        stream = self._open.get(id(ticket))
        if stream is None:
            if not _is_needed(outgoing, ticket) or trio.current_time() < self._not_before:
                return
            stream = self._open[id(ticket)] = _Stream()
            self._nursery.start_soon(self._run, ticket, stream)
        stream.listeners.append(listener)
        stream.overhear = overhear
        stream.scope.deadline = math.inf
        with trio.move_on_after(PATIENCE) as waiting:
            await stream.settled.wait()
        if waiting.cancelled_caught:
            stream.settled.set()  # the others need not wait again

    def leave(self, ticket: Ticket, listener: Listener) -> None:
        stream = self._open.get(id(ticket))
        if stream is None or listener not in stream.listeners:
            return
        stream.listeners.remove(listener)
        if not stream.listeners:
            stream.scope.deadline = trio.current_time() + LINGER
        for question in stream.questions:
            question.about.discard(listener)
            if not question.about:
                question.scope.cancel("the requests that it may be about have ended")

    async def _run(self, ticket: Ticket, stream: _Stream) -> None:
        async def receive(message: Message) -> None:
            await self._receive(ticket, stream, message)

        delay = FIRST_RETRY
        try:
            with stream.scope:
                while not ticket.lost:
                    try:
                        async with self._exchange.send("GET", ticket.stream_headers(), b"") as answer:
                            if answer.status < 300:
                                stream.settled.set()
                            await read_stream(answer, receive)
                    except UpstreamLost as exc:
                        log.debug("the stream of a session: %s", exc)
                    except UpstreamRefused as exc:
                        log.debug("the stream of a session: %s", exc)
                        if exc.status in _NEVER:
                            self._not_before = trio.current_time() + UNAVAILABLE
                            return
                    stream.settled.set()
                    await trio.sleep(delay)
                    delay = min(delay * 2, LAST_RETRY)
        finally:
            stream.settled.set()
            del self._open[id(ticket)]

    async def _receive(self, ticket: Ticket, stream: _Stream, message: Message) -> None:
        match message:
            case Call(asked, "ping", _):
                await self._tickets.say(ticket, Success(asked, {}))
            case Call():
                self.asked = True
                await self._take(ticket, stream, message)
            case Notice("notifications/cancelled"):
                ticket.take_back(message)
            case Notice(method) if method in BETWEEN_CALLS:
                if stream.overhear is not None:
                    await stream.overhear(message)
            case Notice("notifications/progress"):  # whom it is for stands in it
                for listener in list(stream.listeners):
                    await listener.hear(message)
            case Notice() if (concerned := stream.concerned()) is not None:
                await concerned.hear(message)
            case _:
                pass

    async def _take(self, ticket: Ticket, stream: _Stream, question: Call) -> None:
        if not stream.listeners:
            await self._tickets.say(ticket, await refuse(question))
        elif (concerned := stream.concerned()) is None:
            told = "several requests run in this session; ask on the stream of the one that this is about"
            await self._tickets.say(ticket, failure(question.id, INVALID_REQUEST, told))
        else:
            asked = _Question(ticket.is_asking(question), set(stream.listeners))
            stream.questions.add(asked)
            self._nursery.start_soon(self._answer, ticket, stream, question, asked, concerned.respondent)

    async def _answer(
        self, ticket: Ticket, stream: _Stream, question: Call, asked: _Question, respondent: Respondent
    ) -> None:
        """An answer is good even when the request has ended on whose stream the client was asked: it comes by a POST of
        its own. Meanwhile no time counts for any of those that may be waiting for it."""
        try:
            with ExitStack() as standing:
                for listener in asked.about:
                    standing.enter_context(listener.respondent.standing())
                await self._tickets.answer(ticket, question, respondent.answer, asked.scope)
        finally:
            stream.questions.discard(asked)


def _is_needed(outgoing: Outgoing, ticket: Ticket) -> bool:
    """Whether the server may ask the person of this session something, or tell it what it tells no other. Many of those
    that do so do not declare it."""
    if ticket.session_id is None or outgoing.owner == NOBODY:
        return False
    # A session of an account of one's own, in which nothing can be asked, is that on which `streams` listens.
    return bool(outgoing.respondent.capabilities) or (outgoing.overheard and outgoing.credential.owner == EVERYONE)
