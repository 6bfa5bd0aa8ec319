"""The bridge: messages from a client's lines to an endpoint, and the endpoint's answers back as lines.

It understands what it must: which answer belongs to which request, what cancels
one, and where a session begins and has to begin anew. Everything else passes as
it came. A call runs as a task of its own, so that a slow one holds up nobody.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio

from ..protocol.bridging import (
    ACCEPT,
    SESSION_HEADER,
    Session,
    annotated_tools,
    post_headers,
    stateless_revision,
)
from ..protocol.headers import Annotated
from ..protocol.jsonrpc import (
    INTERNAL_ERROR,
    Call,
    Failure,
    Id,
    Json,
    Notice,
    Success,
    Unreadable,
    failure,
    parse_strict,
    render,
)
from ..protocol.revisions import WITHOUT_HEADER
from .endpoint import Answer, Endpoint, EndpointLost, Place, messages_of, whole_body
from .going_on import going_on

PATIENCE = 15.0  # seconds to wait for an endpoint that cannot be reached: it may be restarting
PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds between two tries; the last again and again
LAST_WORDS = 1.5  # seconds for calls to end after their client has no more to say; clients give us two (MCP, shutdown)
NOTICE_WITHIN = 10.0  # seconds for the endpoint to take a notification

log = logging.getLogger(__name__)

Write = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class _Running:
    stateless: bool
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    cancelled: bool = False


class Bridge:
    """One client's. `write` takes one message without its line end, and may be called by several tasks."""

    def __init__(self, endpoint: Endpoint, write: Write) -> None:
        self._endpoint = endpoint
        self._write = write
        self._running: dict[Id, _Running] = {}
        self._session: Session | None = None
        self._begin: bytes | None = None  # the client's `initialize`, to begin anew where a session has ended
        self._renewing = trio.Lock()
        self._tools: dict[str, Annotated] = {}
        self._idle = trio.Event()
        self._reading = trio.CancelScope()
        self._following: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Bridge {len(self._running)} calls>"

    async def run(self, lines: AsyncIterable[bytes]) -> None:
        """Until the client has no more to say, or `stop`, and its calls are answered, or had `LAST_WORDS` to be."""
        async with trio.open_nursery() as nursery:
            with self._reading:
                async for line in lines:
                    if line.strip():
                        await self._take(line, nursery)
            with trio.move_on_after(LAST_WORDS):
                while self._running:
                    self._idle = trio.Event()
                    await self._idle.wait()
            nursery.cancel_scope.cancel("the client has ended")
        if self._session is not None and self._session.id is not None:
            with trio.move_on_after(LAST_WORDS, shield=True):
                await self._deliver("DELETE", {**ACCEPT, **self._session.headers}, b"")

    def stop(self) -> None:
        """Hear no more of the client."""
        self._reading.cancel("told to stop")

    async def _take(self, line: bytes, nursery: trio.Nursery) -> None:
        try:
            message = parse_strict(line)
        except Unreadable as exc:
            await self._write(render(failure(exc.id, exc.code, str(exc))))
            return
        match message:
            case Call(id, "initialize") if stateless_revision(message) is None:
                self._begin = line
                await self._relay(message, line, _Running(stateless=False))  # nothing overtakes it
            case Call(id):
                running = self._running[id] = _Running(stateless_revision(message) is not None)
                nursery.start_soon(self._run_call, message, line, running)
            case Notice("notifications/cancelled", params) if self._cancels(params):
                pass
            case Notice(method):
                await self._deliver("POST", post_headers(message, self._session, {}), line)
                if method == "notifications/initialized" and self._session is not None:
                    self._follow(nursery)
            case Success() | Failure():
                nursery.start_soon(self._deliver, "POST", post_headers(message, self._session, {}), line)
            case tuple():
                nursery.start_soon(self._relay_batch, line)

    def _cancels(self, params: Json) -> bool:
        """Whether that is all there is to do: a stateless call is cancelled by leaving it, an older one by its
        endpoint, which is told as well; its answer is of no use any more."""
        id = params.get("requestId")
        running = self._running.get(id) if isinstance(id, str | int) else None
        if running is None:
            return False
        running.cancelled = True
        if running.stateless:
            running.scope.cancel("cancelled by the client")
        return running.stateless

    async def _run_call(self, call: Call, line: bytes, running: _Running) -> None:
        try:
            with running.scope:
                await self._relay(call, line, running)
        finally:
            if self._running.get(call.id) is running:
                del self._running[call.id]
            self._idle.set()

    async def _relay(self, call: Call, line: bytes, running: _Running) -> None:
        """Have one request answered, whatever happens."""
        try:
            session = self._session
            if not await self._exchange(call, line, running, session):
                await self._renew(session)
                await self._exchange(call, line, running, self._session, last=True)
        except EndpointLost as exc:
            log.warning("%s was not answered: %s", call.method[:80], exc)
            if not running.cancelled:
                await self._write(render(failure(call.id, INTERNAL_ERROR, f"mcp-aggregator stdio: {exc}")))

    async def _exchange(
        self, call: Call, line: bytes, running: _Running, session: Session | None, *, last: bool = False
    ) -> bool:
        """False if the session has ended and the request is to be sent again on another.

        Raises:
            EndpointLost: if there was no answer to the request.
        """
        answered, place = False, Place()
        headers = post_headers(call, None if call.method == "initialize" else session, self._tools)
        async with _posted(self._endpoint, headers, line) as answer:
            if answer.status == 404 and SESSION_HEADER in headers and not last and self._begin is not None:
                return False
            try:
                async with aclosing(messages_of(answer, place)) as messages:
                    async for message in messages:
                        answered = await self._take_message(call, message, answer, running) or answered
            except EndpointLost:
                if answered or not place.last_event:
                    raise
        if not answered and place.last_event and session is not None:
            async with aclosing(going_on(self._endpoint, session, place)) as messages:
                async for message in messages:
                    answered = await self._take_message(call, message, answer, running)
                    if answered:
                        break
        if not answered:
            raise EndpointLost(f"the answer ended without a result (HTTP {answer.status})", sent=True)
        return True

    async def _take_message(self, call: Call, message: bytes, answer: Answer, running: _Running) -> bool:
        """Pass on one message of those that answer `call`; whether it was the answer.

        Raises:
            EndpointLost: if it is none of MCP's.
        """
        content = _read(message)
        is_answer = "method" not in content and ("result" in content or isinstance(content.get("error"), dict))
        if is_answer:
            self._note(call, content, answer)
            if content.get("id") is None and "error" in content:
                # the endpoint could not say whom it answers; we can
                message = render(Failure(call.id, content["error"]))
        elif answer.status >= 400:
            raise EndpointLost(_why(answer.status, content), sent=True)
        if not running.cancelled:
            await self._write(message)
        return is_answer

    def _note(self, call: Call, content: Json, answer: Answer) -> None:
        """Remember what later requests need."""
        result = content.get("result")
        if not isinstance(result, dict):
            return
        if call.method == "initialize":
            revision = result.get("protocolVersion")
            agreed = revision if isinstance(revision, str) else WITHOUT_HEADER
            self._session = Session(answer.headers.get(SESSION_HEADER), agreed)
        elif call.method == "tools/list":
            self._tools.update(annotated_tools(result))

    async def _relay_batch(self, line: bytes) -> None:
        headers = post_headers(Notice("", {}), self._session, {})
        try:
            async with _posted(self._endpoint, headers, line) as answer, aclosing(messages_of(answer)) as messages:
                async for message in messages:
                    await self._write(message)
        except EndpointLost as exc:
            log.warning("a batch was not answered: %s", exc)

    async def _renew(self, ended: Session | None) -> None:
        """Begin a session in the place of `ended`, as the client began it; others may have done so meanwhile.

        Raises:
            EndpointLost: if that is not possible.
        """
        async with self._renewing:
            if self._session is not ended or self._begin is None:
                return
            begin = parse_strict(self._begin)
            assert isinstance(begin, Call)
            log.info("the session has ended there; beginning another")
            headers = post_headers(begin, None, {})
            async with (
                _posted(self._endpoint, headers, self._begin) as answer,
                aclosing(messages_of(answer)) as messages,
            ):
                async for message in messages:
                    self._note(begin, _read(message), answer)
            notice = Notice("notifications/initialized", {})
            await self._deliver("POST", post_headers(notice, self._session, {}), render(notice))

    async def _deliver(self, method: str, headers: dict[str, str], body: bytes) -> None:
        """Send what wants no answer; trouble is logged."""
        try:
            with trio.move_on_after(NOTICE_WITHIN):
                async with self._endpoint.send(method, headers, body) as answer:
                    said = await whole_body(answer)
                    if answer.status >= 400:
                        log.warning("the endpoint did not take a message: %s", _why(answer.status, _read(said)))
        except EndpointLost as exc:
            log.warning("the endpoint did not take a message: %s", exc)

    def _follow(self, nursery: trio.Nursery) -> None:
        if self._following is not None:
            self._following.cancel("there is a newer session")
        self._following = trio.CancelScope()
        nursery.start_soon(self._listen, self._following)

    async def _listen(self, scope: trio.CancelScope) -> None:
        """What the endpoint says between calls, in a session; opened again for as long as we run."""
        pause = 0.0
        with scope:
            while True:
                await trio.sleep(pause)
                session = self._session
                assert session is not None
                began = trio.current_time()
                try:
                    async with self._endpoint.send(
                        "GET", {"accept": "text/event-stream", **session.headers}, b""
                    ) as answer:
                        if answer.status == 404 and session.id is not None:
                            await self._renew(session)
                        elif answer.status >= 400:
                            return  # it has no such stream
                        else:
                            async with aclosing(messages_of(answer)) as messages:
                                async for message in messages:
                                    await self._write(message)
                except EndpointLost as exc:
                    log.debug("the stream between calls has ended: %s", exc)
                pause = 1.0 if trio.current_time() - began > 30 else min(max(pause * 2, 1.0), 30.0)


@asynccontextmanager
async def _posted(endpoint: Endpoint, headers: dict[str, str], body: bytes) -> AsyncIterator[Answer]:
    """`Endpoint.send`, again for `PATIENCE` seconds while nothing could be sent."""
    give_up_at = trio.current_time() + PATIENCE
    pauses = iter(PAUSES)
    async with AsyncExitStack() as stack:
        while True:
            try:
                answer = await stack.enter_async_context(endpoint.send("POST", headers, body))
                break
            except EndpointLost as exc:
                pause = next(pauses, PAUSES[-1])
                if exc.sent or trio.current_time() + pause > give_up_at:
                    raise
                if pause == PAUSES[0]:
                    log.warning("%s; waiting for it, %g s at most", exc, PATIENCE)
            await trio.sleep(pause)
        yield answer


def _read(message: bytes) -> Json:
    try:
        content = json.loads(message)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _why(status: int, content: Json) -> str:
    """An HTTP error in words."""
    error = content.get("error")
    told = content.get("error_description") or (error.get("message") if isinstance(error, dict) else error)
    return f"HTTP {status}" + (f": {told}" if isinstance(told, str) else "")
