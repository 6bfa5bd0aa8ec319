"""Sessions of handshake clients, without a session table: the session id is a sealed value.

Any instance opens it, so there is no affinity. Opening one proves who began the
session, never who is asking now (RS6): that is the bearer token's part, and a
session of another person is simply not found.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from ...errors import Refusal, Unsealable
from ...protocol.jsonrpc import Json
from ...protocol.principal import Principal
from ...protocol.sealing import KeyRing, Purpose
from ...store.session_rows import SessionChange
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
    """Mints and opens session ids; `states` is what clients said later about their sessions."""

    def __init__(self, keys: KeyRing, states: SessionStates) -> None:
        self._keys = keys
        self._edition = keys.edition
        self._opened: OrderedDict[str, ClientSession] = OrderedDict()
        self.states = states

    def begin(self, principal: Principal, revision: str, capabilities: Json, *, now: float) -> str:
        """A new session id, for the `revision` agreed on. It names capabilities, as far as a header has room."""
        id = secrets.token_urlsafe(12)
        self.states.begun(id)
        payload = {
            "id": id,
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
        if self.states.find(session.id).is_over:
            raise _not_found()
        return session

    async def recall(self, text: str, principal: Principal, *, now: float) -> None:
        """Look up what was said about the session that `text` names, if it is this person's; to be done before `find`.

        Costs nothing for a session that began here, or was recalled before.
        """
        try:
            session = self.find(text, principal, now=now)
        except Refusal:
            return
        await self.states.recall(session.id)

    async def change(self, session: ClientSession, change: SessionChange) -> bool:
        """Remember what the client says about its session; see `SessionStates.change`."""
        return await self.states.change(session.id, session.owner, change, expires_at=session.expires_at)

    def level(self, session: ClientSession | None) -> str | None:
        return None if session is None else self.states.find(session.id).level

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
