"""An answer to a client that can take its stream up again: what goes out is kept first, and gets an id.

It stays JSON as long as one message is all there is. The call does not depend on the
connection: when that breaks, or another one takes the stream, messages are kept and
nothing is written here any more. This file must not know how a stream is found again.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ...protocol.event_ids import render_event_id
from ...protocol.jsonrpc import Call, Notice, render
from ...protocol.revisions import has_priming
from ...protocol.sse import render_priming
from ..reply import COMMENT, RawHeaders, Reply, Send
from .client_sessions import ClientSession
from .kept_streams import KeptStream, KeptStreams

RETRY = 1.0  # seconds after which a client comes back; also what the SDKs wait if nothing is said
LONGEST_RETRY, SHORTEST_RETRY = 30.0, 0.1  # what an upstream may have its clients wait
# Seconds until a call that has said nothing becomes a stream: with a connection that breaks before, the answer is lost.
# More than the usual `discoveryTimeout`, within which lists are answered.
FIRST_WORD = 6.0
COMING_BACK = 2.0  # seconds after that until it is there
FAREWELL = 5.0  # seconds for a client that has left a connection to take its end


class ResumableReplies:
    """Makes them, for streams that are `kept`. Their tasks run in `nursery`."""

    def __init__(self, kept: KeptStreams, nursery: trio.Nursery) -> None:
        self._kept = kept
        self._nursery = nursery

    def reply(
        self, send: Send, headers: RawHeaders, session: ClientSession, calls: Sequence[Call], *, prefers_events: bool
    ) -> ResumableReply:
        """The reply to `calls` of that session, a stream from the start if that is what the client prefers."""
        return ResumableReply(send, headers, self._kept, session, calls, self._nursery, prefers_events=prefers_events)


class ResumableReply(Reply):
    """`Reply` for the session of a client, on which `calls` are answered. `close` it, however the calls ended.

    Its connection is ended by a task in `nursery`, when it is no longer the one that has the stream.
    """

    def __init__(
        self,
        send: Send,
        headers: RawHeaders,
        kept: KeptStreams,
        session: ClientSession,
        calls: Sequence[Call],
        nursery: trio.Nursery,
        *,
        prefers_events: bool,
    ) -> None:
        super().__init__(send, session.revision, headers)
        self._kept = kept
        self._session = session
        self._calls = calls
        self._nursery = nursery
        self._prefers_events = prefers_events
        self._stream: KeptStream | None = None
        self._told_retry = RETRY
        self._is_polled = False
        self._left: trio.Event | None = None  # the connection is no longer ours; set when it has been ended
        self._primes = has_priming(session.revision)
        if self._primes:
            self.due_at = trio.current_time() + FIRST_WORD

    async def begin(self) -> None:
        if self._prefers_events:
            await self.keep_alive()

    async def notice(self, message: Notice | Call) -> None:
        if not self._finished:
            begun = self._begun(RETRY)
            event = self._opened().add(render(message), is_question=isinstance(message, Call))
            await self._write(begun + event)

    async def keep_alive(self) -> None:
        if self._finished or self._left is not None:
            self.due_at = float("inf")
        else:
            await self._write(self._begun(RETRY) or COMMENT)

    async def finish_rendered(self, *pieces: bytes, status: int = 200) -> None:
        if self._stream is None and not self._prefers_events:
            await super().finish_rendered(*pieces, status=status)
            return
        begun = self._begun(RETRY)
        stream = self._opened()
        event = stream.finish(b"".join(pieces))
        self._finished = True
        try:
            await self._write(begun + event, is_last=True)
        finally:
            stream.leave(self)  # it is kept longer than a connection should be

    async def close(self) -> None:
        stream, left = self._stream, self._left
        if stream is not None:
            stream.end()
            stream.leave(self)
            if self._is_polled and stream.is_answered:
                # The request lasts until its client is back, so that a process which stops meanwhile waits for it.
                with trio.move_on_after(self._told_retry + COMING_BACK):
                    await stream.wait_taken()
        if left is not None:
            # Nothing may be sent when the request has been answered. It takes `FAREWELL` at most.
            with trio.CancelScope(shield=True):
                await left.wait()

    async def poll(self, retry: float | None) -> None:
        if self._finished or not self._primes:
            return
        pause = min(max(RETRY if retry is None else retry, SHORTEST_RETRY), LONGEST_RETRY)
        if begun := self._begun(pause):
            await self._write(begun)
        self._is_polled = True
        self._opened().poll(pause)

    def replaced(self) -> None:
        self._leave(b"")

    def asked_to_poll(self, retry: float) -> None:
        stream = self._opened()
        told = retry == self._told_retry
        self._leave(b"" if told else render_priming(render_event_id(stream.name, stream.position), retry))

    async def _write(self, events: bytes, *, is_last: bool = False) -> None:
        if self._left is None:
            await super()._write(events, is_last=is_last)

    def _opened(self) -> KeptStream:
        if self._stream is None:
            self._stream = self._kept.begin(self._session.owner, self._session.id, self._calls)
            self._stream.take(self)
        return self._stream

    def _begun(self, retry: float) -> bytes:
        """What stands before the first event, as long as there was none."""
        if self._stream is not None:
            return b""
        stream, self._told_retry = self._opened(), retry
        return render_priming(render_event_id(stream.name, 0), retry) if self._primes else b""

    def _leave(self, farewell: bytes) -> None:
        """Whatever comes is for another connection. This one may be broken, and nobody waits until that is seen."""
        self._left = trio.Event()
        self._nursery.start_soon(self._end_connection, farewell, self._left)

    async def _end_connection(self, farewell: bytes, left: trio.Event) -> None:
        try:
            with trio.move_on_after(FAREWELL):
                await super()._write(farewell, is_last=True)
        finally:
            left.set()
