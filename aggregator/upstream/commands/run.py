"""One run of a command that is an MCP server: started, met, served, ended, and why.

Everything that touches its pipes is owned here and ends with the run. This file
does not know when a command is started or whether it is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ...errors import UpstreamLost
from ...protocol.jsonrpc import Json
from ..peers import Peer
from .child import Command, Running, StartChild
from .child_log import ChildLog
from .handshake import Met, Opening, shake_hands
from .wire import Wire

LAST_WORDS = 1.0  # seconds for the exit code to arrive, and for what was still in the pipes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run ended. `lived` counts from the handshake, None if there was none."""

    reason: str
    lived: float | None
    on_purpose: bool = False  # nobody used it
    silently: bool = False  # it ended during the handshake, as a strict server does that is asked `server/discover`


@dataclass(slots=True)
class Life:
    """One run of the process, from the handshake on."""

    wire: Wire
    peer: Peer
    next: Opening  # how the next process is to be met
    log_level: str | None = None
    used_at: float = field(default_factory=trio.current_time)
    subscribed: set[str] = field(default_factory=set)  # resources, as far as it honoured that


Serve = Callable[[Life], Awaitable[bool]]


async def run_once(
    name: str,
    command: Command,
    client: Json,
    serve: Serve,
    words: ChildLog,
    *,
    opening: Opening,
    start: StartChild,
    able: Json,
    deadline: float,
) -> Ended:
    """Run `command` until it ends, or until `serve`, which is called once it was met, returns: True is on purpose.
    What it says besides goes to `words`. `able` is what it may ask, see `shake_hands`; `deadline` is how many seconds
    that may take.

    When cancelled, and after `serve`, the process is ended as `Running.end` says. Its pipes are read until then.
    """
    try:
        async with start(command) as child:
            return await _live(name, client, serve, words, child, opening=opening, able=able, deadline=deadline)
    except UpstreamLost as exc:
        return Ended(f"its command {command.name} {exc}", None)


async def _live(
    name: str,
    client: Json,
    serve: Serve,
    words: ChildLog,
    child: Running,
    *,
    opening: Opening,
    able: Json,
    deadline: float,
) -> Ended:
    wire = Wire(name, child.stdin, child.stdout, words.babbled)
    drained = trio.Event()
    # The pipes are served until the process has ended, also when we are cancelled: who cannot write cannot end.
    pipes = trio.CancelScope(shield=True)

    async def drain() -> None:
        await words.drain(child.stderr)
        drained.set()

    async def serve_pipes() -> None:
        with pipes:
            async with trio.open_nursery() as serving:
                serving.start_soon(drain)
                serving.start_soon(wire.read)
                serving.start_soon(wire.write)
                serving.start_soon(child.watch)

    ended = Ended("was closed", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_pipes)
        nursery.start_soon(_stop_when_exited, child, wire)
        try:
            ended = await _meet_and_serve(name, client, serve, wire, opening=opening, able=able, deadline=deadline)
            if not ended.on_purpose:
                with trio.move_on_after(LAST_WORDS):
                    await child.exited.wait()
                ended = _in_words(ended, child)
        finally:
            wire.lose(ended.reason)
            await child.end()
            with trio.move_on_after(LAST_WORDS, shield=True):
                await drained.wait()
            pipes.cancel("the process has ended")
            nursery.cancel_scope.cancel("the process has ended")
    return ended


async def _meet_and_serve(
    name: str, client: Json, serve: Serve, wire: Wire, *, opening: Opening, able: Json, deadline: float
) -> Ended:
    met: Met | UpstreamLost | None = None
    with trio.move_on_after(deadline) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, wire.stopped, scope)
            try:
                met = await shake_hands(wire, client, opening, able)
            except UpstreamLost as exc:
                met = exc
            nursery.cancel_scope.cancel("met")
    if not isinstance(met, Met):
        reason = f"did not answer the handshake within {deadline:g} s" if met is None else str(met)
        return Ended(reason, None, silently=wire.stopped.is_set())
    log.info("upstream %s is running, MCP %s", name, met.peer.revision)
    since = trio.current_time()
    on_purpose = await serve(Life(wire, met.peer, met.next))
    reason = "stopped: nobody used it" if on_purpose else "closed its pipes"
    return Ended(reason, trio.current_time() - since, on_purpose=on_purpose)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel("the process is lost")


async def _stop_when_exited(child: Running, wire: Wire) -> None:
    """A grandchild may hold the pipes open: what ends the run is the command's end, once the pipe had time to empty."""
    await child.exited.wait()
    with trio.move_on_after(LAST_WORDS):
        await wire.stopped.wait()
    wire.stopped.set()


def _in_words(ended: Ended, child: Running) -> Ended:
    """With the exit code, if the process ended by itself."""
    if not child.exited.is_set():
        return ended
    if child.code is None:
        how = "was lost with its guard"
    elif child.code < 0:
        how = f"was ended by signal {-child.code}"
    else:
        how = f"ended with exit code {child.code}"
    when = " before it answered" if ended.lived is None else ""
    text = f"its command {how}{when}; the log has what it wrote to stderr"
    return Ended(text, ended.lived, silently=ended.silently)
