"""Finding out over a pipe which revision a server speaks, without waiting for one that says nothing.

2026-07-28 is asked for first. A server that does not know `server/discover` says
so, or keeps silent, or, being strict about what comes first, ends. Silence for
`SILENCE` seconds is answered with `initialize` on top: one that was only slow to
start answers both. What the connection speaks then is what was agreed on last, so
that one which takes the handshake, too, is an older one until it is started again.
This file does not know processes.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any

import trio

from ...errors import UpstreamLost
from ...protocol.jsonrpc import Call, Failure, Json, Notice
from ...protocol.offering import AS_A_CLIENT
from ...protocol.revisions import HANDSHAKE, STATELESS, WITH_HANDSHAKE
from ...protocol.translate import Envelope, params_for_upstream
from ..peers import NOBODY, Peer, as_object, drop, instructions_in, stateless_peer
from .wire import Wire

SILENCE = 2.0  # seconds


class Opening(Enum):
    """What to say first to a process, as far as earlier ones are known."""

    EITHER = "server/discover, and initialize on top if that is met with silence"
    DISCOVER = "server/discover, however long its answer takes"
    INITIALIZE = "initialize"


@dataclass(frozen=True, slots=True)
class Met:
    """What the server is, and how the next process of the same command is to be met."""

    peer: Peer
    next: Opening


async def shake_hands(wire: Wire, client: Json, opening: Opening, able: Json) -> Met:
    """Has no deadline of its own. `able` is what a server of a handshake revision may ask, as capabilities.

    Raises:
        UpstreamLost: if the server ends, or refuses, or speaks no revision that we do.
    """
    if opening is Opening.INITIALIZE:
        return Met(await _initialize(wire, client, able), opening)
    if opening is Opening.EITHER:
        return await _meet_either(wire, client, able)
    if (peer := await _discover(wire, client)) is not None:
        return Met(peer, opening)
    return Met(await _initialize(wire, client, able), Opening.INITIALIZE)


async def _meet_either(wire: Wire, client: Json, able: Json) -> Met:
    told, answers = trio.open_memory_channel[tuple[Opening, Peer | UpstreamLost | None]](2)
    got: dict[Opening, Peer | UpstreamLost | None] = {}

    async def ask(question: Opening, attempt: Coroutine[Any, Any, Peer | None]) -> None:
        told.send_nowait((question, await _tried(attempt)))

    async def take(within: float) -> None:
        with trio.move_on_after(within):
            question, got[question] = await answers.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, Opening.DISCOVER, _discover(wire, client))
        await take(SILENCE)
        if not isinstance(got.get(Opening.DISCOVER), Peer):
            nursery.start_soon(ask, Opening.INITIALIZE, _initialize(wire, client, able))
            if got.get(Opening.DISCOVER) is None:
                await take(math.inf)
            # A server that answers many at once may refuse the second question before it has answered the first; one
            # that was only slow may answer the first and take the handshake as well.
            if len(got) < 2 and not isinstance(got.get(Opening.INITIALIZE), Peer):
                await take(math.inf if got == {Opening.DISCOVER: None} else SILENCE)
        nursery.cancel_scope.cancel("met")
    discovered, initialized = got.get(Opening.DISCOVER), got.get(Opening.INITIALIZE)
    next = Opening.DISCOVER if isinstance(discovered, Peer) else Opening.INITIALIZE
    for answer in (initialized, discovered):
        if isinstance(answer, Peer):
            return Met(answer, next)
    for answer in (initialized, discovered):
        if isinstance(answer, UpstreamLost):
            raise answer
    raise UpstreamLost("said nothing about itself", executed=False)


async def _tried(attempt: Coroutine[Any, Any, Peer | None]) -> Peer | UpstreamLost | None:
    try:
        return await attempt
    except UpstreamLost as exc:
        return exc


async def _discover(wire: Wire, client: Json) -> Peer | None:
    params = params_for_upstream({}, STATELESS, Envelope(STATELESS, AS_A_CLIENT), token=None, client=client)
    outcome = await wire.ask(Call(secrets.token_hex(12), "server/discover", params), NOBODY, drop)
    return None if isinstance(outcome, Failure) else stateless_peer(outcome.result)


async def _initialize(wire: Wire, client: Json, able: Json) -> Peer:
    params = {"protocolVersion": HANDSHAKE, "capabilities": {**AS_A_CLIENT, **able}, "clientInfo": client}
    outcome = await wire.ask(Call(secrets.token_hex(12), "initialize", params), NOBODY, drop)
    if isinstance(outcome, Failure):
        words = " ".join(outcome.message.split())[:200]
        raise UpstreamLost(f"refused the handshake: {words} ({outcome.code})", executed=False)
    revision = outcome.result.get("protocolVersion")
    if revision not in WITH_HANDSHAKE:
        raise UpstreamLost(f"speaks MCP revision {str(revision)[:40]!r}, which is not supported", executed=False)
    wire.post(Notice("notifications/initialized", {}))
    result = outcome.result
    server = as_object(result.get("serverInfo"))
    return Peer(revision, as_object(result.get("capabilities")), server, instructions_in(result))
