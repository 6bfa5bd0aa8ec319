"""`tasks/get`, `tasks/update` and `tasks/cancel`, and the handles that tools answer with (SEP-2663).

A request goes to the upstream that its sealed id names. This file knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...protocol.jsonrpc import INVALID_PARAMS, Failure, Success, failure
from ...protocol.principal import Principal
from ...protocol.sealing import KeyRing
from ...protocol.tasks import TaskPlace, is_declared, is_task, open_task, own_id, seal_task, undeclared, with_id
from ...protocol.translate import failed
from ...upstream.listings import Listings
from .asked import Asked
from .conversing import Tell
from .relaying import Errand, Relaying


class TaskIds:
    """Tasks as clients know them. `clock` is wall time in seconds."""

    def __init__(self, keys: KeyRing, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock

    def publish(self, principal: Principal, place: TaskPlace) -> str:
        return seal_task(self._keys, principal, place, now=self._clock())

    def find(self, principal: Principal, text: object) -> TaskPlace | None:
        return open_task(self._keys, text, principal, now=self._clock())


class McpTasks:
    """Relays what concerns a task."""

    def __init__(self, listings: Listings, relaying: Relaying, ids: TaskIds) -> None:
        self._listings = listings
        self._relaying = relaying
        self._ids = ids

    async def ask(self, asked: Asked, tell: Tell) -> Success | Failure:
        """Raises:
        StoreUnavailable: if it is not known which accounts the person has connected.
        """
        if not is_declared(asked.envelope.capabilities):
            return undeclared(asked.call.id)
        place = self._ids.find(asked.principal, asked.call.params.get("taskId"))
        if place is None or place.upstream not in self._listings.upstreams():
            return failure(asked.call.id, INVALID_PARAMS, "Unknown task: no upstream of yours has it")
        return await self._relaying.for_person(asked, lambda resumed: self._ask(resumed, place, tell))

    def handle(self, asked: Asked, upstream: str, outcome: Success | Failure) -> Success | Failure:
        """The answer to a call at `upstream`; if it is a handle, under an id that leads back there.

        SEP-2663: "A server MUST NOT return CreateTaskResult to a client that did not include the extension capability".
        """
        if not isinstance(outcome, Success) or not is_task(outcome.result):
            return outcome
        if not is_declared(asked.envelope.capabilities):
            return undeclared(asked.call.id)
        id = own_id(outcome.result)
        if id is None:
            return failed(asked.call, f"upstream {upstream} answered with a task that has no usable id", asked.revision)
        published = self._ids.publish(asked.principal, TaskPlace(upstream, id))
        return replace(outcome, result=with_id(outcome.result, published))

    async def _ask(self, asked: Asked, place: TaskPlace, tell: Tell) -> Success | Failure:
        view = self._listings.view_at_hand(asked.principal) or await self._listings.view(asked.principal)
        publish = self._listings.known_catalog(view).publisher(place.upstream)
        params = {**asked.call.params, "taskId": place.id}
        outcome = await self._relaying.run(
            asked, view, Errand(place.upstream, f"task {place.id[:60]}", params, publish=publish), tell
        )
        if not isinstance(outcome, Success):
            return outcome
        return replace(outcome, result=with_id(outcome.result, str(asked.call.params["taskId"])))
