"""Questions to clients that have handshakes: sent on the stream of a call, answered by a POST of their own.

An answer counts if it names the question's id and comes from the person and the
session that were asked. The id says which instance asked, so that an answer that
arrives elsewhere can be brought here. This file must not know what is asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ..protocol.jsonrpc import Call, Failure, Json, Notice, Success, failure
from ..protocol.principal import Principal
from .client_sessions import ClientSession

NO_ANSWER = -32800  # ours: outside the range that JSON-RPC reserves
MAX_WAITING = 64  # questions of one person at a time

Tell = Callable[[Notice | Call], Awaitable[None]]


@dataclass(slots=True)
class _Waiting:
    owner: str
    session: str
    outcome: Success | Failure | None = None
    answered: trio.Event = field(default_factory=trio.Event)


class Questions:
    """The questions that this process has asked and waits for. `patience` is in seconds."""

    def __init__(self, *, patience: float) -> None:
        self.instance = secrets.token_hex(6)
        self._patience = patience
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(
        self, tell: Tell, principal: Principal, session: ClientSession, method: str, params: Json
    ) -> Success | Failure:
        """The client's answer, whatever its id. A client that does not answer in time is told to forget the question.

        When cancelled, it is told so too, within a second.
        """
        if sum(waiting.owner == principal.key for waiting in self._waiting.values()) >= MAX_WAITING:
            return failure(None, NO_ANSWER, f"{MAX_WAITING} questions wait for this person already")
        id = f"{self.instance}.{secrets.token_urlsafe(12)}"
        waiting = self._waiting[id] = _Waiting(principal.key, session.id)
        try:
            await tell(Call(id, method, params))
            with trio.move_on_after(self._patience):
                await waiting.answered.wait()
        except trio.Cancelled:
            with trio.move_on_after(1, shield=True):
                await tell(Notice("notifications/cancelled", {"requestId": id}))
            raise
        finally:
            del self._waiting[id]
        if waiting.outcome is None:
            await tell(Notice("notifications/cancelled", {"requestId": id, "reason": "no answer in time"}))
            return failure(None, NO_ANSWER, f"nobody answered within {self._patience:g} s")
        return waiting.outcome

    def is_elsewhere(self, answer: Success | Failure) -> str | None:
        """The other instance that asked what this answers; None if it was this one, or none of us."""
        if not isinstance(answer.id, str) or "." not in answer.id:
            return None
        instance = answer.id.partition(".")[0]
        return None if instance == self.instance else instance

    def answer(self, answer: Success | Failure, owner: str, session: str) -> bool:
        """Deliver an answer; False if nobody waits for it from this person and session."""
        waiting = self._waiting.get(answer.id) if isinstance(answer.id, str) else None
        if waiting is None or waiting.answered.is_set() or (waiting.owner, waiting.session) != (owner, session):
            return False
        waiting.outcome = answer
        waiting.answered.set()
        return True
