"""`POST /mcp`: who asks, in which revision, and what; then the answer.

Here one HTTP request becomes one `Asked` value, and its outcome one `Reply`.
What a method does is `web/mcp/methods.py`'s affair. A request's work runs in a
nursery of its own; for a 2026-07-28 client a sibling task watches for the
disconnect, which there means cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import trio

from ...protocol import jsonrpc
from ...protocol.accept import prefers_events
from ...protocol.headers import VERSION_HEADER, Mismatch, check_envelope
from ...protocol.jsonrpc import Batch, Call, Failure, Json, Notice, Success, Unreadable, failure, parse_strict, render
from ...protocol.revisions import (
    STATELESS,
    WITHOUT_HEADER,
    agreed_revision,
    disconnect_cancels,
    has_batches,
    is_stateless,
)
from ...protocol.translate import read_envelope
from ..authentication import Authenticated, Authentication, until_withdrawn
from ..body import read_body
from ..pulse import Pulse
from ..reply import RawHeaders, Receive, Reply, Send, send_whole
from .asked import Asked, Rendered
from .client_sessions import ClientSession, ClientSessions
from .headers import SESSION_HEADER, check_media_types, read_headers, revision_of
from .methods import McpMethods
from .questions import Questions
from .resumable_reply import ResumableReplies
from .running_calls import RunningCalls
from .session_endpoint import SessionEndpoint, wrong_method
from .streams import McpStreams


class McpEndpoint:
    """The endpoint. Holds no task: each request's work lives and ends within its own call."""

    def __init__(
        self,
        authentication: Authentication,
        sessions: ClientSessions,
        methods: McpMethods,
        questions: Questions,
        running: RunningCalls,
        pulse: Pulse,
        streams: McpStreams,
        replies: ResumableReplies,
        session_endpoint: SessionEndpoint,
        *,
        body_limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._authentication = authentication
        self._sessions = sessions
        self._methods = methods
        self._questions = questions
        self._running = running
        self._pulse = pulse
        self._streams = streams
        self._replies = replies
        self._session_endpoint = session_endpoint
        self._body_limit = body_limit
        self._clock = clock

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, extra: RawHeaders) -> None:
        """Answer one request; `extra` headers go out with every answer.

        Raises:
            Refusal: for everything that is wrong below JSON-RPC.
            ClientGoneError: see `read_body`.
        """
        if scope["method"] not in ("POST", "GET", "DELETE"):
            raise wrong_method(scope["method"])
        who = self._authentication.authenticate(scope["headers"])
        headers = read_headers(scope["headers"])
        if (text := headers.get(SESSION_HEADER)) is not None and headers.get(VERSION_HEADER) != STATELESS:
            await self._sessions.recall(text, who.principal, now=self._clock())
        if scope["method"] != "POST":
            session = None if headers.get(VERSION_HEADER) == STATELESS else self._find_session(who, headers)
            if session is None:
                raise wrong_method(scope["method"])
            answer = self._session_endpoint.answer
            while_let_in = until_withdrawn(receive, self._authentication, who.grant_id)
            await answer(scope["method"], session, who.principal, headers, while_let_in, send, extra)
            return
        check_media_types(headers)
        body = await read_body(receive, self._body_limit)
        message: jsonrpc.Message | jsonrpc.Batch | None = None
        try:
            match message := parse_strict(body):
                case Call():
                    await self._answer(message, who, headers, receive, send, extra)
                case tuple():
                    await self._answer_batch(message, who, headers, send, extra)
                case Notice():
                    await self._hear(message, revision_of(message, headers), who, headers)
                    await send_whole(send, 202, extra, b"")
                case Success() | Failure():
                    await self._take_answer(message, who, headers)
                    await send_whole(send, 202, extra, b"")
        except Mismatch as exc:
            id = message.id if isinstance(message, Call) else None
            await Reply(send, STATELESS, extra).finish(failure(id, exc.code, str(exc), exc.data))
        except Unreadable as exc:
            # Below the revisions' tables: a message that cannot be read is 400 in each of them.
            await Reply(send, STATELESS, extra).finish(_unreadable(exc))

    async def _answer(
        self,
        call: Call,
        who: Authenticated,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
        extra: RawHeaders,
    ) -> None:
        asked = self._asked(call, revision_of(call, headers), who, headers)
        if call.method == "initialize" and not is_stateless(asked.revision):
            text = self._sessions.begin(who.principal, asked.revision, _capabilities(call.params), now=self._clock())
            extra = [*extra, (SESSION_HEADER.encode(), text.encode())]
        reply = self._reply(asked.session, asked.revision, (call,), headers, send, extra)
        if call.method == "subscriptions/listen" and is_stateless(asked.revision):
            self._streams.check_room(who.principal)
            while_let_in = until_withdrawn(receive, self._authentication, who.grant_id)
            await self._streams.subscribe(asked, reply, while_let_in)
            return
        if (outcome := self._methods.answer_at_once(asked)) is not None:
            await _finish(reply, outcome)
        elif disconnect_cancels(asked.revision):
            with self._pulse.keeping(reply):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
                    outcome = await self._do(asked, reply)
                    nursery.cancel_scope.cancel()
            if outcome is not None:  # else the client is gone
                await _finish(reply, outcome)
        else:
            asked = replace(asked, poll=reply.poll)
            try:
                with self._pulse.keeping(reply):
                    await reply.begin()
                    outcome = await self._running.run(asked, lambda: self._do(asked, reply))
                await _finish(reply, outcome)
            finally:
                await reply.close()

    def _reply(
        self,
        session: ClientSession | None,
        revision: str,
        calls: Sequence[Call],
        headers: Mapping[str, str],
        send: Send,
        extra: RawHeaders,
    ) -> Reply:
        """One that can be taken up where it breaks, for a client that has a session."""
        if session is None:
            return Reply(send, revision, extra)
        prefers = prefers_events(headers.get("accept", ""))
        return self._replies.reply(send, extra, session, calls, prefers_events=prefers)

    async def _answer_batch(
        self, batch: Batch, who: Authenticated, headers: Mapping[str, str], send: Send, extra: RawHeaders
    ) -> None:
        """2025-03-26: several messages at once; their answers come together, in the order of the calls."""
        revision = headers.get(VERSION_HEADER, WITHOUT_HEADER)
        if not has_batches(revision):
            raise Unreadable(jsonrpc.INVALID_REQUEST, f"{revision[:20]} has no batches; send one message at a time")
        if any(isinstance(part, Call) and part.method == "initialize" for part in batch):
            raise Unreadable(jsonrpc.INVALID_REQUEST, "initialize must not be part of a batch")
        for part in batch:
            if isinstance(part, Notice):
                await self._hear(part, revision, who, headers)
        asked = {
            place: self._asked(part, revision_of(part, headers), who, headers)
            for place, part in enumerate(batch)
            if isinstance(part, Call)
        }
        answers = {place: render(_unreadable(part)) for place, part in enumerate(batch) if isinstance(part, Unreadable)}
        calls = [one.call for one in asked.values()]
        reply = self._reply(self._find_session(who, headers), revision, calls, headers, send, extra)

        async def answer(place: int, one: Asked) -> None:
            outcome = self._methods.answer_at_once(one)
            if outcome is None:
                outcome = await self._running.run(one, lambda: self._do(one, reply))
            answers[place] = outcome.body if isinstance(outcome, Rendered) else render(outcome)

        if not asked and not answers:
            await send_whole(send, 202, extra, b"")
            return
        try:
            with self._pulse.keeping(reply):
                async with trio.open_nursery() as nursery:
                    for place, one in asked.items():
                        nursery.start_soon(answer, place, one)
            await reply.finish_rendered(b"[" + b",".join(answers[place] for place in sorted(answers)) + b"]")
        finally:
            await reply.close()

    def _asked(self, call: Call, revision: str, who: Authenticated, headers: Mapping[str, str]) -> Asked:
        """Raises:
        Mismatch: if a stateless request is not whole, or contradicts its headers.
        Refusal: 404 for a session that is not this person's.
        """
        session: ClientSession | None = None
        if is_stateless(revision):  # it knows no sessions, and a header that names one is ignored
            check_envelope(call.method, call.params, headers)
        elif call.method == "initialize":
            revision = agreed_revision(call.params.get("protocolVersion"))
        else:
            session = self._find_session(who, headers)
        envelope = read_envelope(
            call.params,
            revision,
            log_level=self._sessions.level(session),
            capabilities=session.capabilities if session is not None else None,
        )
        return Asked(call, revision, who.principal, envelope, headers, session)

    async def _do(self, asked: Asked, reply: Reply) -> Success | Failure | Rendered:
        try:
            return await self._methods.answer(asked, reply.notice)
        except Mismatch as exc:  # here and not further out, where a nursery has wrapped it
            return failure(asked.call.id, exc.code, str(exc), exc.data)

    async def _hear(self, notice: Notice, revision: str, who: Authenticated, headers: Mapping[str, str]) -> None:
        """Notifications ask for no answer; of those a client may send, only a cancellation changes anything here."""
        if is_stateless(revision) or notice.method != "notifications/cancelled":
            return
        session = self._find_session(who, headers)
        id = notice.params.get("requestId")
        if isinstance(id, str | int) and not isinstance(id, bool):
            await self._running.cancel(who.principal, session, id)

    async def _take_answer(self, answer: Success | Failure, who: Authenticated, headers: Mapping[str, str]) -> None:
        """Raises:
        Unreadable: if nobody waits for this answer from this person and session.
        """
        session = self._find_session(who, headers)
        if session is None or not await self._questions.take(answer, who.principal.key, session.id):
            raise Unreadable(jsonrpc.INVALID_REQUEST, "no request of ours waits for this answer")

    def _find_session(self, who: Authenticated, headers: Mapping[str, str]) -> ClientSession | None:
        text = headers.get(SESSION_HEADER)
        return None if text is None else self._sessions.find(text, who.principal, now=self._clock())


async def _finish(reply: Reply, outcome: Success | Failure | Rendered) -> None:
    if isinstance(outcome, Rendered):
        await reply.finish_rendered(*outcome.pieces)
    else:
        await reply.finish(outcome)


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel("the client disconnected")


def _unreadable(exc: Unreadable) -> Failure:
    return failure(exc.id, exc.code, str(exc))


def _capabilities(params: Json) -> Json:
    capabilities = params.get("capabilities")
    return capabilities if isinstance(capabilities, dict) else {}
