"""`/healthz` and `/readyz`: for orchestrators, who may know whether to send traffic and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..errors import StoreUnavailable
from ..store import Store
from .http import Request, Response, Route

CHECK_INTERVAL = 1.0  # seconds between looks at the store, however often the probe is called

_NEVER_CACHED = ("cache-control", "no-store")


def probe_routes(
    store: Store,
    is_draining: Callable[[], bool],
    has_foreign_keys: Callable[[], bool],
    is_behind: Callable[[], bool],
) -> tuple[Route, ...]:
    """Live means: the event loop turns. Ready means: not draining, the store answers, its processes share keys, and it
    is not behind: no renewed tokens are in this process's memory alone.

    The identity provider and the upstreams take no part: a pod without them still serves those who are logged in,
    and taking every pod out of service would help nobody.
    """

    async def healthz(request: Request) -> Response:
        return _text(200, "ok")

    checked_at, answer = -CHECK_INTERVAL, _text(200, "ready")

    async def readyz(request: Request) -> Response:
        nonlocal checked_at, answer
        if is_draining():
            return _text(503, "draining")
        if has_foreign_keys():
            return _text(503, "another instance runs with another secret")
        if is_behind():
            return _text(503, "renewed tokens wait for the store")
        if trio.current_time() >= checked_at + CHECK_INTERVAL:
            checked_at = trio.current_time()  # before the check: it writes, and anybody may ask
            try:
                await store.check()
                answer = _text(200, "ready")
            except StoreUnavailable:
                answer = _text(503, "store unavailable")
        return answer

    return (Route("/healthz", {"GET": healthz}), Route("/readyz", {"GET": readyz}))


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode() + b"\n", (("content-type", "text/plain; charset=utf-8"), _NEVER_CACHED))
