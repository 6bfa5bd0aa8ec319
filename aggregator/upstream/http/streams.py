"""Streams over HTTP on which an upstream tells what changes between calls, in the way of either revision.

Each has a connection of its own, beside those of requests. This file does not know
when a stream is opened, nor who listens.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import trio

from ...errors import UpstreamLost, UpstreamRefused
from ...protocol.headers import METHOD_HEADER, NAME_HEADER, NAMED_BY, VERSION_HEADER, encode_value
from ...protocol.jsonrpc import Call, Failure, Json, Message, Notice, Success, render
from ...protocol.revisions import STATELESS
from ...protocol.subscriptions import ACKNOWLEDGED, Wanted, declared_for, read_filter, render_filter
from ...protocol.translate import Envelope, params_for_upstream
from ..credentials import Credential
from ..peers import Hear, Poll, drop, refuse
from .exchange import Exchange, Headers, Interrupted, OnMessage, converse, read_outcome, read_stream
from .sessions import JSON_AND_EVENTS, Ticket, Tickets

STREAMS = 2000  # at once to one upstream: one for everyone, and one for each account that somebody listens with

FIRST_RESUME, LAST_RESUME = 1.0, 30.0  # seconds before a broken stream is taken up again; what was asked for between
SHORTEST_RESUME = 0.1
FUTILE = 5  # attempts in a row that bring nothing new

Acknowledge = Callable[[Wanted], None]


async def listen_stateless(
    streams: Exchange, client: Json, credential: Credential, wanted: Wanted, hear: Hear, acknowledge: Acknowledge
) -> None:
    """2026-07-28, ``subscriptions/listen``. Returns when the upstream ends the stream in order.

    Raises:
        UpstreamLost, UpstreamRefused: if there is none, or it breaks.
    """
    id = secrets.token_hex(12)
    params = params_for_upstream(
        {"notifications": render_filter(wanted)},
        STATELESS,
        Envelope(STATELESS, declared_for(wanted)),
        token=None,
        client=client,
    )

    async def receive(message: Message) -> None:
        match message:
            case Notice(method, told) if method == ACKNOWLEDGED:
                acknowledge(read_filter(told.get("notifications")) or Wanted())
            case Notice():
                hear(message)
            case _:
                pass

    headers = [*stateless_headers("subscriptions/listen", {}, ()), *credential.headers]
    body = render(Call(id, "subscriptions/listen", params))
    async with streams.send("POST", headers, body) as answer:
        outcome = await read_outcome(answer, id, receive)
    if isinstance(outcome, Failure):
        raise UpstreamRefused(404, f"has no subscriptions: {outcome.message[:200]} ({outcome.code})")


async def listen_in_session(
    streams: Exchange, tickets: Tickets, ticket: Ticket, wanted: Wanted, hear: Hear, acknowledge: Acknowledge
) -> None:
    """2025-11-25 and before: the GET stream of a session. Raises: as `listen_stateless`."""

    async def receive(message: Message) -> None:
        match message:
            case Notice():
                hear(message)
            case Call(asked, "ping", _):
                await tickets.say(ticket, Success(asked, {}))
            case Call():
                await tickets.say(ticket, await refuse(message))
            case _:
                pass

    ticket.calls += 1  # it is in use, however little is said
    try:
        async with streams.send("GET", ticket.stream_headers(), b"") as answer:
            if answer.status < 300:
                acknowledge(Wanted(wanted.kinds))
            await read_stream(answer, receive)
    finally:
        ticket.calls -= 1
        ticket.used_at = trio.current_time()


async def subscribe_in_session(exchange: Exchange, ticket: Ticket, uris: frozenset[str]) -> frozenset[str]:
    """One request for each resource that is new, or no longer wanted; those that the server tells of. A subscription
    ends with its session.

    Raises:
        UpstreamLost, UpstreamRefused: see `converse`.
    """

    async def ask(method: str, uri: str) -> bool:
        id = secrets.token_hex(12)
        body = render(Call(id, method, {"uri": uri}))
        return isinstance(await converse(exchange, ticket.headers(), body, id, drop), Success)

    for uri in sorted(ticket.subscribed - uris):
        await ask("resources/unsubscribe", uri)
        ticket.subscribed.discard(uri)
    for uri in sorted(uris - ticket.subscribed):
        if await ask("resources/subscribe", uri):
            ticket.subscribed.add(uri)
    return frozenset(ticket.subscribed)


async def resume(
    exchange: Exchange, ticket: Ticket, lost: Interrupted, id: str, on_message: OnMessage, poll: Poll
) -> Success | Failure:
    """The answer to request `id`, whose stream broke, or was closed by a server that wants to be asked again later
    (2025-11-25, resumability: GET with `Last-Event-ID`). It lasts as long as something new comes. Whenever the server
    wants that, `poll` is told first.

    Raises:
        UpstreamLost: as the stream was lost, if it cannot be taken up again.
    """
    first, futile = lost, 0
    while futile < FUTILE:
        if lost.is_closed:
            await poll(lost.retry)
        await trio.sleep(min(max(FIRST_RESUME if lost.retry is None else lost.retry, SHORTEST_RESUME), LAST_RESUME))
        headers = [*ticket.stream_headers(), (b"last-event-id", lost.last_event.encode())]
        try:
            async with exchange.send("GET", headers, b"") as answer:
                if answer.status >= 300:
                    break  # whatever it says is about this GET, and no answer to the request
                return await read_outcome(answer, id, on_message)
        except Interrupted as exc:
            futile = 0 if exc.last_event != lost.last_event else futile + 1
            lost = exc
        except UpstreamLost:
            futile += 1
    raise UpstreamLost(str(first)) from first


def stateless_headers(method: str, params: Json, extra: tuple[tuple[str, str], ...]) -> Headers:
    """The headers that repeat the body, made from the body: what a client sent never travels on."""
    made = [
        *JSON_AND_EVENTS,
        (VERSION_HEADER.encode(), STATELESS.encode()),
        (METHOD_HEADER.encode(), method.encode()),
    ]
    if (named_by := NAMED_BY.get(method)) is not None:
        made.append((NAME_HEADER.encode(), encode_value(str(params.get(named_by, ""))).encode()))
    made.extend((key.encode(), value.encode()) for key, value in extra)
    return made
