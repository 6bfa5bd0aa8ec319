"""The Tasks extension (SEP-2663) between peers of 2026-07-28: a tool answers with a handle, and is asked for its end.

A task's id is given to clients sealed to the person and to the upstream that has
the task: any instance, also after a restart, knows where a request belongs, and
nobody can ask for the task of somebody else. Nothing of it is translated for older
peers. This file does no routing of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Unsealable
from .jsonrpc import MISSING_CAPABILITY, Failure, Id, Json, failure
from .principal import Principal
from .sealing import KeyRing, Purpose

TASKS = "io.modelcontextprotocol/tasks"
DECLARATION: Json = {"extensions": {TASKS: {}}}
METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
CHANGED = "notifications/tasks"
MAX_ID = 2048  # characters of an upstream's own id: sealed, it still fits into a header

_PREFIX = "mcpa_tk_"


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where a task is: the upstream, and its own id there."""

    upstream: str
    id: str


def is_declared(capabilities: Mapping[str, Any]) -> bool:
    """Whether a peer of these capabilities has the extension."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, dict) and isinstance(extensions.get(TASKS), dict)


def undeclared(id: Id) -> Failure:
    """The refusal of a request that only a client with the extension may make, or could be answered."""
    return failure(id, MISSING_CAPABILITY, "Missing required client capability", {"requiredCapabilities": DECLARATION})


def is_task(result: Json) -> bool:
    """Whether a stateless server's result is a handle, in the place of what was asked for."""
    return result.get("resultType") == "task"


def own_id(value: Json) -> str | None:
    """The upstream's id of the task that a result or notification is about; None if there is none that we can carry."""
    id = value.get("taskId")
    return id if isinstance(id, str) and 0 < len(id) <= MAX_ID else None


def with_id(value: Json, id: str) -> Json:
    """A result or a notification's parameters, the task called `id` in it; unchanged if it names none."""
    return {**value, "taskId": id} if "taskId" in value else value


def seal_task(keys: KeyRing, principal: Principal, place: TaskPlace, *, now: float) -> str:
    """The id by which `principal` may ask for the task, as long as the key lives: the task's own end is its upstream's
    affair."""
    payload = {"who": principal.key, "up": place.upstream, "task": place.id}
    return _PREFIX + keys.seal(Purpose.TASK, payload, now=now, lifetime=None)


def open_task(keys: KeyRing, text: object, principal: Principal, *, now: float) -> TaskPlace | None:
    """Where the task of an id of `seal_task` is; None for somebody else's, and for every other text."""
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        return None
    try:
        payload = keys.open(Purpose.TASK, text.removeprefix(_PREFIX), now=now)
    except Unsealable:
        return None
    if payload.get("who") != principal.key:
        return None
    return TaskPlace(str(payload.get("up")), str(payload.get("task")))
