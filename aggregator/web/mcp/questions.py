"""Questions to clients that have handshakes: sent on the stream of a call, answered by a POST of their own.

An answer counts if it names the question's id and comes from the person and the
session that were asked. The id says which instance asked, so that an answer that
arrives elsewhere can be brought here. This file must not know what is asked.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ...protocol.jsonrpc import Call, Failure, Json, Notice, Success, failure, parse_loose, render
from ...protocol.principal import Principal
from .client_sessions import ClientSession
from .mailbox import Mailbox
from .session_states import SessionStates

_ID = re.compile(r"([0-9a-f]{12})\.[A-Za-z0-9_-]{16}", re.ASCII)
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

    def __init__(self, mailbox: Mailbox, states: SessionStates, *, patience: float) -> None:
        self.instance = mailbox.instance
        self._mailbox = mailbox
        self._states = states
        self._patience = patience
        self._waiting: dict[str, _Waiting] = {}
        mailbox.hear("answer", self._hear)

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(
        self, tell: Tell, principal: Principal, session: ClientSession, method: str, params: Json
    ) -> Success | Failure:
        """The client's answer, whatever its id. A client that does not answer in time is told to forget the question,
        and one that ends its session meanwhile, wherever it does, has no answer.

        When cancelled, it is told so too, within a second.
        """
        if sum(waiting.owner == principal.key for waiting in self._waiting.values()) >= MAX_WAITING:
            return failure(None, NO_ANSWER, f"{MAX_WAITING} questions wait for this person already")
        id = f"{self.instance}.{secrets.token_urlsafe(12)}"
        waiting = self._waiting[id] = _Waiting(principal.key, session.id)

        def end_with_session() -> None:
            if self._states.find(session.id).is_over:
                scope.cancel("the session is over")

        try:
            with (
                trio.move_on_after(self._patience) as scope,
                self._states.watched(session.id, end_with_session),
            ):
                end_with_session()
                await tell(Call(id, method, params))  # a client that does not read does not answer either
                await waiting.answered.wait()
        except trio.Cancelled:
            with trio.move_on_after(1, shield=True):
                await tell(Notice("notifications/cancelled", {"requestId": id}))
            raise
        finally:
            del self._waiting[id]
        if waiting.outcome is not None:
            return waiting.outcome
        is_over = self._states.find(session.id).is_over
        reason = "the session is over" if is_over else "no answer in time"
        with trio.move_on_after(1):
            await tell(Notice("notifications/cancelled", {"requestId": id, "reason": reason}))
        told = "the client ended its session" if is_over else f"nobody answered within {self._patience:g} s"
        return failure(None, NO_ANSWER, told)

    async def take(self, answer: Success | Failure, owner: str, session: str) -> bool:
        """Deliver an answer here, or send it to the instance that asked; False if nobody waits for it, or it is too
        large to be sent.

        Raises:
            StoreUnavailable: if it cannot be sent now.
        """
        if self.answer(answer, owner, session):
            return True
        asker = self._elsewhere(answer)
        if asker is None:
            return False
        content = {"answer": render(answer).decode(), "owner": owner, "session": session}
        return await self._mailbox.post(asker, "answer", owner, content)

    def answer(self, answer: Success | Failure, owner: str, session: str) -> bool:
        """Deliver an answer; False if nobody waits here for it from this person and session."""
        waiting = self._waiting.get(answer.id) if isinstance(answer.id, str) else None
        if waiting is None or waiting.answered.is_set() or (waiting.owner, waiting.session) != (owner, session):
            return False
        waiting.outcome = answer
        waiting.answered.set()
        return True

    def _elsewhere(self, answer: Success | Failure) -> str | None:
        """The other instance that asked what this answers; None if it was this one, or none of us."""
        found = _ID.fullmatch(answer.id) if isinstance(answer.id, str) else None
        return None if found is None or found[1] == self.instance else found[1]

    async def _hear(self, content: Json) -> None:
        (answer,) = parse_loose(content["answer"].encode())
        if isinstance(answer, Success | Failure):
            self.answer(answer, content["owner"], content["session"])
