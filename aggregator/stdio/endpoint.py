"""What the bridge expects of an endpoint, and the messages of its answers.

This file must not know how an endpoint is reached.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Protocol

from ..protocol.jsonrpc import dump
from ..protocol.sse import EventReader, EventTooLarge

MAX_ANSWER = 64 * 2**20  # bytes of an answer in one piece


class EndpointLost(Exception):
    """The endpoint cannot be reached, or left in the middle of an answer. `sent` says whether it may have our request.

    The text is for whoever started the bridge.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Answer(Protocol):
    """An HTTP answer whose head has come. Header names are in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, once.

        Raises:
            EndpointLost: if it ends too early.
        """
        ...


class Endpoint(Protocol):
    """An MCP endpoint. Leaving the block of an answer that has not ended ends it there, too."""

    def send(self, method: str, headers: Mapping[str, str], body: bytes) -> AbstractAsyncContextManager[Answer]:
        """
        Raises:
            EndpointLost: if there is no answer.
        """
        ...


@dataclass(slots=True)
class Place:
    """Where in a stream we are, if it can be taken up there, and in how many seconds the endpoint wants that."""

    last_event: str = ""
    retry: float | None = None


async def messages_of(answer: Answer, place: Place | None = None) -> AsyncGenerator[bytes, None]:
    """Each message of an answer as one line, as it arrives; `place` is kept up to date.

    Raises:
        EndpointLost: if the answer ends too early, or never.
    """
    if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
        body = await whole_body(answer)
        if body.strip():
            yield _as_line(body)
        return
    reader = EventReader()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            try:
                events = reader.feed(chunk)
            except EventTooLarge as exc:
                raise EndpointLost(str(exc), sent=True) from exc
            if place is not None and reader.last_id:
                place.last_event = reader.last_id
                place.retry = place.retry if reader.retry is None else reader.retry / 1000
            for event in events:
                if event.strip():
                    yield _as_line(event)


async def whole_body(answer: Answer) -> bytes:
    """
    Raises:
        EndpointLost: if it ends too early, or is larger than `MAX_ANSWER`.
    """
    body = bytearray()
    async for chunk in answer.chunks():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise EndpointLost(f"its answer is larger than {MAX_ANSWER} bytes", sent=True)
    return bytes(body)


def _as_line(message: bytes) -> bytes:
    """`message` without line breaks: stdio has one message a line. What is no JSON is passed on as far as possible."""
    if b"\n" not in message and b"\r" not in message:
        return message
    try:
        return dump(json.loads(message))
    except ValueError:
        return b" ".join(message.split())
