"""`POST /mcp`: who asks, in which revision, and what; then the answer.

Here one HTTP request becomes one `Asked` value, and its outcome one `Reply`.
What a method does is `web/mcp_methods.py`'s affair. A request's work runs in a
nursery of its own; for a 2026-07-28 client a sibling task watches for the
disconnect, which there means cancel.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import trio

from ..errors import Refusal
from ..protocol import jsonrpc
from ..protocol.headers import METHOD_HEADER, NAME_HEADER, VERSION_HEADER, Mismatch, check_envelope, unsupported
from ..protocol.jsonrpc import Batch, Call, Failure, Json, Notice, Success, Unreadable, failure, parse_strict, render
from ..protocol.revisions import (
    FOR_CLIENTS,
    PROTOCOL_VERSION_KEY,
    STATELESS,
    WITHOUT_HEADER,
    agreed_revision,
    disconnect_cancels,
    has_batches,
    is_stateless,
)
from ..protocol.translate import read_envelope
from .asked import Asked, Rendered
from .authentication import Authenticated, Authentication
from .body import read_body
from .client_sessions import ClientSession, ClientSessions
from .http import Response
from .mcp_methods import McpMethods
from .mcp_streams import STREAMS_PER_PERSON, McpStreams
from .pulse import Pulse
from .questions import Questions
from .reply import RawHeaders, Receive, Reply, Send, send_whole
from .running_calls import RunningCalls

SESSION_HEADER = "mcp-session-id"

_ROUTING_HEADERS = frozenset({VERSION_HEADER, METHOD_HEADER, NAME_HEADER, SESSION_HEADER, "content-type", "accept"})

# What a page may send: the transport's own headers, and last-event-id, which SDKs of 2025-11-25 add on a retry.
_SCRIPT_HEADERS = (
    "authorization",
    "content-type",
    *sorted(_ROUTING_HEADERS - {"content-type", "accept"}),
    "last-event-id",
)
_PARAMETER_HEADER = re.compile(r"(?<![^, ])mcp-param-[a-z0-9_.-]+(?![^, ])", re.ASCII)
MAX_PARAMETER_HEADERS = 64

log = logging.getLogger(__name__)


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
        self._body_limit = body_limit
        self._clock = clock

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, extra: RawHeaders) -> None:
        """Answer one request; `extra` headers go out with every answer.

        Raises:
            Refusal: for everything that is wrong below JSON-RPC.
            ClientGoneError: see `read_body`.
        """
        if scope["method"] not in ("POST", "GET", "DELETE"):
            raise _wrong_method(scope["method"])
        who = self._authentication.authenticate(scope["headers"])
        headers = _headers(scope["headers"])
        if (text := headers.get(SESSION_HEADER)) is not None and headers.get(VERSION_HEADER) != STATELESS:
            await self._sessions.recall(text, who.principal, now=self._clock())
        if scope["method"] != "POST":
            await self._attend_session(scope["method"], who, headers, receive, send, extra)
            return
        _check_media_types(headers)
        body = await read_body(receive, self._body_limit)
        message: jsonrpc.Message | jsonrpc.Batch | None = None
        try:
            match message := parse_strict(body):
                case Call():
                    await self._answer(message, who, headers, receive, send, extra)
                case tuple():
                    await self._answer_batch(message, who, headers, send, extra)
                case Notice():
                    await self._hear(message, _revision(message, headers), who, headers)
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

    async def _attend_session(
        self,
        method: str,
        who: Authenticated,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
        extra: RawHeaders,
    ) -> None:
        """GET opens the stream of a session, DELETE ends it (2025-11-25; the stateless revision has neither).

        Raises:
            Refusal: 405 without a session, 404 for one that is not this person's, 406 for one who takes no stream.
        """
        session = None if headers.get(VERSION_HEADER) == STATELESS else self._find_session(who, headers)
        if session is None:
            raise _wrong_method(method)
        if method == "DELETE":
            await self._streams.end_session(session)
            await send_whole(send, 204, extra, b"")
            return
        if "text/event-stream" not in headers.get("accept", "") and "*/*" not in headers.get("accept", "*/*"):
            raise Refusal(406, "invalid_request", "GET opens an event stream; Accept must name text/event-stream.")
        self._check_room(who)
        await self._streams.follow(session, who.principal, Reply(send, session.revision, extra), receive)

    def _check_room(self, who: Authenticated) -> None:
        if not self._streams.has_room(who.principal):
            told = f"You have {STREAMS_PER_PERSON} streams open already; close one of them."
            raise Refusal(429, "temporarily_unavailable", told)

    async def _answer(
        self,
        call: Call,
        who: Authenticated,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
        extra: RawHeaders,
    ) -> None:
        asked = self._asked(call, _revision(call, headers), who, headers)
        if call.method == "initialize" and not is_stateless(asked.revision):
            text = self._sessions.begin(who.principal, asked.revision, _capabilities(call.params), now=self._clock())
            extra = [*extra, (SESSION_HEADER.encode(), text.encode())]
        reply = Reply(send, asked.revision, extra)
        if call.method == "subscriptions/listen" and is_stateless(asked.revision):
            self._check_room(who)
            await self._streams.subscribe(asked, reply, receive)
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
            with self._pulse.keeping(reply):
                outcome = await self._running.run(asked, lambda: self._do(asked, reply))
            await _finish(reply, outcome)

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
            place: self._asked(part, _revision(part, headers), who, headers)
            for place, part in enumerate(batch)
            if isinstance(part, Call)
        }
        answers = {place: render(_unreadable(part)) for place, part in enumerate(batch) if isinstance(part, Unreadable)}
        reply = Reply(send, revision, extra)

        async def answer(place: int, one: Asked) -> None:
            outcome = self._methods.answer_at_once(one)
            if outcome is None:
                outcome = await self._running.run(one, lambda: self._do(one, reply))
            answers[place] = outcome.body if isinstance(outcome, Rendered) else render(outcome)

        with self._pulse.keeping(reply):
            async with trio.open_nursery() as nursery:
                for place, one in asked.items():
                    nursery.start_soon(answer, place, one)
        if answers:
            await reply.finish_rendered(b"[" + b",".join(answers[place] for place in sorted(answers)) + b"]")
        else:
            await send_whole(send, 202, extra, b"")

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


def _wrong_method(method: str) -> Refusal:
    return Refusal(
        405,
        "invalid_request",
        f"{method[:20]} is for sessions of 2025-11-25 and before, and names one in Mcp-Session-Id; all else is POST.",
        headers=(("allow", "POST"),),
    )


async def _finish(reply: Reply, outcome: Success | Failure | Rendered) -> None:
    if isinstance(outcome, Rendered):
        await reply.finish_rendered(*outcome.pieces)
    else:
        await reply.finish(outcome)


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel("the client disconnected")


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; those that decide what a request means must not stand twice, since readers would differ."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name = key.decode("latin-1").lower()
        if name in headers and (name in _ROUTING_HEADERS or name.startswith("mcp-param-")):
            raise Refusal(400, "invalid_request", f"The header {name} stands more than once; send it once.")
        headers[name] = value.decode("latin-1")
    return headers


def _check_media_types(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "invalid_request", f"Content-Type is '{kind[:60]}'; send application/json.")
    accept = headers.get("accept", "*/*").lower()
    if "*/*" not in accept and not ("application/json" in accept and "text/event-stream" in accept):
        raise Refusal(
            406, "invalid_request", "Accept must name both application/json and text/event-stream; answers use either."
        )


def _revision(message: Call | Notice, headers: Mapping[str, str]) -> str:
    """The revision whose rules the message follows. A request in the stateless form must say so in its header.

    Raises:
        Mismatch: for a revision that we do not speak, or a body that names another than the header.
    """
    named = headers.get(VERSION_HEADER)
    if named == STATELESS:
        return named
    if named not in (None, *FOR_CLIENTS) and message.method != "initialize":
        raise unsupported(str(named))
    meta = message.params.get("_meta")
    if isinstance(message, Call) and isinstance(meta, dict) and meta.get(PROTOCOL_VERSION_KEY, named) != named:
        raise Mismatch(jsonrpc.HEADER_MISMATCH, "MCP-Protocol-Version differs from the revision in params._meta")
    return named if named in FOR_CLIENTS else WITHOUT_HEADER


def _unreadable(exc: Unreadable) -> Failure:
    return failure(exc.id, exc.code, str(exc))


def _capabilities(params: Json) -> Json:
    capabilities = params.get("capabilities")
    return capabilities if isinstance(capabilities, dict) else {}


def preflight(origin: str, requested: str) -> Response:
    """The answer to a browser's question whether a page of an allowed `origin` may call us (Fetch, CORS).

    `requested` is its Access-Control-Request-Headers: `Mcp-Param-*` have as many names as tools have parameters.
    """
    parameters = _PARAMETER_HEADER.findall(requested.lower())[:MAX_PARAMETER_HEADERS]
    return Response(
        204,
        b"",
        (
            *cors_headers(origin),
            ("access-control-allow-methods", "POST, GET, DELETE"),
            ("access-control-allow-headers", ", ".join((*_SCRIPT_HEADERS, *parameters))),
            ("access-control-max-age", "600"),
        ),
    )


def cors_headers(origin: str) -> tuple[tuple[str, str], ...]:
    """What lets a page of an allowed `origin` read our answers."""
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", "mcp-session-id, www-authenticate, x-request-id"),
        ("vary", "origin"),
    )
