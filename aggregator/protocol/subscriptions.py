"""What can be listened for between calls, in the words of each revision. Pure.

2026-07-28 has one request, ``subscriptions/listen``, with a filter; earlier
revisions tell of lists that change to whoever listens, and of resources that were
subscribed to one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .jsonrpc import Json, Notice
from .tasks import CHANGED as TASK_CHANGED
from .tasks import DECLARATION, is_declared

KINDS = ("tools", "prompts", "resources")
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
UPDATED = "notifications/resources/updated"
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"

_FILTER = {f"{kind}ListChanged": kind for kind in KINDS}
_HEARD = {f"notifications/{kind}/list_changed": kind for kind in KINDS}
BETWEEN_CALLS = frozenset({*_HEARD, UPDATED, ACKNOWLEDGED, TASK_CHANGED})  # notifications that no call causes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Kinds of lists, resources by URI, and tasks by id, of which changes are wanted."""

    kinds: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.kinds or self.uris or self.tasks)

    def __le__(self, other: Wanted) -> bool:
        return self.kinds <= other.kinds and self.uris <= other.uris and self.tasks <= other.tasks


def read_filter(value: Any) -> Wanted | None:
    """The filter of ``subscriptions/listen``; kinds that we do not know are left out. None if it is malformed."""
    if not isinstance(value, dict):
        return None
    named = [value.get(key) or [] for key in ("resourceSubscriptions", "taskIds")]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in named):
        return None
    kinds = frozenset(kind for key, kind in _FILTER.items() if value.get(key) is True)
    return Wanted(kinds, *map(frozenset, named))


def render_filter(wanted: Wanted) -> Json:
    made: Json = {key: True for key, kind in _FILTER.items() if kind in wanted.kinds}
    if wanted.uris:
        made["resourceSubscriptions"] = sorted(wanted.uris)
    if wanted.tasks:
        made["taskIds"] = sorted(wanted.tasks)
    return made


def declared_for(wanted: Wanted) -> Json:
    """The capabilities that a client has to declare to be told this."""
    return DECLARATION if wanted.tasks else {}


def on_offer(capabilities: Json, wanted: Wanted) -> Wanted:
    """The part of `wanted` that a server of these capabilities tells of."""

    def has(kind: str, ability: str) -> bool:
        capability = capabilities.get(kind)
        return isinstance(capability, dict) and capability.get(ability) is True

    kinds = frozenset(kind for kind in wanted.kinds if has(kind, "listChanged"))
    uris = wanted.uris if has("resources", "subscribe") else frozenset[str]()
    return Wanted(kinds, uris, wanted.tasks if is_declared(capabilities) else frozenset())


def heard_kind(notice: Notice) -> str | None:
    """The kind of list that the notification says has changed."""
    return _HEARD.get(notice.method)


def list_changed(kind: str) -> Notice:
    return Notice(f"notifications/{kind}/list_changed", {})


def updated(uri: str) -> Notice:
    return Notice(UPDATED, {"uri": uri})


def acknowledged(wanted: Wanted) -> Notice:
    return Notice(ACKNOWLEDGED, {"notifications": render_filter(wanted)})


def tagged(notice: Notice, subscription: str | int) -> Notice:
    """The notification as it goes out on the stream of this ``subscriptions/listen``."""
    meta = notice.params.get("_meta")
    kept = meta if isinstance(meta, dict) else {}
    return Notice(notice.method, {**notice.params, "_meta": {**kept, SUBSCRIPTION_ID: subscription}})


def ended(subscription: str | int) -> Json:
    """The result that ends a stream in order."""
    return {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: subscription}}
