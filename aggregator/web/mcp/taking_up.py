"""`GET /mcp` with `Last-Event-ID`: a stream that broke goes on where it did (2025-11-25, resumability and redelivery).

Another instance may have the stream; what it has is brought here then. Whoever comes
for a stream that is no more gets an answer all the same: that the answer is lost, to
each request that the event id names. The SDKs would ask again, and then wait for their
own time-out, if a status told them. This file must not know what is said on a stream.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio

from ...errors import Refusal, StoreUnavailable
from ...protocol.event_ids import EventId, lost_answers, parse_event_id, render_event_id
from ...protocol.jsonrpc import Json, render
from ...protocol.revisions import has_priming
from ...protocol.sse import render_event, render_priming
from ..pulse import Pulse
from ..reply import RawHeaders, Receive, Reply, Send, send_whole
from .carried import Carried, Tell, Unsent
from .client_sessions import ClientSession
from .kept_streams import KeptStream, KeptStreams
from .mailbox import Mailbox
from .resumable_reply import RETRY
from .session_states import SessionStates

TAKEN_PER_PERSON = 64  # streams at a time, as many as calls
PIECE = 2**20  # characters of a stream in one mail, whose limit is for what JSON makes of them
TOGETHER = 0.5  # seconds between two such mails: of all a person may send, a stream takes a tenth

NO_MORE = (
    "The connection broke, and the answer is lost: it is kept for a minute, by the process that ran the call. "
    "The call may have run; look before you make it again."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What another instance brings here."""

    name: str
    owner: str
    session: str
    position: int


class TakingUp:
    """Goes on with streams. Those that are brought elsewhere are read in `nursery`."""

    def __init__(
        self, kept: KeptStreams, states: SessionStates, pulse: Pulse, mailbox: Mailbox, nursery: trio.Nursery
    ) -> None:
        self._kept = kept
        self._states = states
        self._pulse = pulse
        self._instance = mailbox.instance
        self._elsewhere: Carried[_Wanted, bool] = Carried(
            mailbox,
            nursery,
            "stream-on",
            parse=_parse_wanted,
            do=self._carry,
            parse_outcome=_parse_found,
            unsendable={"found": True},
        )
        self._taken: dict[str, int] = {}

    def __len__(self) -> int:
        """How many streams are taken up here, or brought elsewhere from here."""
        return sum(self._taken.values()) + self._elsewhere.carried

    async def answer(
        self, last_event: str, session: ClientSession, receive: Receive, send: Send, extra: RawHeaders
    ) -> None:
        """Everything behind `last_event`, to the end of its stream.

        Raises:
            Refusal: 400 for what is no event id of ours, or names a stream that is no more and nobody who waits for it;
                429 for one who takes up too much at once.
        """
        id = parse_event_id(last_event)
        if id is None:
            raise Refusal(400, "invalid_request", "Last-Event-ID names no event of ours; open a stream without it.")
        if id.is_last:
            # WHATWG HTML, 9.2.3: "Clients will reconnect if the connection is closed; a client can be told to stop
            # reconnecting using the HTTP 204 No Content response code." The TypeScript SDK 1.x comes back behind an
            # answer that is an error, and would for ever.
            await send_whole(send, 204, extra, b"")
            return
        if self._taken.get(session.owner, 0) >= TAKEN_PER_PERSON:
            told = f"You take up {TAKEN_PER_PERSON} streams already; let one of them end."
            raise Refusal(429, "temporarily_unavailable", told)
        self._taken[session.owner] = self._taken.get(session.owner, 0) + 1
        try:
            await self._go_on(id, session, Reply(send, session.revision, extra), receive)
        finally:
            self._taken[session.owner] -= 1
            if not self._taken[session.owner]:
                del self._taken[session.owner]

    async def _go_on(self, id: EventId, session: ClientSession, reply: Reply, receive: Receive) -> None:
        """Until the stream is over, the client leaves, or its session ends."""
        here = self._kept.find(id.name, session.owner, session.id)
        is_elsewhere = id.instance != self._instance
        if here is None and not is_elsewhere:
            await _tell_lost(id, reply)
            return
        is_found = True

        def look() -> None:
            if self._states.find(session.id).is_over:
                scope.cancel("the session is over")

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel("the client disconnected")

        async def go_on() -> None:
            nonlocal is_found
            if here is not None or id.awaited:  # else a status may have to say that there is nothing to go on with
                await _begin(id, session, reply)
            if here is not None:
                is_found = await _Reading(here, id.position).pour(reply.pass_on)
            else:
                is_found = await self._fetch(id, session, reply)
            scope.cancel("the stream is over")

        with trio.CancelScope() as scope, self._states.watched(session.id, look), self._pulse.keeping(reply):
            reply.on_break = partial(scope.cancel, "the client stopped reading")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave)
                nursery.start_soon(go_on)
        if is_found:
            await reply.end()
        else:
            await _tell_lost(id, reply)

    async def _fetch(self, id: EventId, session: ClientSession, reply: Reply) -> bool:
        """Have the stream brought from where it is; False if it is not there, or nothing is heard from there.

        One that cannot be brought now seems to end: the client comes back, and may reach it then.
        """

        begun = b""

        async def hear(part: Json) -> None:
            nonlocal begun  # of an event, which goes out whole: a sign of life in its middle would be a part of it
            whole, end, begun = (begun + str(part.get("events")).encode()).rpartition(b"\n\n")
            if end:
                await reply.pass_on(whole + end)

        wanted = {"name": id.name, "session": session.id, "position": id.position}
        try:
            return bool(await self._elsewhere.bring(id.instance, session.owner, wanted, hear))
        except (Unsent, StoreUnavailable) as exc:
            log.warning("a stream of %s at another instance cannot be brought here now: %s", session.owner, exc)
            return True

    async def _carry(self, wanted: _Wanted, tell: Tell) -> Json:
        stream = self._kept.find(wanted.name, wanted.owner, wanted.session)
        if stream is None:
            return {"found": False}

        async def send(events: bytes) -> None:
            text = events.decode()
            for start in range(0, len(text), PIECE):
                if not await tell({"events": text[start : start + PIECE]}):
                    reading.replaced()
                    return
            await trio.sleep(TOGETHER)

        reading = _Reading(stream, wanted.position)
        return {"found": await reading.pour(send)}


