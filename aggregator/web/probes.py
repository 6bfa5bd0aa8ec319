"""`/healthz` and `/readyz`: for orchestrators, who may know whether to send traffic and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import StoreUnavailable
from ..store import Store
from .http import Request, Response, Route

_NEVER_CACHED = ("cache-control", "no-store")


def probe_routes(store: Store, is_draining: Callable[[], bool]) -> tuple[Route, ...]:
    """Live means: the event loop turns. Ready means: not draining, and the store answers.

    The identity provider and the upstreams take no part: a pod without them still serves those who are logged in,
    and taking every pod out of service would help nobody.
    """

    async def healthz(request: Request) -> Response:
        return _text(200, "ok")

    async def readyz(request: Request) -> Response:
        if is_draining():
            return _text(503, "draining")
        try:
            await store.check()
        except StoreUnavailable:
            return _text(503, "store unavailable")
        return _text(200, "ready")

    return (Route("/healthz", {"GET": healthz}), Route("/readyz", {"GET": readyz}))


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode() + b"\n", (("content-type", "text/plain; charset=utf-8"), _NEVER_CACHED))
