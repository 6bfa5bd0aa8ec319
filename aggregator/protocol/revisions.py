"""The revisions of MCP that we speak, and the facts by which they differ.

Everything that asks "which revision?" asks here. This file knows the wire's
vocabulary and nothing about who speaks it.
"""

from __future__ import annotations

from typing import Final

from .jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
)

STATELESS: Final = "2026-07-28"
HANDSHAKE: Final = "2025-11-25"

# Those with a handshake share one transport; an older one only lacks what it does not know. An upstream may answer our
# handshake with any of them.
WITH_HANDSHAKE: Final = (HANDSHAKE, "2025-06-18", "2025-03-26", "2024-11-05")
FOR_CLIENTS: Final = (STATELESS, *WITH_HANDSHAKE)

# 2025-06-18, protocol version header: a server that gets none "SHOULD assume protocol version 2025-03-26".
WITHOUT_HEADER: Final = "2025-03-26"

PROTOCOL_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"

# Keys of a request's `_meta` that belong to the 2026-07-28 envelope, not to the caller's data.
ENVELOPE_KEYS: Final = frozenset({PROTOCOL_VERSION_KEY, CLIENT_CAPABILITIES_KEY, CLIENT_INFO_KEY, LOG_LEVEL_KEY})

# Result fields that 2026-07-28 added; older clients' schemas do not have them.
STATELESS_RESULT_FIELDS: Final = frozenset({"resultType", "ttlMs", "cacheScope"})

NOT_FOUND_BEFORE: Final = -32002  # up to 2025-11-25

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_STATUS_OF_CODE: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}


def is_stateless(revision: str) -> bool:
    return revision == STATELESS


def disconnect_cancels(revision: str) -> bool:
    """2026-07-28, cancellation: closing the response stream cancels. 2025-11-25: "Disconnection SHOULD NOT be
    interpreted as the client cancelling its request"."""
    return revision == STATELESS


def has_priming(revision: str) -> bool:
    """2025-11-25: a stream begins with an event of empty data. The SDKs of older clients take that for a message."""
    return revision == HANDSHAKE


def not_found_code(revision: str) -> int:
    """What a resource that is not there is answered with: since 2026-07-28 an invalid parameter (SEP-2164)."""
    return INVALID_PARAMS if revision == STATELESS else NOT_FOUND_BEFORE


def http_status(code: int, revision: str) -> int:
    """The HTTP status that carries a JSON-RPC error of `code`; before 2026-07-28 such an answer is a plain 200."""
    return _STATUS_OF_CODE.get(code, 200) if revision == STATELESS else 200


def at_least(level: str, wanted: str) -> bool:
    """Whether a log message of `level` is to be sent to one who asked for `wanted`; an unknown level always is."""
    if level not in LOG_LEVELS or wanted not in LOG_LEVELS:
        return True
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)


def has_batches(revision: str) -> bool:
    """2025-03-26: implementations "MUST support receiving JSON-RPC batches"; 2025-06-18 took them away."""
    return revision == "2025-03-26"


def agreed_revision(requested: object) -> str:
    """What to answer at `initialize` (lifecycle, version negotiation): the requested revision if we speak it, else the
    latest of this kind that we do."""
    return requested if isinstance(requested, str) and requested in WITH_HANDSHAKE else HANDSHAKE
