"""Streams that clients open to hear what changes between calls: GET of a session, or ``subscriptions/listen``.

A stream ends when its client leaves or loses its access, when its session ends,
and when we stop serving. This file must not know what changes, or how that is found out.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from ...errors import Refusal, StoreUnavailable
from ...protocol.jsonrpc import INVALID_PARAMS, Json, Notice, Success, failure
from ...protocol.principal import Principal
from ...protocol.subscriptions import KINDS, Wanted, acknowledged, ended, read_filter, tagged
from ...protocol.tasks import is_declared, undeclared
from ...store.mail import EVERYBODY
from ...store.session_rows import End
from ..pulse import Pulse
from ..reply import Receive, Reply
from .asked import Asked
from .client_sessions import ClientSession, ClientSessions
from .listening import Listening, News
from .mailbox import Mailbox
from .tasks import TaskIds

STREAMS_PER_PERSON = 64
MAX_URIS = 500  # of one stream

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Followed:
    """The stream of a session. Once it is announced, one that another instance announces is newer."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    number: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    is_announced: bool = False


class McpStreams:
    """All open streams of clients. `close` ends them in order, and lets none begin."""

    def __init__(
        self, listening: Listening, sessions: ClientSessions, pulse: Pulse, mailbox: Mailbox, tasks: TaskIds
    ) -> None:
        self._listening = listening
        self._tasks = tasks
        self._mailbox = mailbox
        self._sessions = sessions
        self._pulse = pulse
        self._closing = trio.Event()
        self._of_sessions: dict[str, _Followed] = {}
        self._open: dict[str, int] = {}
        mailbox.hear("stream", self._hear, own=True)

    def __len__(self) -> int:
        return sum(self._open.values())

    def close(self) -> None:
        self._closing.set()

    def check_room(self, principal: Principal) -> None:
        """
        Raises:
            Refusal: 429 for a person who has too many streams open.
        """
        if self._open.get(principal.key, 0) >= STREAMS_PER_PERSON:
            told = f"You have {STREAMS_PER_PERSON} streams open already; close one of them."
            raise Refusal(429, "temporarily_unavailable", told)

    async def follow(self, session: ClientSession, principal: Principal, reply: Reply, receive: Receive) -> None:
        """The GET stream of a session (2025-11-25, listening for messages). A newer one of the session replaces it,
        wherever it is opened: each message goes out on one stream only.
        """
        self._replace(session.id)
        followed = self._of_sessions[session.id] = _Followed()
        news = News()
        states = self._sessions.states

        def wake() -> None:
            if states.find(session.id).is_over:
                followed.scope.cancel("the session is over")
            news.come()

        try:
            with followed.scope, states.watched(session.id, wake):
                await reply.keep_alive()  # the head goes out now, whenever there is something to tell
                await self._tell_others(session, followed.number)

                async def listen() -> None:
                    await self._listening.listen(
                        principal, KINDS, lambda: states.find(session.id).subscriptions, reply.notice, _nothing, news
                    )

                await self._run(principal, reply, receive, listen)
        finally:
            if self._of_sessions.get(session.id) is followed:
                del self._of_sessions[session.id]
        await reply.end()

    async def end_session(self, session: ClientSession) -> None:
        """The client ends its session (DELETE), and with it the session's stream, wherever that is.

        Raises:
            StoreUnavailable: if it cannot be remembered; the session goes on then.
        """
        await self._sessions.change(session, End())

    def _replace(self, session: str) -> None:
        if (older := self._of_sessions.get(session)) is not None:
            older.scope.cancel("the session has a newer stream")

    async def _tell_others(self, session: ClientSession, number: str) -> None:
        try:
            await self._mailbox.post(EVERYBODY, "stream", session.owner, {"session": session.id, "stream": number})
        except StoreUnavailable as exc:
            log.debug("an older stream of a session may live on at another instance: %s", exc)

    async def _hear(self, content: Json) -> None:
        """Streams are as old as their mail, which everybody reads in the same order: what comes before our own stream's
        is about an older one."""
        followed = self._of_sessions.get(content["session"])
        if followed is None:
            return
        if content["stream"] == followed.number:
            followed.is_announced = True
        elif content["from"] != self._mailbox.instance and followed.is_announced:
            self._replace(content["session"])

    async def subscribe(self, asked: Asked, reply: Reply, receive: Receive) -> None:
        """``subscriptions/listen`` (2026-07-28)."""
        id = asked.call.id
        wanted = read_filter(asked.call.params.get("notifications"))
        if wanted is None or len(wanted.uris) > MAX_URIS or len(wanted.tasks) > MAX_URIS:
            told = f"'notifications' must be a filter, with at most {MAX_URIS} resourceSubscriptions and taskIds each"
            await reply.finish(failure(id, INVALID_PARAMS, told))
            return
        if wanted.tasks and not is_declared(asked.envelope.capabilities):
            await reply.finish(undeclared(id))
            return
        places = ((self._tasks.find(asked.principal, text), text) for text in sorted(wanted.tasks))
        tasks = {place: text for place, text in places if place is not None}

        async def tell(notice: Notice) -> None:
            await reply.notice(tagged(notice, id))

        async def acknowledge(honoured: Wanted) -> None:
            await tell(acknowledged(honoured))

        async def listen() -> None:
            news = News()
            await self._listening.listen(
                asked.principal, wanted.kinds, lambda: wanted.uris, tell, acknowledge, news, tasks
            )

        if await self._run(asked.principal, reply, receive, listen):
            await reply.finish(Success(id, ended(id)))

    async def _run(
        self, principal: Principal, reply: Reply, receive: Receive, listen: Callable[[], Awaitable[None]]
    ) -> bool:
        """Until the client leaves or stops reading, or we stop; whether the stream ends in order.

        Raises:
            StoreUnavailable: if the person's view cannot be looked up, and nothing was sent yet.
        """
        if self._closing.is_set():
            return True
        key = principal.key
        self._open[key] = self._open.get(key, 0) + 1
        in_order = False
        trouble: StoreUnavailable | None = None

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel("the client disconnected")

        async def close() -> None:
            nonlocal in_order
            await self._closing.wait()
            in_order = True
            nursery.cancel_scope.cancel("we stop serving")

        try:
            with self._pulse.keeping(reply):
                async with trio.open_nursery() as nursery:
                    reply.on_break = partial(nursery.cancel_scope.cancel, "the client stopped reading")
                    nursery.start_soon(leave)
                    nursery.start_soon(close)
                    try:
                        await listen()
                    except StoreUnavailable as exc:
                        trouble = exc  # raised outside, where no nursery wraps it
                    nursery.cancel_scope.cancel()
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
        if trouble is not None and not reply.has_begun:
            raise trouble
        if trouble is not None:
            log.warning("a stream ends, since its person's view cannot be looked up: %s", trouble)
        return in_order


async def _nothing(honoured: Wanted) -> None:
    """Older clients are not told what they will be told of."""
