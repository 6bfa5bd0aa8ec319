"""What handshake clients said about their sessions after they began: log level, subscriptions, the end.

The store has the truth, a row for those who said something (`store/session_rows.py`);
here is what this process knows of it, and also of whom it knows that they said
nothing, so that these cost no look at the store per request. Another process that
changes a row tells by mail. This file must not know what a session id looks like,
nor who may speak for a session.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...errors import StoreUnavailable
from ...protocol.jsonrpc import Json
from ...store.mail import EVERYBODY
from ...store.session_rows import SessionChange, SessionRow, SessionStore
from .mailbox import Mailbox

REMEMBERED = 10_000  # sessions

_SILENT = SessionRow()

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SessionState:
    """One session's. `watching` are woken at every change; `edition` counts what was learned of it."""

    row: SessionRow = field(default_factory=SessionRow)
    is_known: bool = False
    edition: int = 0
    watching: set[Callable[[], None]] = field(default_factory=set)

    def learn(self, row: SessionRow) -> None:
        before, self.row = self.row, row
        self.is_known = True
        self.edition += 1
        if row != before:
            for wake in list(self.watching):
                wake()


class SessionStates:
    """States by session id; the longest unused goes first. None stands for a session that is known to be silent."""

    def __init__(self, store: SessionStore, mailbox: Mailbox) -> None:
        self._store = store
        self._mailbox = mailbox
        self._states: OrderedDict[str, SessionState | None] = OrderedDict()
        self._when_over: list[Callable[[str], None]] = []
        mailbox.hear("session", self._hear)
        mailbox.when_missed(self._doubt)

    def __len__(self) -> int:
        return len(self._states)

    def find(self, session: str) -> SessionRow:
        """What is known of the session at hand."""
        state = self._states.get(session)
        return _SILENT if state is None else state.row

    def begun(self, session: str) -> None:
        """The session began here and now: nobody said anything of it yet."""
        self._put(session, None)

    def when_over(self, over: Callable[[str], None]) -> None:
        """Have `over` called with the id of every session that this process knew when it learns that it has ended."""
        self._when_over.append(over)

    async def recall(self, session: str) -> None:
        """Look into the store if this process does not know the session. With the store away it stays unknown: what
        the client said counts again when the store is back.
        """
        if session in self._states:
            self._states.move_to_end(session)
            state = self._states[session]
            if state is None or state.is_known:
                return
        try:
            await self._read(session)
        except StoreUnavailable as exc:
            log.debug("what a client said of its session is not known now: %s", exc)

    async def change(self, session: str, owner: str, change: SessionChange, *, expires_at: float) -> bool:
        """Remember what a client says, and tell the other processes, unless its person has told them too much of late.
        False if there is no room.

        Raises:
            StoreUnavailable: if it cannot be remembered, or nobody can be told; saying it again does no harm.
        """
        row = await self._store.change_session(session, owner, change, expires_at=expires_at)
        if row is None:
            return False
        self._learn(session, self._of(session), row)
        await self._mailbox.post(EVERYBODY, "session", owner, {"session": session})
        return True

    @contextmanager
    def watched(self, session: str, wake: Callable[[], None]) -> Iterator[SessionState]:
        """`wake` is called, without awaiting, at every change of this session's state."""
        state = self._of(session)
        state.watching.add(wake)
        try:
            yield state
        finally:
            state.watching.discard(wake)

    async def _read(self, session: str) -> None:
        state = self._of(session)
        while True:
            edition = state.edition
            row = await self._store.find_session(session)
            if state.edition == edition:  # else something newer was learned meanwhile
                break
        if row is None and not state.watching and self._states.get(session) is state:
            self._put(session, None)
        else:
            self._learn(session, state, row or SessionRow())

    def _learn(self, session: str, state: SessionState, row: SessionRow) -> None:
        was_over = state.row.is_over
        state.learn(row)
        if row.is_over and not was_over:
            for over in self._when_over:
                over(session)

    async def _hear(self, content: Json) -> None:
        session = str(content["session"])
        if session in self._states:
            await self._read(session)

    async def _doubt(self) -> None:
        """Changes may have gone unheard: whoever is asked about next is looked up, whoever is watched now."""
        watched = {session: state for session, state in self._states.items() if state is not None and state.watching}
        self._states.clear()
        self._states.update(watched)
        for session in watched:
            await self._read(session)

    def _of(self, session: str) -> SessionState:
        state = self._states.get(session)
        if state is None:
            state = SessionState(is_known=session in self._states)
            self._put(session, state)
        return state

    def _put(self, session: str, state: SessionState | None) -> None:
        self._states[session] = state
        self._states.move_to_end(session)
        if len(self._states) > REMEMBERED:
            for oldest, held in self._states.items():
                if held is None or not held.watching:
                    del self._states[oldest]
                    break
