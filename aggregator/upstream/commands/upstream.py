"""An MCP server that we start: one process for everybody, started on first use, again when it ends, ended when idle.

One task, `supervise`, owns the process and changes what is known of it, between
awaits; requests only look, wait and ask. Deadlines of requests are their
callers', and none of them ends the process: one that is busy is left alone, for
as long as it takes. This file does not know pipes (`wire`) or signals (`child`).
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from ...config.model import ConnectRetry
from ...errors import UpstreamLost
from ...protocol.jsonrpc import Call, Json, Notice, Success
from ...protocol.questions import EVERYTHING
from ...protocol.revisions import LOG_LEVELS, STATELESS, at_least, is_stateless
from ...protocol.subscriptions import ACKNOWLEDGED, Wanted, declared_for, read_filter, render_filter
from ...protocol.translate import Envelope, params_for_upstream
from ..credentials import NOTHING, Credential
from ..peers import (
    LISTING,
    NOBODY,
    Answered,
    Hear,
    OnNotice,
    Outgoing,
    Peer,
    SessionKey,
    drop,
    list_pages,
    notice_for_client,
)
from .child import Command, StartChild, open_child
from .child_log import ChildLog
from .handshake import Opening
from .restarts import Restarts
from .run import Ended, Life, run_once

LOOK_AGAIN = 1.0  # seconds; whether one that is to be stopped has answered by now
PATIENCE = 3.0  # seconds that a request waits for the next start; a longer wait is told at once

log = logging.getLogger(__name__)


class CommandUpstream:
    """One upstream. Opened by `open_command`, which also ends its process.

    `retry` says how it is started again when it fails; None is the usual way.

    `state` is ``stopped`` (until it is used), ``starting``, ``running`` or ``waiting`` (it ended, and is started again
    at `retry_at`, of trio's clock); `reason` says why it ended last.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        client: Json,
        *,
        idle_stop: float | None = None,
        one_person: bool = False,
        retry: ConnectRetry | None = None,
        start: StartChild = open_child,
    ) -> None:
        self.name = name
        self.peer: Peer | None = None
        self.state = "stopped"
        self.reason: str | None = None
        self.retry_at: float | None = None
        self.starts = 0
        self._command = command
        self._client = client
        self._idle_stop = idle_stop
        self._able: Json = EVERYTHING if one_person else {}
        self._retry = retry or ConnectRetry()
        self._start = start
        self._words = ChildLog(f"upstream {name}", command.secrets)
        self._life: Life | None = None
        self._restarts = Restarts()
        self._opening = Opening.EITHER
        self._closed = False
        self._left_alone = False  # it failed, and is not started again before somebody wants it
        self._at_rest = False  # stopped for want of use, and not wanted since
        self._changed = trio.Event()  # replaced at every change of `state`
        self._wanted = trio.Event()
        self._hurry = trio.Event()
        self._kept: dict[str, tuple[list[Json], float | None]] = {}
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<CommandUpstream {self.name} {self._command.name} {self.state}, {self.starts} starts>"

    @property
    def last_words(self) -> tuple[str, ...]:
        """See `McpUpstream.last_words`."""
        return tuple(self._words.last)

    @property
    def is_in_doubt(self) -> bool:
        return False

    def doubt(self) -> None:
        """Nothing to do: a process cannot become another, and a new one is asked anew."""

    def forget(self, client: str) -> None:
        """Nothing to do: the process is everybody's."""

    def retry(self) -> None:
        """Start it now, if it waits."""
        self._restarts, self.retry_at = Restarts(), None
        self._hurry.set()

    async def meet(self, session: SessionKey = LISTING, credential: Credential = NOTHING) -> Peer:
        """See `McpUpstream.meet`."""
        if self.peer is not None and self._at_rest:
            return self.peer
        return (await self._wait_life()).peer

    async def request(self, outgoing: Outgoing, on_notice: OnNotice) -> Answered:
        """See `McpUpstream.request`. What the process had not been asked when it ended is asked again, once.

        Raises:
            UpstreamLost: if the process ends, or cannot be started soon.
        """
        for last in (False, True):
            life = await self._wait_life()
            try:
                return await self._ask(life, outgoing, on_notice)
            except UpstreamLost as exc:
                if last or exc.executed:
                    raise
        raise AssertionError("the second round returns or raises")

    async def listen(
        self,
        session: SessionKey,
        credential: Credential,
        wanted: Wanted,
        hear: Hear,
        acknowledge: Callable[[Wanted], None],
    ) -> None:
        """See `McpUpstream.listen`; lasts as long as this process, and wakes none that is at rest or left alone."""
        while (self._at_rest or self._left_alone) and not self._closed:
            await self._changed.wait()
        life = await self._wait_life()

        def receive(notice: Notice) -> None:
            if notice.method == ACKNOWLEDGED:
                acknowledge(read_filter(notice.params.get("notifications")) or Wanted())
            else:
                hear(notice)

        life.wire.listeners.add(receive)
        try:
            if is_stateless(life.peer.revision):
                told = {"notifications": render_filter(wanted)}
                call = self._session_call(life, "subscriptions/listen", told, declared_for(wanted))
                await life.wire.ask(call, NOBODY, drop)
                return
            acknowledge(Wanted(wanted.kinds))
            await life.wire.stopped.wait()
        except UpstreamLost:
            await self._wait_successor(life)
            raise
        else:
            await self._wait_successor(life)
        finally:
            life.wire.listeners.discard(receive)

    async def subscribe(self, session: SessionKey, credential: Credential, uris: frozenset[str]) -> frozenset[str]:
        """See `McpUpstream.subscribe`; of a process that has ended nothing is subscribed to."""
        if (life := self._life) is None:
            return frozenset()

        async def ask(method: str, uri: str) -> bool:
            return isinstance(
                await life.wire.ask(self._session_call(life, method, {"uri": uri}), NOBODY, drop), Success
            )

        for uri in sorted(life.subscribed - uris):
            await ask("resources/unsubscribe", uri)
            life.subscribed.discard(uri)
        for uri in sorted(uris - life.subscribed):
            if await ask("resources/subscribe", uri):
                life.subscribed.add(uri)
        return frozenset(life.subscribed)

    async def _wait_successor(self, life: Life) -> None:
        """Who listens would list it anew once it is lost, which would start it: not if nobody else wants it."""
        while not self._retry.enabled and not self._closed and self._life in (None, life):
            await self._changed.wait()

    def _session_call(self, life: Life, method: str, params: Json, capabilities: Json | None = None) -> Call:
        envelope = Envelope(STATELESS, capabilities or {})
        made = params_for_upstream(params, life.peer.revision, envelope, token=None, client=self._client)
        return Call(secrets.token_hex(12), method, made)

    async def list_all(
        self, method: str, key: str, *, owner: str = NOBODY, credential: Credential = NOTHING
    ) -> tuple[list[Json], float | None]:
        """See `list_pages`. One that was stopped for want of use is not started for its listing, which it gave before.

        Raises: as `list_pages`.
        """
        if self._at_rest and (kept := self._kept.get(method)) is not None:
            await trio.lowlevel.checkpoint()
            return kept
        listed = self._kept[method] = await list_pages(self, method, key, owner=owner, credential=credential)
        return listed

    async def supervise(self) -> None:
        """Start the process when it is wanted, and again when it ended; runs until closed, which ends the process."""
        try:
            with self._scope:
                while True:
                    await self._wanted.wait()
                    ended = await self._run_once()
                    if ended.on_purpose:
                        if self._at_rest:
                            self._wanted = trio.Event()
                            self._is_now("stopped", ended.reason)
                            log.info("upstream %s: %s; it starts when somebody does", self.name, ended.reason)
                    elif ended.silently and self._opening is not Opening.INITIALIZE:
                        self._opening = Opening.INITIALIZE  # it may bear nothing else as the first thing said
                    else:
                        if ended.lived is None:
                            self._opening = Opening.EITHER
                        await self._wait_turn(ended)
        finally:
            self._closed = True
            self._is_now("stopped", "is closed")
            self._ended.set()

    async def close(self) -> None:
        """End the process, bounded, see `Child.end`. What is asked from now on is refused."""
        self._closed = True
        self._scope.cancel("upstream closed")
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _wait_turn(self, ended: Ended) -> None:
        self._restarts, delay = self._restarts.after(ended.lived, self._retry.max_delay)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self.retry_at = trio.current_time() + delay
        if self._retry.enabled:
            log.warning("upstream %s: %s; it is started again in %.0f s", self.name, ended.reason, delay)
        else:
            log.warning("upstream %s: %s; it is started again when somebody asks for it", self.name, ended.reason)
            self._left_alone = True
            self._wanted = trio.Event()
        self._is_now("waiting", ended.reason)
        self._hurry = trio.Event()
        with trio.move_on_after(delay):
            await self._hurry.wait()
        self.retry_at = None
        self._is_now("starting" if self._wanted.is_set() else "stopped", ended.reason)

    async def _run_once(self) -> Ended:
        """One run, from start to end; whatever goes wrong in it is its reason to have ended."""
        self._is_now("starting", self.reason)
        try:
            return await run_once(
                self.name,
                self._command,
                self._client,
                self._serve,
                self._words,
                opening=self._opening,
                start=self._start,
                able=self._able,
                deadline=self._retry.attempt_timeout,
            )
        except Exception as exc:  # the supervisor of one upstream: no process may end ours
            log.exception("upstream %s: failed unexpectedly", self.name)
            return Ended(f"unexpected {type(exc).__name__}", None)

    async def _serve(self, life: Life) -> bool:
        """Let requests reach the process until it is lost (False), or nobody needs it any more (True)."""
        self._life, self.peer, self._opening = life, life.peer, life.next
        self.starts += 1
        self._left_alone = False
        self._is_now("running", None)
        try:
            return await self._wait_idle(life)
        finally:
            self._life = None
            self._is_now("ending", None)

    async def _wait_idle(self, life: Life) -> bool:
        """Until it has been idle for too long (True), or lost."""
        if self._idle_stop is None:
            await life.wire.stopped.wait()
            return False
        while True:
            now = trio.current_time()
            idle_at = life.used_at + self._idle_stop
            if idle_at <= now and not life.wire.calls:
                self._at_rest = True
                return True  # without an await: whoever comes now waits for the next
            with trio.move_on_at(max(idle_at, now + LOOK_AGAIN)):
                await life.wire.stopped.wait()
                return False

    async def _wait_life(self) -> Life:
        while self._life is None or self._life.wire.stopped.is_set():
            if self._closed:
                raise UpstreamLost("is closed", executed=False)
            if self.retry_at is not None and (left := self.retry_at - trio.current_time()) > PATIENCE:
                when = "it is started again" if self._retry.enabled else "ask again"
                raise UpstreamLost(str(self.reason), executed=False, moment=f"{when} in {left:.0f} s")
            self._at_rest = False
            self._wanted.set()
            await self._changed.wait()
        return self._life

    async def _ask(self, life: Life, outgoing: Outgoing, on_notice: OnNotice) -> Answered:
        id = secrets.token_hex(12)
        envelope, revision = outgoing.envelope, life.peer.revision
        token = id if envelope.progress_token is not None else None
        able = outgoing.respondent.capabilities
        params = params_for_upstream(
            outgoing.params, revision, envelope, token=token, client=self._client, askable=able
        )

        async def hear(notice: Notice) -> None:
            if (shown := notice_for_client(notice, envelope, id)) is not None:
                await on_notice(shown)

        _set_log_level(life, envelope.log_level)
        is_use = outgoing.owner != NOBODY
        try:
            respondent = outgoing.respondent if self._able and able else None
            outcome = await life.wire.ask(Call(id, outgoing.method, params), outgoing.owner, hear, respondent)
        finally:
            if is_use:
                life.used_at = trio.current_time()
        return Answered(outcome, revision)

    def _is_now(self, state: str, reason: str | None) -> None:
        self.state, self.reason = state, reason
        changed, self._changed = self._changed, trio.Event()
        changed.set()


@asynccontextmanager
async def open_command(
    name: str,
    command: Command,
    client: Json,
    nursery: trio.Nursery,
    *,
    idle_stop: float | None = None,
    one_person: bool = False,
    retry: ConnectRetry | None = None,
    start: StartChild = open_child,
) -> AsyncIterator[CommandUpstream]:
    """An upstream ready to be asked; nothing is started before the first request. Ends its process on exit, bounded.

    `nursery` runs its supervisor; when that nursery is cancelled the process is ended as well.
    """
    upstream = CommandUpstream(
        name, command, client, idle_stop=idle_stop, one_person=one_person, retry=retry, start=start
    )
    nursery.start_soon(upstream.supervise)
    try:
        yield upstream
    finally:
        await upstream.close()


def _set_log_level(life: Life, wanted: str | None) -> None:
    """A process has one level: the lowest that any request asked for. What is too low for one is filtered."""
    if is_stateless(life.peer.revision) or wanted not in LOG_LEVELS or "logging" not in life.peer.capabilities:
        return
    if life.log_level is None or not at_least(wanted, life.log_level):
        life.wire.post(Call(secrets.token_hex(12), "logging/setLevel", {"level": wanted}))
        life.log_level = wanted
