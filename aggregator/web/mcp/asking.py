"""A call that waits for a person to connect an account: how the client is told, and how the call goes on.

A 2026-07-28 client that can show a URL gets ``input_required``, and its retry
completes the call; one of 2025-11-25 gets error -32042 and calls again; all others
get words with the link. The link names an upstream and nobody: it opens only for
who logs in (MCP, elicitation, "Safe URL handling"; UP10). What travels with the
client meanwhile is sealed to the person and to the request (MR1).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from ...config.model import AnyUpstream
from ...errors import Unsealable
from ...protocol.jsonrpc import Failure, Json, Success, dump, failure
from ...protocol.oauth.site import Site
from ...protocol.principal import Principal
from ...protocol.questions import WITH_ROUNDS
from ...protocol.revisions import is_stateless
from ...protocol.sealing import KeyRing, Purpose
from ...protocol.translate import failed
from .asked import Asked
from .gateway_tools import connect_url

URL_ELICITATION_REQUIRED = -32042  # 2025-11-25; no longer there in 2026-07-28
STATE_LIFETIME = 600.0  # seconds for a person to log in somewhere
PATIENCE = 45.0  # seconds that one retry waits for it; most clients give up after 60
CARRIED = 8 * 1024  # bytes of an upstream's own state that are sealed into ours

_PREFIX = "mcpa_rs_"
_KEY = "connect"
_RETRY_FIELDS = frozenset({"requestState", "inputResponses"})


class Waiting(Protocol):
    async def wait_connected(self, principal: Principal, upstream: str) -> None:
        """Return once the person's account is connected. Cancelling it ends the wait."""
        ...


@dataclass(frozen=True, slots=True)
class Declined:
    """The person said no to the question whether to open the link."""

    upstream: str


class Asking:
    """Asks clients to have their person connect an account. `clock` is wall time in seconds."""

    def __init__(self, site: Site, keys: KeyRing, connections: Waiting, clock: Callable[[], float]) -> None:
        self._site = site
        self._keys = keys
        self._connections = connections
        self._clock = clock

    def ask(self, asked: Asked, upstream: AnyUpstream, reason: str) -> Success | Failure:
        """What a client is told whose call needs the person's account at `upstream`."""
        url = connect_url(self._site, upstream.name)
        shown = upstream.display_name or upstream.name
        message = f"Connect your {shown} account: {reason}."
        can_show = asked.can_show_urls
        if can_show and is_stateless(asked.revision) and asked.call.method in WITH_ROUNDS:
            question = {"method": "elicitation/create", "params": {"mode": "url", "url": url, "message": message}}
            state = self._seal(asked, upstream.name)
            if state is not None:
                return Success(
                    asked.call.id,
                    {"resultType": "input_required", "inputRequests": {_KEY: question}, "requestState": state},
                )
        elif can_show and not is_stateless(asked.revision):
            elicitation = {"mode": "url", "elicitationId": secrets.token_hex(16), "url": url, "message": message}
            return failure(
                asked.call.id,
                URL_ELICITATION_REQUIRED,
                f"This needs your account at {shown}; open the link, then call again.",
                {"elicitations": [elicitation]},
            )
        text = (
            f"Authentication required for {upstream.name}: {reason}. Nothing was run. Please visit {url} in a browser "
            "to connect the account (it opens for its person alone, so show them the link), then call again."
        )
        return failed(asked.call, text, asked.revision)

    async def resume(self, asked: Asked) -> Asked | Declined:
        """The call as it was before we asked; waits for the account, `PATIENCE` seconds at most.

        A call without our state is returned as it is: an upstream's own `requestState` is none of our affair.
        """
        state = asked.call.params.get("requestState")
        if not isinstance(state, str) or not state.startswith(_PREFIX):
            return asked
        rest = {key: value for key, value in asked.call.params.items() if key not in _RETRY_FIELDS}
        bare = replace(asked, call=replace(asked.call, params=rest))
        try:
            sealed = self._keys.open(Purpose.REQUEST_STATE, state.removeprefix(_PREFIX), now=self._clock())
        except Unsealable:
            return bare  # too old, or not ours: the person is asked again if need be
        if sealed.get("who") != asked.principal.key or sealed.get("what") != _digest(bare):
            return bare
        upstream = str(sealed["upstream"])
        answers = asked.call.params.get("inputResponses")
        answer = answers.get(_KEY) if isinstance(answers, dict) else None
        if isinstance(answer, dict) and answer.get("action") in ("decline", "cancel"):
            return Declined(upstream)
        with trio.move_on_after(PATIENCE):
            await self._connections.wait_connected(asked.principal, upstream)
        carried = sealed.get("carried")
        return replace(bare, call=replace(bare.call, params={**rest, **carried})) if carried else bare

    def _seal(self, asked: Asked, upstream: str) -> str | None:
        params = asked.call.params
        carried = {key: params[key] for key in _RETRY_FIELDS if key in params}
        if carried and len(dump(carried)) > CARRIED:
            return None
        rest = {key: value for key, value in params.items() if key not in _RETRY_FIELDS}
        bare = replace(asked, call=replace(asked.call, params=rest))
        payload: Json = {"who": asked.principal.key, "what": _digest(bare), "upstream": upstream}
        if carried:
            payload["carried"] = carried
        sealed = self._keys.seal(Purpose.REQUEST_STATE, payload, now=self._clock(), lifetime=STATE_LIFETIME)
        return _PREFIX + sealed


def _digest(asked: Asked) -> str:
    """What a retry must not change: the method and its parameters, but for `_meta`, which is each request's own."""
    params = {key: value for key, value in sorted(asked.call.params.items()) if key != "_meta"}
    return hashlib.sha256(dump([asked.call.method, params])).hexdigest()
