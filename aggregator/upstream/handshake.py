"""Finding out over a pipe which revision a server speaks, without waiting for one that says nothing.

2026-07-28 is asked for first. A server that does not know `server/discover` says
so, or keeps silent, or, being strict about what comes first, ends. Silence for
`SILENCE` seconds is answered with `initialize` on top: one that was only slow to
start still answers in order, and refuses the second question. This file does not
know processes.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Coroutine
from typing import Any

import trio

from ..errors import UpstreamLost
from ..protocol.jsonrpc import Call, Failure, Json, Notice
from ..protocol.offering import AS_A_CLIENT
from ..protocol.revisions import HANDSHAKE, STATELESS, WITH_HANDSHAKE
from ..protocol.translate import Envelope, params_for_upstream
from .peers import NOBODY, Peer, as_object, drop, instructions_in, stateless_peer
from .wire import Wire

SILENCE = 2.0  # seconds


async def shake_hands(wire: Wire, client: Json, *, older: bool) -> Peer:
    """What the server is. With `older` it is known not to bear `server/discover`.

    Has no deadline of its own.

    Raises:
        UpstreamLost: if it ends, or refuses, or speaks no revision that we do.
    """
    if older:
        return await _initialize(wire, client)
    told, answers = trio.open_memory_channel[Peer | UpstreamLost | None](2)

    async def discover() -> None:
        told.send_nowait(await _tried(_discover(wire, client)))

    async def initialize() -> None:
        told.send_nowait(await _tried(_initialize(wire, client)))

    met: Peer | UpstreamLost | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discover)
        with trio.move_on_after(SILENCE) as silence:
            met = await answers.receive()
        if met is None:
            nursery.start_soon(initialize)
            met = await answers.receive()
        if not isinstance(met, Peer) and silence.cancelled_caught:
            # Two questions are open. A server that answers many at once may refuse the second before it has answered
            # the first; one that was only slow may say to the first that it is older.
            with trio.move_on_after(math.inf if met is None else SILENCE):
                met = await answers.receive() or met
        nursery.cancel_scope.cancel("met")
    if isinstance(met, Peer):
        return met
    raise met or UpstreamLost("said nothing about itself", executed=False)


async def _tried(attempt: Coroutine[Any, Any, Peer | None]) -> Peer | UpstreamLost | None:
    try:
        return await attempt
    except UpstreamLost as exc:
        return exc


async def _discover(wire: Wire, client: Json) -> Peer | None:
    params = params_for_upstream({}, STATELESS, Envelope(STATELESS, AS_A_CLIENT), token=None, client=client)
    outcome = await wire.ask(Call(secrets.token_hex(12), "server/discover", params), NOBODY, drop)
    return None if isinstance(outcome, Failure) else stateless_peer(outcome.result)


async def _initialize(wire: Wire, client: Json) -> Peer:
    params = {"protocolVersion": HANDSHAKE, "capabilities": AS_A_CLIENT, "clientInfo": client}
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
