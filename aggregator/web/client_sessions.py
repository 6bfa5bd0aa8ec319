"""Sessions of handshake clients, without a session table: the session id is a sealed value.

Any instance opens it, so there is no affinity. Opening one proves who began the
session, never who is asking now (RS6): that is the bearer token's part, and a
session of another person is simply not found.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from ..errors import Refusal, Unsealable
from ..protocol.jsonrpc import Json
from ..protocol.principal import Principal
from ..protocol.sealing import KeyRing, Purpose
from .session_states import SessionStates

LIFETIME = 7 * 86400.0  # seconds; a client whose session has ended initialises again on its own
REMEMBERED = 4096  # opened sessions kept in memory


@dataclass(frozen=True, slots=True)
class ClientSession:
    """What a handshake client agreed on with us."""

    id: str
    revision: str
    capabilities: Json
    owner: str
    expires_at: float


class ClientSessions:
    """Mints and opens session ids, and keeps what a client said later about its session, for as long as we run."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._edition = keys.edition
        self._opened: OrderedDict[str, ClientSession] = OrderedDict()
        self.states = SessionStates()

    def begin(self, principal: Principal, revision: str, capabilities: Json, *, now: float) -> str:
        """A new session id, for the `revision` agreed on. It names capabilities, as far as a header has room."""
        payload = {
            "id": secrets.token_urlsafe(12),
            "who": [principal.issuer, principal.subject],
            "rev": revision,
            "caps": _paths(capabilities),
        }
        return self._keys.seal(Purpose.SESSION, payload, now=now, lifetime=LIFETIME)

    def find(self, text: str, principal: Principal, *, now: float) -> ClientSession:
        """The session that `text` names.

        Raises:
            Refusal: 404 if it is none of ours, has ended, or belongs to somebody else: the client starts a new one.
        """
        if self._edition is not self._keys.edition:  # what a dropped key sealed must not live on in here
            self._edition = self._keys.edition
            self._opened.clear()
        session = self._opened.get(text)
        if session is None:
            session = self._open(text, now)
            self._opened[text] = session
            if len(self._opened) > REMEMBERED:
                self._opened.popitem(last=False)
        if session.owner != principal.key or session.expires_at <= now:
            raise _not_found()
        if (state := self.states.find(session.id)) is not None and state.is_over:
            raise _not_found()
        return session

    def set_level(self, session: ClientSession, level: str) -> None:
        self.states.set_level(session.id, level)

    def level(self, session: ClientSession | None) -> str | None:
        state = self.states.find(session.id) if session is not None else None
        return None if state is None else state.level

    def _open(self, text: str, now: float) -> ClientSession:
        try:
            payload = self._keys.open(Purpose.SESSION, text, now=now)
            issuer, subject = payload["who"]
            return ClientSession(
                payload["id"],
                payload["rev"],
                _capabilities(payload["caps"]),
                Principal(issuer, subject).key,
                payload["exp"],
            )
        # The latter three: sealed by another version of this program.
        except (Unsealable, KeyError, TypeError, ValueError):
            raise _not_found() from None


def _paths(capabilities: Json) -> list[str]:
    """The names of capabilities and of what they consist of (``elicitation``, ``elicitation.url``), as many as fit."""
    paths = []
    for name, value in sorted(capabilities.items()):
        parts = sorted(value) if isinstance(value, dict) else []
        paths += [name, *(f"{name}.{part}" for part in parts if "." not in part)]
    return [path for path in paths if len(path) <= 48 and path.count(".") <= 1][:24]


def _capabilities(paths: list[str]) -> Json:
    capabilities: Json = {}
    for path in paths:
        name, _, part = path.partition(".")
        held = capabilities.setdefault(name, {})
        if part:
            held[part] = {}
    return capabilities


def _not_found() -> Refusal:
    return Refusal(404, "invalid_request", "This session has ended; initialize again.")
