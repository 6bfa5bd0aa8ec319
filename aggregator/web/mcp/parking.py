"""Calls that outlive the request that began them: an older upstream asked something, and its client is stateless.

The upstream's work runs in a task of the app's nursery. A request of the client is
one leg: it waits until the work is done or asks. Asked, the leg ends with
``input_required``, and `requestState` names the parked call, sealed to person,
request and instance (MR1); the retry is the next leg. A leg that is cancelled while
it waits takes the work with it, unless another took over; a parked call that nobody
comes back for ends after `patience`, and so does what it came to meanwhile. This file
must not know what is asked.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import trio

from ...errors import Unsealable
from ...protocol.jsonrpc import INVALID_PARAMS, Call, Failure, Id, Json, Notice, Success, dump, failure
from ...protocol.principal import Principal
from ...protocol.questions import missing_capability, question_for_upstreams_peer
from ...protocol.revisions import HANDSHAKE, STATELESS
from ...protocol.sealing import KeyRing, Purpose
from ...upstream.peers import Answered, OnRequest, refuse
from .asked import Asked
from .carried_legs import CarriedLegs, Leg
from .mailbox import Mailbox
from .tool_clock import ToolClock

PARKED_PER_PERSON = 16
PARKED = 2000  # of all people together
QUESTIONS_PER_CALL = 16  # at a time
NO_ANSWER = -32800  # ours: outside the range that JSON-RPC reserves
TOGETHER = 0.05  # seconds that a leg waits for more questions before it ends with one
GONE = "Invalid or expired requestState: the call that it belonged to has ended. Call again without."

_PREFIX = "mcpa_pk_"

Tell = Callable[[Notice | Call], Awaitable[None]]
Work = Callable[[Tell, OnRequest], Awaitable[Answered]]


@dataclass(slots=True)
class _Question:
    call: Call
    answer: Json | None = None
    answered: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class _Parked:
    """One upstream call and the leg that waits for it, if any."""

    id: str
    principal: Principal
    digest: str
    clock: ToolClock
    tell: Tell | None
    progress_token: str | int | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    questions: dict[str, _Question] = field(default_factory=dict)  # by the key in `inputRequests`
    outcome: Answered | Exception | None = None
    legs: int = 1
    changed: trio.Event = field(default_factory=trio.Event)

    def note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def is_settled(self, leg: int) -> bool:
        """Whether this leg has nothing to wait for any more."""
        return self.outcome is not None or self.legs != leg


class Parking:
    """The calls of stateless clients to older upstreams. `patience` is in seconds, `clock` is wall time."""

    def __init__(
        self, nursery: trio.Nursery, keys: KeyRing, mailbox: Mailbox, *, patience: float, clock: Callable[[], float]
    ) -> None:
        self._nursery = nursery
        self._keys = keys
        self._mailbox = mailbox
        self._elsewhere = CarriedLegs(mailbox, nursery, self._go_on)
        self._patience = patience
        self._clock = clock
        self._parked: dict[str, _Parked] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def is_parked(self, asked: Asked) -> bool:
        """Whether the request says that it goes on with a parked call."""
        state = asked.call.params.get("requestState")
        return isinstance(state, str) and state.startswith(_PREFIX)

    async def run(self, asked: Asked, work: Work, tell: Tell, *, timeout: float) -> Answered:
        """One leg: begin the `work`, or go on with it; its answer, or what it asks.

        Raises:
            TooSlowError: after `timeout` seconds of the upstream's own time.
            Exception: whatever `work` raised.
        """
        if self.is_parked(asked):
            return await self._retry(_leg(asked), tell, asked.envelope.progress_token)
        parked = _Parked(
            secrets.token_urlsafe(16),
            asked.principal,
            _digest(asked),
            ToolClock(timeout),
            tell,
            asked.envelope.progress_token,
        )
        self._parked[parked.id] = parked
        self._nursery.start_soon(self._work, parked, work, asked)
        return await self._wait(parked, asked.call.id)

    async def _retry(self, leg: Leg, tell: Tell, progress_token: str | int | None) -> Answered:
        """The next leg of a parked call, wherever that is."""
        answered = None
        if (state := self._open_state(leg)) is not None:
            if state.get("at") != self._mailbox.instance:
                answered = await self._elsewhere.bring(leg, str(state.get("at")))
            elif (parked := self._find(state, leg)) is not None:
                self._resume(parked, leg, tell, progress_token)
                answered = await self._wait(parked, leg.id)
        return answered or Answered(failure(leg.id, INVALID_PARAMS, GONE), STATELESS)

    async def _go_on(self, leg: Leg) -> Answered | None:
        """A leg that was brought here, checked as if it had begun here; None if its call is not here any more."""
        state = self._open_state(leg)
        parked = self._find(state, leg) if state is not None and state.get("at") == self._mailbox.instance else None
        if parked is None:
            return None
        self._resume(parked, leg, _nobody, None)
        return await self._wait(parked, leg.id)

    async def _wait(self, parked: _Parked, id: Id) -> Answered:
        leg = parked.legs
        try:
            while not parked.is_settled(leg):
                if not _open(parked):
                    await parked.changed.wait()
                    continue
                with trio.move_on_after(TOGETHER):
                    while not parked.is_settled(leg):
                        await parked.changed.wait()
                if _open(parked):  # else it was withdrawn at once
                    break
        except trio.Cancelled:
            if parked.legs == leg:
                parked.scope.cancel("the client disconnected")
            raise
        if parked.legs != leg:
            return Answered(failure(id, INVALID_PARAMS, "Another request goes on with this call."), STATELESS)
        match parked.outcome:
            case Answered(answer, revision):
                return Answered(replace(answer, id=id), revision)
            case None:
                return self._park(parked, id)
            case failed:
                raise failed

    def _park(self, parked: _Parked, id: Id) -> Answered:
        """End the leg with what is asked."""
        parked.tell = None
        parked.scope.deadline = trio.current_time() + self._patience
        payload = {
            "parked": parked.id,
            "at": self._mailbox.instance,
            "who": parked.principal.key,
            "what": parked.digest,
        }
        state = self._keys.seal(Purpose.REQUEST_STATE, payload, now=self._clock(), lifetime=self._patience)
        result: Json = {
            "resultType": "input_required",
            "inputRequests": {key: question_for_upstreams_peer(one.call) for key, one in _open(parked).items()},
            "requestState": _PREFIX + state,
        }
        return Answered(Success(id, result), STATELESS)

    def _open_state(self, leg: Leg) -> Json | None:
        """What we sealed for the person and the request of this leg; None if that was somebody or something else."""
        try:
            state = self._keys.open(Purpose.REQUEST_STATE, leg.state, now=self._clock())
        except Unsealable:
            return None
        return state if (state.get("who"), state.get("what")) == (leg.principal.key, leg.digest) else None

    def _find(self, state: Json, leg: Leg) -> _Parked | None:
        parked = self._parked.get(str(state.get("parked")))
        return parked if parked is not None and parked.principal == leg.principal else None

    def _resume(self, parked: _Parked, leg: Leg, tell: Tell, progress_token: str | int | None) -> None:
        parked.tell = tell
        parked.legs += 1
        parked.progress_token = progress_token
        parked.scope.deadline = math.inf
        for key, question in list(_open(parked).items()):
            answer = leg.answers.get(key)
            if isinstance(answer, dict):
                question.answer = answer
                question.answered.set()
                del parked.questions[key]
        parked.note()

    async def _work(self, parked: _Parked, work: Work, asked: Asked) -> None:
        """The upstream's side, for as long as it takes; its end is the outcome of whichever leg waits then."""

        async def on_notice(notice: Notice | Call) -> None:
            if parked.tell is None:
                return  # nobody listens between two legs
            if isinstance(notice, Notice) and notice.method == "notifications/progress":
                if parked.progress_token is None:
                    return
                notice = Notice(notice.method, {**notice.params, "progressToken": parked.progress_token})
            await parked.tell(notice)

        async def on_request(question: Call) -> Success | Failure:
            return await self._answer(parked, question, asked)

        try:
            with parked.scope, parked.clock.scope:
                try:
                    parked.outcome = await work(on_notice, on_request)
                except Exception as exc:  # noqa: BLE001  raised where a leg waits, below the request boundary
                    parked.outcome = exc
            if parked.outcome is None:
                parked.outcome = trio.TooSlowError()
            parked.note()
            if not parked.scope.cancelled_caught:
                with self._mailbox.waiting(), trio.move_on_at(parked.scope.deadline):
                    while parked.tell is None:  # it was done while nobody waited for it
                        await parked.changed.wait()
        finally:
            del self._parked[parked.id]
            parked.note()

    async def _answer(self, parked: _Parked, question: Call, asked: Asked) -> Success | Failure:
        if missing_capability(question.method, question.params, asked.envelope.capabilities) is not None:
            return await refuse(question)
        theirs = sum(
            other.principal == parked.principal
            for other in self._parked.values()
            if other is not parked and (other.tell is None or _open(other))
        )
        if theirs >= PARKED_PER_PERSON or len(self._parked) >= PARKED or len(parked.questions) >= QUESTIONS_PER_CALL:
            return failure(question.id, NO_ANSWER, "too many questions wait for this person already")
        key = f"q-{secrets.token_hex(4)}"
        waiting = parked.questions[key] = _Question(question)
        parked.note()
        try:
            with parked.clock.standing(), self._mailbox.waiting():
                await waiting.answered.wait()
        finally:
            parked.questions.pop(key, None)
        return Success(question.id, waiting.answer or {})


def _open(parked: _Parked) -> dict[str, _Question]:
    """What has been asked and not answered."""
    return {key: question for key, question in parked.questions.items() if not question.answered.is_set()}


def _leg(asked: Asked) -> Leg:
    answers = asked.call.params.get("inputResponses")
    state = str(asked.call.params["requestState"]).removeprefix(_PREFIX)
    return Leg(asked.call.id, state, asked.principal, _digest(asked), answers if isinstance(answers, dict) else {})


async def _nobody(notice: Notice | Call) -> None:
    """What comes on the way does not travel between instances."""


def _digest(asked: Asked) -> str:
    """What a retry must not change: the method and its parameters, but for the answers and each request's `_meta`."""
    own = ("_meta", "inputResponses", "requestState")
    params = {key: value for key, value in sorted(asked.call.params.items()) if key not in own}
    return hashlib.sha256(dump([HANDSHAKE, asked.call.method, params])).hexdigest()
