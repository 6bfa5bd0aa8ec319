"""What handshake clients said about their sessions after they began: log level, subscriptions, the end.

Kept only for those who said something. This file must not know what a session id
looks like, nor who may speak for a session.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

REMEMBERED = 10_000  # sessions
MAX_SUBSCRIPTIONS = 500  # resources of one session


@dataclass(slots=True)
class SessionState:
    """One session's. `watching` are woken at every change."""

    level: str | None = None
    subscriptions: set[str] = field(default_factory=set)
    is_over: bool = False
    watching: set[Callable[[], None]] = field(default_factory=set)

    def wake(self) -> None:
        for wake in list(self.watching):
            wake()


class SessionStates:
    """States by session id; the longest unused goes first."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, SessionState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def find(self, session: str) -> SessionState | None:
        return self._states.get(session)

    def set_level(self, session: str, level: str) -> None:
        self._of(session).level = level

    def subscribe(self, session: str, uri: str) -> bool:
        """False if the session has `MAX_SUBSCRIPTIONS` already."""
        state = self._of(session)
        if len(state.subscriptions) >= MAX_SUBSCRIPTIONS and uri not in state.subscriptions:
            return False
        state.subscriptions.add(uri)
        state.wake()
        return True

    def unsubscribe(self, session: str, uri: str) -> None:
        state = self._of(session)
        state.subscriptions.discard(uri)
        state.wake()

    def end(self, session: str) -> None:
        """The session is over, for whoever still has its id."""
        state = self._of(session)
        state.is_over = True
        state.subscriptions.clear()
        state.wake()

    @contextmanager
    def watched(self, session: str, wake: Callable[[], None]) -> Iterator[SessionState]:
        """`wake` is called, without awaiting, at every change of this session's state."""
        state = self._of(session)
        state.watching.add(wake)
        try:
            yield state
        finally:
            state.watching.discard(wake)

    def _of(self, session: str) -> SessionState:
        state = self._states.get(session)
        if state is None:
            state = self._states[session] = SessionState()
            if len(self._states) > REMEMBERED:
                for oldest, held in self._states.items():
                    if not held.watching:
                        del self._states[oldest]
                        break
        self._states.move_to_end(session)
        return state
