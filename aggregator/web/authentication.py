"""Who sends a request to the MCP endpoint: what the endpoint wants to know, whichever mode finds it out.

`bearer` is a team's way, `local` that of one person. This file must not know either.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, Protocol

import trio

from ..protocol.principal import Principal
from .reply import Receive


class Authenticated(Protocol):
    """The sender of one request."""

    @property
    def principal(self) -> Principal: ...

    @property
    def grant_id(self) -> str:
        """What they were let in on; empty where nobody had to grant anything."""
        ...


class Authentication(Protocol):
    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Authenticated:
        """The sender of a request with these headers, names in lower case. Never waits.

        Raises:
            Refusal: for whoever may not come in.
        """
        ...

    async def wait_withdrawn(self, grant_id: str) -> None:
        """Return when nobody who was let in on this grant may go on listening without asking anew."""
        ...


def until_withdrawn(receive: Receive, authentication: Authentication, grant_id: str) -> Receive:
    """`receive` for a stream: who loses the access that it was opened with has left, as far as the stream can tell.

    A request is judged once, when it comes, and a stream may stay for days: what it carries would go on to somebody
    who was signed out everywhere.
    """

    async def receive_until() -> MutableMapping[str, Any]:
        message: MutableMapping[str, Any] = {"type": "http.disconnect"}

        async def hear() -> None:
            nonlocal message
            message = await receive()
            nursery.cancel_scope.cancel("the client was heard")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await authentication.wait_withdrawn(grant_id)
            nursery.cancel_scope.cancel("the access was withdrawn")
        return message

    return receive_until
