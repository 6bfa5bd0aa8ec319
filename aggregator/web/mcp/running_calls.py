"""Calls of handshake clients that run, by person, session and id: what `notifications/cancelled` names.

A cancellation of a call that does not run here is told to the other instances: it
may run there. This file does not know what a call does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ...protocol.jsonrpc import Failure, Id, Json, failure
from ...protocol.principal import Principal
from ...store.mail import EVERYBODY
from .asked import Asked
from .client_sessions import ClientSession
from .mailbox import Mailbox

CANCELLED = -32800  # ours: outside the range that JSON-RPC reserves
MAX_ID = 200  # characters of an id that other instances are told

T = TypeVar("T")


class RunningCalls:
    """The calls that run in this process and can be cancelled by a notification."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._scopes: dict[tuple[str, str, Id], trio.CancelScope] = {}
        mailbox.hear("cancelled", self._hear)

    def __len__(self) -> int:
        return len(self._scopes)

    async def run(self, asked: Asked, work: Callable[[], Awaitable[T]]) -> T | Failure:
        """2025-11-25, cancellation: by `notifications/cancelled` from the same session, never by disconnecting."""
        key = (asked.principal.key, asked.session.id if asked.session else "", asked.call.id)
        outcome: T | Failure = failure(asked.call.id, CANCELLED, "The request was cancelled")
        with trio.CancelScope() as scope:
            self._scopes[key] = scope
            try:
                outcome = await work()
            finally:
                if self._scopes.get(key) is scope:
                    del self._scopes[key]
        return outcome

    async def cancel(self, principal: Principal, session: ClientSession | None, id: Id) -> None:
        """Cancel the call wherever it runs; one that has ended is none.

        Raises:
            StoreUnavailable: if it does not run here and the others cannot be told.
        """
        if self._cancel(principal.key, session.id if session else "", id) or session is None or len(str(id)) > MAX_ID:
            return
        await self._mailbox.post(
            EVERYBODY, "cancelled", principal.key, {"owner": principal.key, "session": session.id, "id": id}
        )

    async def _hear(self, content: Json) -> None:
        self._cancel(content["owner"], content["session"], content["id"])

    def _cancel(self, owner: str, session: str, id: Id) -> bool:
        scope = self._scopes.get((owner, session, id))
        if scope is None:
            return False
        scope.cancel("cancelled by the client")
        return True
