"""One MCP request as everybody behind the endpoint sees it. This file must not know what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...protocol.jsonrpc import Call
from ...protocol.offering import APPS
from ...protocol.principal import Principal
from ...protocol.translate import Envelope
from ...upstream.peers import Poll, nobody_polls
from .client_sessions import ClientSession


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of one person, its envelope read. `envelope.capabilities` are the client's, in every revision.

    `poll` has the client come back for its answer after so many seconds, if it can (SEP-1699).
    """

    call: Call
    revision: str
    principal: Principal
    envelope: Envelope
    headers: Mapping[str, str]
    session: ClientSession | None
    poll: Poll = nobody_polls

    @property
    def can_show_urls(self) -> bool:
        """Whether the client can ask its person to open a URL (elicitation, mode ``url``)."""
        elicitation = self.envelope.capabilities.get("elicitation")
        return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)

    @property
    def can_show_pages(self) -> bool:
        """Whether the client may know MCP Apps. A session id names no extensions, only that there are some."""
        extensions = self.envelope.capabilities.get("extensions")
        return isinstance(extensions, dict) and (APPS in extensions or not extensions)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A whole JSON-RPC answer, JSON already; in pieces, of which a long one is kept elsewhere and not worth a copy."""

    pieces: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)