class _Reading:
    """One who reads a stream from a position on; see `Taker`."""

    def __init__(self, stream: KeptStream, position: int) -> None:
        self._stream = stream
        self._position = position
        self._is_replaced = False
        self._retry: float | None = None

    async def pour(self, write: Callable[[bytes], Awaitable[None]]) -> bool:
        """Everything to `write`, until the stream is over, or not for this reader any more; False if it has ended
        without an answer."""
        stream = self._stream
        stream.take(self)
        try:
            while not self._is_replaced:
                changed = stream.changed
                if events := stream.after(self._position):
                    self._position = stream.position
                    await write(events)
                elif self._retry is not None:
                    await write(render_priming(render_event_id(stream.name, self._position), self._retry))
                    return True
                elif stream.is_over:
                    return stream.is_answered
                else:
                    await changed.wait()
            return True
        finally:
            stream.leave(self)

    def replaced(self) -> None:
        self._is_replaced = True

    def asked_to_poll(self, retry: float) -> None:
        self._retry = retry


async def _begin(id: EventId, session: ClientSession, reply: Reply) -> None:
    """Before anything new comes, so that a client whose connection breaks again knows where it was."""
    if has_priming(session.revision):
        await reply.pass_on(render_priming(render_event_id(id.name, id.position), RETRY))
    else:
        await reply.keep_alive()


async def _tell_lost(id: EventId, reply: Reply) -> None:
    """
    Raises:
        Refusal: 400 if it is not known what was to be answered, and nothing has been sent.
    """
    lost = lost_answers(id, NO_MORE)
    if not lost and not reply.has_begun:
        raise Refusal(400, "invalid_request", "The stream that Last-Event-ID names is not kept any more; call again.")
    last = render_event_id(id.name, id.position + 1, is_last=True)
    for answer in lost:
        await reply.pass_on(render_event(render(answer), last))
    await reply.end()


def _parse_wanted(content: Json) -> _Wanted:
    return _Wanted(content["name"], content["owner"], content["session"], int(content["position"]))


def _parse_found(content: Json) -> bool:
    return content["found"] is True
