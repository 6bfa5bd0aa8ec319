"""Legs of parked calls that begin at another instance than the one that parked: brought there, and their end back.

The instance that has the call says at once that it is at work, and again every
`BEAT` seconds: who hears nothing tells the client to begin anew, instead of waiting
for one that is gone. Progress on the way is lost. Who may go on with a call is
checked on both sides, here and there. This file does not know how a call is parked.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import assert_never

import trio

from ..errors import AggregatorError, ConnectNeeded, StoreUnavailable, UpstreamLost, UpstreamRefused
from ..protocol.jsonrpc import Failure, Id, Json, Success, Unreadable, parse_loose, render
from ..protocol.principal import Principal
from ..upstream.peers import Answered
from .mailbox import Mailbox

FIRST_WORD = 5.0  # seconds until the instance that parked the call has to say that it is there
BEAT = 5.0  # seconds between two signs of life
SILENCE = 15.0  # seconds without any
MAX_CARRIED = 2000  # legs that were brought here, at a time: as many as calls can be parked


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


@dataclass(slots=True)
class _Brought:
    """A leg that another instance runs for us."""

    to: str
    patience: float = FIRST_WORD
    is_over: bool = False
    outcome: Outcome | None = None
    heard: trio.Event = field(default_factory=trio.Event)

    def note(self) -> None:
        self.heard.set()
        self.heard = trio.Event()


class CarriedLegs:
    """Both sides. Legs that are brought here run in `nursery`, by `go_on`, which raises as `bring`."""

    def __init__(self, mailbox: Mailbox, nursery: trio.Nursery, go_on: GoOn) -> None:
        self._mailbox = mailbox
        self._nursery = nursery
        self._go_on = go_on
        self._brought: dict[str, _Brought] = {}
        self._carried: dict[str, trio.CancelScope] = {}
        mailbox.hear("leg", self._hear_leg)
        mailbox.hear("leg-alive", self._hear_alive)
        mailbox.hear("leg-over", self._hear_over)
        mailbox.hear("leg-left", self._hear_left)

    async def bring(self, leg: Leg, to: str) -> Answered | None:
        """Have the instance `to` run the leg; None if it does not have the call any more, or is not there.

        When cancelled, it is told so.

        Raises:
            TooSlowError, AggregatorError: as the leg would have raised here.
        """
        number = secrets.token_urlsafe(12)
        brought = self._brought[number] = _Brought(to)
        owner = leg.principal.key
        try:
            with self._mailbox.waiting():
                if not await self._mailbox.post(to, "leg", owner, {"number": number, **_render_leg(leg)}):
                    raise UpstreamLost("waits at another instance, and the answer is too large to be sent there")
                await _wait_over(brought)
        except trio.Cancelled:
            with trio.move_on_after(2, shield=True):
                await self._post(to, "leg-left", owner, {"number": number})
            raise
        finally:
            del self._brought[number]
        match brought.outcome:
            case Answered() | None:
                return brought.outcome
            case failed:
                raise failed

    async def _hear_leg(self, content: Json) -> None:
        if len(self._carried) >= MAX_CARRIED:
            return  # its sender gives up in a few seconds
        leg = _parse_leg(content)
        self._carried[content["number"]] = scope = trio.CancelScope()
        self._nursery.start_soon(self._carry, content["number"], content["from"], leg, scope)

    async def _carry(self, number: str, sender: str, leg: Leg, scope: trio.CancelScope) -> None:
        owner = leg.principal.key

        async def beat() -> None:
            while True:
                await self._post(sender, "leg-alive", owner, {"number": number})
                await trio.sleep(BEAT)

        outcome: Outcome | None = None
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(beat)
                    try:
                        outcome = await self._go_on(leg)
                    except (AggregatorError, trio.TooSlowError) as exc:
                        outcome = exc
                    nursery.cancel_scope.cancel()
        finally:
            del self._carried[number]
        if scope.cancelled_caught:
            return
        try:
            told = _render_outcome(outcome)
        except Unreadable as exc:
            told = _render_outcome(UpstreamLost(f"answered with what cannot be passed on: {exc}"))
        if not await self._post(sender, "leg-over", owner, {"number": number, **told}):
            lost = UpstreamLost("answered, but its answer could not be brought to the instance that was asked")
            await self._post(sender, "leg-over", owner, {"number": number, **_render_outcome(lost)})

    async def _hear_alive(self, content: Json) -> None:
        if (brought := self._expected(content)) is not None:
            brought.patience = SILENCE
            brought.note()

    async def _hear_over(self, content: Json) -> None:
        if (brought := self._expected(content)) is not None:
            brought.outcome, brought.is_over = _parse_outcome(content), True
            brought.note()

    async def _hear_left(self, content: Json) -> None:
        if (scope := self._carried.get(content["number"])) is not None:
            scope.cancel("the client disconnected")

    def _expected(self, content: Json) -> _Brought | None:
        """The leg that the mail is about, if it comes from where the leg is."""
        brought = self._brought.get(content["number"])
        return brought if brought is not None and brought.to == content["from"] else None

    async def _post(self, to: str, kind: str, owner: str, content: Json) -> bool:
        try:
            return await self._mailbox.post(to, kind, owner, content)
        except StoreUnavailable:
            return False  # the other side gives up by itself


async def _wait_over(brought: _Brought) -> None:
    """Until the leg is over, or its instance is silent."""
    while not brought.is_over:
        heard = brought.heard
        with trio.move_on_after(brought.patience):
            await heard.wait()
        if not heard.is_set():
            return


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
