"""Ids of the events of a stream that can be taken up where it broke (2025-11-25, resumability and redelivery).

An id says which instance has the stream, which stream it is, where in it the event
stands, and which requests are answered on it: whoever comes back for a stream that is
no more can be told that the answer is lost, instead of waiting for it. "The event ID
MUST be globally unique": the stream's name is random, and nobody guesses it.
This file does not know what a stream is to anybody.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from .jsonrpc import Call, Failure, Id, Success, dump
from .revisions import HANDSHAKE
from .translate import failed

MAX_AWAITED = 280  # characters that the requests may take in an id, which each event carries; else they are left out

_ID = re.compile(
    r"(?P<name>(?P<instance>[0-9a-f]{12})\.(?P<stream>[A-Za-z0-9_-]{22})\.(?P<awaited>[A-Za-z0-9_-]{0,280}))"
    r"\.(?P<position>[0-9]{1,9})(?P<last>e?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class EventId:
    """`name` is the stream's, everything but the position. Behind the event that `is_last` nothing comes."""

    name: str
    instance: str
    position: int
    is_last: bool
    awaited: tuple[tuple[Id, str], ...]  # id and method of each request answered on the stream, if they had room


def new_name(instance: str, calls: Iterable[Call]) -> str:
    """The name of a new stream at `instance`, on which `calls` are answered."""
    listed = dump([[call.id, call.method] for call in calls])
    awaited = base64.urlsafe_b64encode(listed).rstrip(b"=").decode() if len(listed) <= MAX_AWAITED * 3 // 4 else ""
    return f"{instance}.{secrets.token_urlsafe(16)}.{awaited}"


def render_event_id(name: str, position: int, *, is_last: bool = False) -> str:
    return f"{name}.{position}e" if is_last else f"{name}.{position}"


def parse_event_id(text: str) -> EventId | None:
    """What `Last-Event-ID` names; None if it is no id of ours."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    awaited = _awaited(found["awaited"])
    return EventId(found["name"], found["instance"], int(found["position"]), bool(found["last"]), awaited)


def lost_answers(id: EventId, text: str) -> list[Success | Failure]:
    """An answer that says `text` to each request that was to be answered on the stream."""
    return [failed(Call(request, method, {}), text, HANDSHAKE) for request, method in id.awaited]


def _awaited(text: str) -> tuple[tuple[Id, str], ...]:
    try:
        listed = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return tuple((request, method) for request, method in listed if _is_request(request, method))
    except (binascii.Error, ValueError, TypeError):  # somebody made it up, or there was no room
        return ()


def _is_request(request: object, method: object) -> bool:
    return isinstance(request, str | int) and not isinstance(request, bool) and isinstance(method, str)
