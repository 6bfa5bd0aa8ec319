"""Sessions of handshake clients over a store of their own, as one process that has no others beside it keeps them."""

from __future__ import annotations

import time
from collections.abc import Callable

from aggregator.protocol.sealing import KeyRing
from aggregator.store.memory import MemoryStore
from aggregator.web.mcp.client_sessions import ClientSessions
from aggregator.web.mcp.mailbox import Mailbox
from aggregator.web.mcp.session_states import SessionStates


def open_sessions(keys: KeyRing, clock: Callable[[], float] = time.time) -> ClientSessions:
    return ClientSessions(keys, open_states(clock))


def open_states(clock: Callable[[], float] = time.time) -> SessionStates:
    store = MemoryStore(clock=clock)
    return SessionStates(store, Mailbox(store, clock=clock))
