"""A small application that provokes Hypercorn, and the ways to start it.

``python -m tests.live.probe bare|serve``: bare Hypercorn, or as `mcp-aggregator serve` does. Hypercorn's command line
takes ``tests.live.probe:make_command()`` (guarded) or ``tests.live.probe:lonely`` (bare; its lifespan owns a task).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config

DRAIN = float(os.environ.get("PROBE_DRAIN", "2"))


class Probe:
    """What it does depends on the path; `alive` counts the requests that have not ended."""

    def __init__(self) -> None:
        self.alive = 0
        self.draining = False
        self.stuck = False
        self.crash = trio.Event()
        self.released = trio.Event()

    def start_draining(self) -> None:
        self.draining = True
        if self.stuck:
            time.sleep(60)  # the whole process, as a bug would

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self.alive += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self.alive -= 1

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/early":  # as after a token check that fails while the body is coming
                await trio.sleep(0.2)
                await respond(send, 413, b"too much")
            case "/early-crash":
                await trio.sleep(0.2)
                raise RuntimeError("provoked")
            case "/ignore":
                await respond(send, 200, b"body ignored")
            case "/watch":
                await read(receive)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_when_gone, receive, nursery.cancel_scope)
                    await respond(send, 200, b"watched")
                    nursery.cancel_scope.cancel()
            case "/flood":
                await read(receive)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            case "/slow":
                await read(receive)
                await self.released.wait()
                await respond(send, 200, b"finished")
            case "/release":
                self.released.set()
                await respond(send, 200, b"released")
            case "/ready":
                await respond(send, 503 if self.draining else 200, b"draining" if self.draining else b"ready")
            case "/alive":
                await respond(send, 200, str(self.alive - 1).encode())
            case "/stick":
                self.stuck = True
                await respond(send, 200, b"will be stuck")
            case "/crash":
                self.crash.set()
                await respond(send, 200, b"crashing")
            case _:
                await respond(send, 200, f"{scope['path']} {len(await read(receive))}".encode())


async def respond(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def cancel_when_gone(receive: Any, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def crash_when_told(probe: Probe) -> None:
    await probe.crash.wait()
    raise RuntimeError("background task died")


async def lonely(scope: Any, receive: Any, send: Any, probe: Probe = Probe()) -> None:  # noqa: B008 - one per process
    """The obvious ASGI application: its background task lives in the lifespan."""
    if scope["type"] != "lifespan":
        await probe(scope, receive, send)
        return
    await receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash_when_told, probe)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        nursery.cancel_scope.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def serve_bare() -> None:
    config = Config.from_mapping(graceful_timeout=0.5, keep_alive_timeout=1, bind=["127.0.0.1:0"])

    async def wait_signal() -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)

    await hypercorn.trio.serve(Probe(), config, shutdown_trigger=wait_signal)


def serve_ours() -> int:
    from aggregator.serving import run_until_signalled, serve_application
    from aggregator.web.hypercorn.guard import guarded

    async def main(shutdown: trio.Event) -> None:
        probe = Probe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_told, probe)
            serve = partial(serve_application, host="127.0.0.1", port=int(os.environ.get("PROBE_PORT", "0")))
            await serve(Guarded(probe, guarded(probe)), drain=DRAIN, shutdown=shutdown)
            nursery.cancel_scope.cancel()

    logging.basicConfig(level=logging.INFO)
    return run_until_signalled(main, drain=DRAIN)


class Guarded:
    """The probe behind the guard, as the aggregator is."""

    def __init__(self, probe: Probe, entry: Any) -> None:
        self._entry = entry
        self.start_draining = probe.start_draining

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._entry(scope, receive, send)


def make_command() -> Any:
    from aggregator.asgi import LifespanApplication, Opened
    from aggregator.web.hypercorn.guard import guarded

    @asynccontextmanager
    async def open_probe() -> AsyncIterator[Opened]:
        if "PROBE_BROKEN" in os.environ:
            raise OSError("the store is gone")
        if "PROBE_STOP" in os.environ:
            os.kill(os.getppid(), signal.SIGTERM)
        probe = Probe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_told, probe)
            yield Opened(Guarded(probe, guarded(probe)), DRAIN)
            nursery.cancel_scope.cancel()

    return LifespanApplication(open_probe)


if __name__ == "__main__":
    match sys.argv[1]:
        case "bare":
            trio.run(serve_bare)
        case _:
            sys.exit(serve_ours())
