"""Legs of parked calls that begin at another instance than the one that parked: brought there, and their end back.

Progress on the way is lost. Who may go on with a call is checked on both sides, here
and there. How a leg gets there is `carried.py`'s affair; this file does not know how
a call is parked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import assert_never

import trio

from ...errors import AggregatorError, ConnectNeeded, UpstreamLost, UpstreamRefused
from ...protocol.jsonrpc import Failure, Id, Json, Success, Unreadable, parse_loose, render
from ...protocol.principal import Principal
from ...upstream.peers import Answered
from .carried import Carried, Tell, Unsent
from .mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Leg:
    """A retry of a stateless client: the state that it was given, what it repeats, and the person's answers."""

    id: Id
    state: str
    principal: Principal
    digest: str
    answers: Json


Outcome = Answered | AggregatorError | trio.TooSlowError
GoOn = Callable[[Leg], Awaitable[Answered | None]]  # None: there is no such call


class CarriedLegs:
    """Both sides. Legs that are brought here run in `nursery`, by `go_on`, which raises as `bring`."""

    def __init__(self, mailbox: Mailbox, nursery: trio.Nursery, go_on: GoOn) -> None:
        lost = UpstreamLost("answered, but its answer could not be brought to the instance that was asked")
        self._carried = Carried(
            mailbox,
            nursery,
            "leg",
            parse=_parse_leg,
            do=self._carry,
            parse_outcome=_parse_outcome,
            unsendable=_render_outcome(lost),
        )
        self._go_on = go_on

    async def bring(self, leg: Leg, to: str) -> Answered | None:
        """Have the instance `to` run the leg; None if it does not have the call any more, or is not there.

        When cancelled, it is told so.

        Raises:
            TooSlowError, AggregatorError: as the leg would have raised here.
        """
        try:
            outcome = await self._carried.bring(to, leg.principal.key, _render_leg(leg))
        except Unsent:
            raise UpstreamLost("waits at another instance, and the answer is too large to be sent there") from None
        match outcome:
            case Answered() | None:
                return outcome
            case failed:
                raise failed

    async def _carry(self, leg: Leg, tell: Tell) -> Json:
        outcome: Outcome | None
        try:
            outcome = await self._go_on(leg)
        except (AggregatorError, trio.TooSlowError) as exc:
            outcome = exc
        try:
            return _render_outcome(outcome)
        except Unreadable as exc:
            return _render_outcome(UpstreamLost(f"answered with what cannot be passed on: {exc}"))


def _render_leg(leg: Leg) -> Json:
    who = {"issuer": leg.principal.issuer, "subject": leg.principal.subject}
    return {"id": leg.id, "state": leg.state, "digest": leg.digest, "answers": leg.answers, **who}


def _parse_leg(content: Json) -> Leg:
    principal = Principal(content["issuer"], content["subject"])
    return Leg(content["id"], content["state"], principal, content["digest"], dict(content["answers"]))


def _render_outcome(outcome: Outcome | None) -> Json:
    match outcome:
        case Answered(answer, revision):
            return {"answer": render(answer).decode(), "revision": revision}
        case ConnectNeeded(upstream=upstream):
            return {"connect": upstream, "text": str(outcome)}
        case UpstreamRefused(status=status, retry_after=retry_after):
            return {"refused": status, "text": str(outcome), "retry_after": retry_after}
        case AggregatorError():
            executed = outcome.executed if isinstance(outcome, UpstreamLost) else True
            return {"lost": executed, "text": str(outcome)}
        case trio.TooSlowError():
            return {"too_slow": True}
        case None:
            return {}
        case _:
            assert_never(outcome)


def _parse_outcome(content: Json) -> Outcome | None:
    match content:
        case {"answer": answer, "revision": revision}:
            (message,) = parse_loose(answer.encode())
            return Answered(message, revision) if isinstance(message, Success | Failure) else None
        case {"connect": upstream, "text": text}:
            return ConnectNeeded(upstream, text)
        case {"refused": status, "text": text}:
            return UpstreamRefused(status, text, retry_after=content.get("retry_after"))
        case {"lost": executed, "text": text}:
            return UpstreamLost(text, executed=executed)
        case {"too_slow": True}:
            return trio.TooSlowError()
        case _:
            return None
