"""One request in a session of an older upstream, with everything that is said and asked until its answer comes.

What is asked on the request's own stream is its respondent's to answer. Whatever else
comes beside it is `upstream/http/session_streams.py`'s affair. This file must not know
which revision an upstream speaks now, nor what happens when a session is lost.
"""

from __future__ import annotations

import secrets
from typing import assert_never

import trio

from ...errors import UpstreamRefused
from ...protocol.jsonrpc import Call, Failure, Json, Message, Notice, Success, render
from ...protocol.revisions import LOG_LEVELS, at_least
from ...protocol.subscriptions import BETWEEN_CALLS
from ...protocol.translate import params_for_upstream
from ..peers import OnNotice, Outgoing, drop, notice_for_client
from .exchange import Exchange, Interrupted, converse, read_outcome
from .session_streams import Listener, SessionStreams
from .sessions import Ticket, Tickets
from .streams import resume


class SessionRequests:
    """Those to one upstream. Answers to what it asks are made, and said, in `nursery`."""

    def __init__(
        self, exchange: Exchange, tickets: Tickets, streams: SessionStreams, client: Json, nursery: trio.Nursery
    ) -> None:
        self._exchange = exchange
        self._tickets = tickets
        self._streams = streams
        self._client = client
        self._nursery = nursery

    async def ask(self, ticket: Ticket, outgoing: Outgoing, on_notice: OnNotice) -> Success | Failure:
        """The upstream's answer. When cancelled, the upstream is told, by a task of the nursery.

        Raises:
            UpstreamLost, UpstreamRefused: see `converse`; 404 if the session is no more.
        """
        id = secrets.token_hex(12)
        envelope = outgoing.envelope
        token = id if envelope.progress_token is not None else None
        params = params_for_upstream(outgoing.params, ticket.revision, envelope, token=token, client=self._client)
        asked: list[trio.CancelScope] = []

        async def hear(message: Message) -> None:
            match message:
                case Notice("notifications/cancelled"):
                    ticket.take_back(message)
                case Notice(method) if method in BETWEEN_CALLS:
                    await on_notice(message)
                case Notice():
                    if (shown := notice_for_client(message, envelope, id)) is not None:
                        await on_notice(shown)
                case Call(question, "ping", _):
                    await self._tickets.say(ticket, Success(question, {}))
                case Call():
                    asked.append(scope := ticket.is_asking(message))
                    # Not here: what comes after the question, a cancellation perhaps, has to be read meanwhile.
                    self._nursery.start_soon(self._tickets.answer, ticket, message, outgoing.respondent.answer, scope)
                case Success() | Failure():
                    pass
                case _:
                    assert_never(message)

        body = render(Call(id, outgoing.method, params))
        listener = Listener(outgoing.respondent, hear)
        is_sent = False
        ticket.calls += 1
        try:
            await self._streams.join(outgoing, ticket, listener, on_notice)
            await self._set_log_level(ticket, envelope.log_level)
            is_sent = True
            try:
                async with self._exchange.send("POST", ticket.headers(), body) as response:
                    outcome, status = await read_outcome(response, id, hear), response.status
            except Interrupted as exc:
                poll = outgoing.respondent.poll
                outcome, status = await resume(self._exchange, ticket, exc, id, hear, poll), 200
        except trio.Cancelled:
            # 2025-11-25: disconnection is not cancellation; it has to be said. Not here, where somebody waits for the
            # end of this very call.
            if is_sent:
                told = Notice("notifications/cancelled", {"requestId": id})
                self._nursery.start_soon(self._tickets.say, ticket, told)
            raise
        finally:
            for scope in asked:
                scope.cancel("the request that it was asked in has ended")
            self._streams.leave(ticket, listener)
            ticket.calls -= 1
            ticket.used_at = trio.current_time()
        # Many servers, the reference one among them, answer a lost session with 400 instead of 404.
        if isinstance(outcome, Failure) and (status == 404 or (status == 400 and "session" in outcome.message.lower())):
            raise UpstreamRefused(404, f"HTTP {status}: {outcome.message[:200]} ({outcome.code})")
        return outcome

    async def _set_log_level(self, ticket: Ticket, wanted: str | None) -> None:
        """A session has one level: the lowest that any request on it asked for. What is too low for one is filtered."""
        if wanted not in LOG_LEVELS or "logging" not in ticket.capabilities:
            return
        if ticket.log_level is None or not at_least(wanted, ticket.log_level):
            id = secrets.token_hex(12)
            body = render(Call(id, "logging/setLevel", {"level": wanted}))
            await converse(self._exchange, ticket.headers(), body, id, drop)
            ticket.log_level = wanted
