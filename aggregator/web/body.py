"""Reading a request's body: bounded in bytes and in time, whatever `Content-Length` says."""

from __future__ import annotations

import trio

from ..errors import Refusal
from .reply import Receive

BODY_DEADLINE = 30.0  # seconds for the whole body; a client that drips bytes must not hold a connection for ever


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete; nobody is left to answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The body.

    Raises:
        Refusal: 413 beyond `limit` bytes, 408 after `BODY_DEADLINE` seconds.
        ClientGoneError: if the client left.
    """
    chunks: list[bytes] = []
    size = 0
    with trio.move_on_after(BODY_DEADLINE):
        message = await receive()
        while message["type"] == "http.request":
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await receive()
        raise ClientGoneError
    raise Refusal(408, "invalid_request", f"The body did not arrive within {BODY_DEADLINE:g} seconds.")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "invalid_request", f"The body is larger than {limit} bytes, the limit of this endpoint.")
