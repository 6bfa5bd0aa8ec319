"""An answer whose stream ended before it came, taken up where it ended (2025-11-25, resumability and redelivery).

The endpoint may have closed the stream itself, to be asked again later (SEP-1699), or
the connection broke. Whoever waits at the other end of the lines notices nothing but
the time. This file must not know what the messages say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio

from ..protocol.bridging import Session
from .endpoint import Endpoint, EndpointLost, Place, messages_of

PAUSE, SHORTEST, LONGEST = 1.0, 0.1, 30.0  # seconds before a stream is taken up: what is usual, and may be asked for
FUTILE = 5  # attempts in a row that bring nothing new


async def going_on(endpoint: Endpoint, session: Session, place: Place) -> AsyncGenerator[bytes, None]:
    """Each message behind `place`, on as many streams as it takes. It ends when the endpoint has no more, or nothing
    new comes; whether the answer was among them is for the caller to say.
    """
    futile = 0
    while futile < FUTILE:
        await trio.sleep(PAUSE if place.retry is None else min(max(place.retry, SHORTEST), LONGEST))
        headers = {"accept": "text/event-stream", **session.headers, "last-event-id": place.last_event}
        before = place.last_event
        try:
            async with endpoint.send("GET", headers, b"") as answer:
                if answer.status == 204 or answer.status >= 400:
                    return
                async with aclosing(messages_of(answer, place)) as messages:
                    async for message in messages:
                        yield message
        except EndpointLost:
            pass  # it broke once more, or nobody is there just now
        futile = 0 if place.last_event != before else futile + 1
