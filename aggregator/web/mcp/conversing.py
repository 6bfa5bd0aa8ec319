"""One request of a client relayed to one upstream, with everything that either may ask of the other meanwhile.

Four cells: both stateless, and what is asked passes as it came; both with
handshakes, and a question goes out on the stream of the call; a client with
handshakes before a stateless upstream, whose ``input_required`` is driven here,
round by round; and a stateless client before an older upstream, whose call is
parked (`web/mcp/parking.py`). This file must not know tools, prompts or resources.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import trio

from ...errors import UpstreamLost
from ...protocol.jsonrpc import Call, Failure, Json, Notice, Success
from ...protocol.questions import (
    WITH_ROUNDS,
    ask_for_urls,
    askable,
    can_ask,
    cannot_be_asked,
    input_requests,
    is_declined,
    missing_capability,
    params_for_client,
    question_for_upstreams_peer,
    urls_to_open,
)
from ...protocol.revisions import STATELESS, is_stateless
from ...upstream.authorized import AuthorizedUpstream
from ...upstream.peers import SILENT, Answered, OnRequest, Respondent, refuse
from .asked import Asked
from .parking import Parking
from .questions import Questions
from .rising import Rising
from .tool_clock import ToolClock

MAX_ROUNDS = 16  # of questions in one call
FIRST_PAUSE, LAST_PAUSE = 0.5, 8.0  # seconds before a retry that answers nothing ("retry, with backoff")

Tell = Callable[[Notice | Call], Awaitable[None]]


class Conversing:
    """Relays requests in all four cells."""

    def __init__(self, questions: Questions, parking: Parking) -> None:
        self._questions = questions
        self._parking = parking

    async def request(
        self,
        asked: Asked,
        upstream: AuthorizedUpstream,
        params: Json,
        tell: Tell,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        timeout: float,
    ) -> Answered:
        """Have `upstream` answer the request `asked`, with `params` in its own names.

        `timeout` bounds the upstream's time in seconds; while a person is asked it stands still. Cancelling this
        cancels the upstream's work, except while that is parked.

        Raises:
            TooSlowError: after `timeout`; the upstream was told to stop.
            ConnectNeeded, UpstreamLost, UpstreamRefused, StoreUnavailable: see `AuthorizedUpstream.request`.
        """
        if is_declined(params):
            raise UpstreamLost("wants a page to be opened first, which the person did not want", executed=False)
        answered = await self._request(asked, upstream, params, tell, headers, timeout)
        match answered.outcome:
            case Failure(_, error) if urls := urls_to_open(error):
                return _ask_to_open(asked, answered, urls)
            case _:
                return answered

    async def _request(
        self,
        asked: Asked,
        upstream: AuthorizedUpstream,
        params: Json,
        tell: Tell,
        headers: tuple[tuple[str, str], ...],
        timeout: float,
    ) -> Answered:
        capabilities = askable(asked.envelope.capabilities)
        if is_stateless(asked.revision):
            if self._parking.is_parked(asked):
                return await self._park(asked, upstream, params, tell, headers, capabilities, timeout)
            if capabilities and asked.call.method in WITH_ROUNDS:
                with trio.fail_after(timeout):
                    peer = upstream.peer or await upstream.meet(asked.principal)
                if not is_stateless(peer.revision):
                    return await self._park(asked, upstream, params, tell, headers, capabilities, timeout)
            clock = ToolClock(timeout)
            with clock.scope:
                answered = await upstream.request(
                    asked.principal, asked.call.method, params, asked.envelope, tell, headers
                )
                return _asked_fairly(asked, answered)
            raise trio.TooSlowError
        clock = ToolClock(timeout)
        with clock.scope:
            return await self._converse(asked, upstream, params, tell, headers, capabilities, clock)
        raise trio.TooSlowError

    async def _converse(
        self,
        asked: Asked,
        upstream: AuthorizedUpstream,
        params: Json,
        tell: Tell,
        headers: tuple[tuple[str, str], ...],
        capabilities: Json,
        clock: ToolClock,
    ) -> Answered:
        """For a client with handshakes: whatever is asked goes out on its stream, and comes back by a POST."""
        tell = rising = Rising(tell)
        respondent = self._respondent(asked, tell, capabilities, clock)
        rounds = 0
        pause = FIRST_PAUSE
        original = params
        while True:
            answered = await upstream.request(
                asked.principal,
                asked.call.method,
                params,
                asked.envelope,
                tell,
                headers,
                respondent=respondent,
            )
            match answered.outcome:
                case Success(_, result) if is_stateless(answered.revision) and _wants_input(result):
                    pass
                case _:
                    return answered
            if (refused := cannot_be_asked(asked.call.id, result, capabilities)) is not None:
                return replace(answered, outcome=refused)
            rounds += 1
            if rounds > MAX_ROUNDS:
                raise UpstreamLost(f"asked more than {MAX_ROUNDS} times")
            questions = input_requests(result)
            if unknown := [question["method"] for question in questions.values() if not can_ask(question["method"])]:
                raise UpstreamLost(f"asks the client for {unknown[0][:80]!r}, which its revision does not have")
            params = {key: value for key, value in original.items() if key not in ("inputResponses", "requestState")}
            if questions:
                with clock.standing():
                    params["inputResponses"] = await self._ask_all(asked, questions, tell)
            else:
                await trio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
            if "requestState" in result:
                params["requestState"] = result["requestState"]
            rising.begin_again()

    async def _ask_all(self, asked: Asked, questions: Mapping[str, Json], tell: Tell) -> Json:
        """The client's answers to all `questions`, asked together.

        Raises:
            UpstreamLost: if the client fails to answer one.
        """
        answers: Json = {}
        failures: list[str] = []

        async def ask(key: str, question: Json) -> None:
            outcome = await self._ask(asked, tell, question)
            if isinstance(outcome, Success):
                answers[key] = outcome.result
            else:
                failures.append(f"{question['method']}: {outcome.message[:200]} ({outcome.code})")

        async with trio.open_nursery() as nursery:
            for key, question in questions.items():
                nursery.start_soon(ask, key, question)
        if failures:
            raise UpstreamLost(f"asked the client, which did not answer {failures[0]}")
        return {key: answers[key] for key in questions}

    async def _ask(self, asked: Asked, tell: Tell, question: Json) -> Success | Failure:
        assert asked.session is not None  # without one there is nobody whose capabilities were known
        params = params_for_client(question, asked.revision, secrets.token_hex(16))
        return await self._questions.ask(tell, asked.principal, asked.session, question["method"], params)

    def _respondent(self, asked: Asked, tell: Tell, capabilities: Json, clock: ToolClock) -> Respondent:
        """The client, asked on the stream of this request. It answers for all requests of its session."""
        if asked.session is None:
            return SILENT
        if not capabilities:
            return Respondent(poll=asked.poll)

        async def answer(question: Call) -> Success | Failure:
            if missing_capability(question.method, question.params, capabilities) is not None:
                return await refuse(question)
            with clock.standing():
                outcome = await self._ask(asked, tell, question_for_upstreams_peer(question))
            match outcome:
                case Success(_, result):
                    return Success(question.id, result)
                case Failure(_, error):
                    return Failure(question.id, error)

        return Respondent(capabilities, answer, asked.session.id, clock.standing, asked.poll)

    async def _park(
        self,
        asked: Asked,
        upstream: AuthorizedUpstream,
        params: Json,
        tell: Tell,
        headers: tuple[tuple[str, str], ...],
        capabilities: Json,
        timeout: float,
    ) -> Answered:
        rest = {key: value for key, value in params.items() if key not in ("inputResponses", "requestState")}

        async def work(on_notice: Tell, on_request: OnRequest) -> Answered:
            return await upstream.request(
                asked.principal,
                asked.call.method,
                rest,
                asked.envelope,
                on_notice,
                headers,
                respondent=Respondent(capabilities, on_request),
            )

        return _asked_fairly(asked, await self._parking.run(asked, work, tell, timeout=timeout))


def _ask_to_open(asked: Asked, answered: Answered, urls: list[Json]) -> Answered:
    """Error -32042 as the client can understand it.

    Raises:
        UpstreamLost: in words, for a client that cannot show a URL.
    """
    if not asked.can_show_urls:
        told = "; ".join(f"{one['message'][:300]} {one['url'][:1000]}" for one in urls[:4])
        raise UpstreamLost(f"wants a page to be opened first: {told}", executed=False)
    if is_stateless(asked.revision):
        return Answered(Success(asked.call.id, ask_for_urls(urls)), STATELESS)
    return answered


def _wants_input(result: Json) -> bool:
    return result.get("resultType") == "input_required"


def _asked_fairly(asked: Asked, answered: Answered) -> Answered:
    """The answer of a stateless upstream, unless it asks what the client cannot answer."""
    match answered.outcome:
        case Success(_, result) if is_stateless(answered.revision) and _wants_input(result):
            refused = cannot_be_asked(asked.call.id, result, asked.envelope.capabilities)
            return answered if refused is None else replace(answered, outcome=refused)
        case _:
            return answered
