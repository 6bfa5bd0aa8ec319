"""GET and DELETE of a session (2025-11-25 and before): its own stream, a stream that broke, its end.

Who asks, and for which session, is known by then. This file reads no message.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import Refusal
from ...protocol.principal import Principal
from ..reply import RawHeaders, Receive, Reply, Send, send_whole
from .client_sessions import ClientSession
from .headers import LAST_EVENT_HEADER
from .streams import McpStreams
from .taking_up import TakingUp


class SessionEndpoint:
    """Answers them, one at a time each."""

    def __init__(self, streams: McpStreams, taking_up: TakingUp) -> None:
        self._streams = streams
        self._taking_up = taking_up

    async def answer(
        self,
        method: str,
        session: ClientSession,
        principal: Principal,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
        extra: RawHeaders,
    ) -> None:
        """DELETE ends the session. GET opens its stream, or, with `Last-Event-ID`, takes one up that broke.

        Raises:
            Refusal: 406 for one who takes no stream, 429 for one who has too many, 400 for an event id that is none.
            StoreUnavailable: if the end cannot be remembered.
        """
        if method == "DELETE":
            await self._streams.end_session(session)
            await send_whole(send, 204, extra, b"")
            return
        if "text/event-stream" not in headers.get("accept", "") and "*/*" not in headers.get("accept", "*/*"):
            raise Refusal(406, "invalid_request", "GET opens an event stream; Accept must name text/event-stream.")
        if last_event := headers.get(LAST_EVENT_HEADER):
            await self._taking_up.answer(last_event, session, receive, send, extra)
            return
        self._streams.check_room(principal)
        await self._streams.follow(session, principal, Reply(send, session.revision, extra), receive)


def wrong_method(method: str) -> Refusal:
    """GET and DELETE have nothing to act on without a session; no other method has anything to do here at all."""
    if method in ("GET", "DELETE"):
        allowed = "POST"
        told = f"{method} is for sessions of 2025-11-25 and before, and names one in Mcp-Session-Id; all else is POST."
    else:
        allowed = "POST, GET, DELETE"
        told = f"{method[:20]} is nothing that MCP knows; send messages by POST."
    return Refusal(405, "invalid_request", told, headers=(("allow", allowed),))
