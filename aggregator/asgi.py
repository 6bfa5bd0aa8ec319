"""The application for Hypercorn's own command line: ``hypercorn -k trio -w 0 aggregator.asgi:app``.

This file owns what `serve` has and that command line lacks: the configuration
is loaded in the ASGI lifespan, a failed start ends the process, so does a later
crash, and signals drain. It must not know what is served. Importing it changes
the process (Hypercorn's classes and defaults, an ignored SIGINT): nothing but
the Hypercorn command line should.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import trio
from hypercorn.config import Config
from hypercorn.logging import Logger

from .cli.redaction import redact_every_handler
from .config import load_config
from .config.report import render_problems
from .errors import ConfigError, Problem
from .serving import (
    HARD_DEADLINE_AFTER_DRAIN,
    HYPERCORN_SETTINGS,
    Application,
    InFlight,
    leave_after,
    say,
)
from .web.hypercorn import accept_failures
from .web.hypercorn.guard import Receive, Scope, Send, install

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An application that is ready, and how long it may drain, in seconds."""

    app: Application
    drain: float


class LifespanApplication:
    """Opens an application in the ASGI lifespan and passes requests to it."""

    def __init__(self, open_application: Callable[[], AbstractAsyncContextManager[Opened]]) -> None:
        self._open = open_application
        self._requests: InFlight | None = None

    # Hypercorn takes an object whose __call__ is not an `async def` for WSGI.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._requests is not None:
            await self._requests(scope, receive, send)
        else:
            raise RuntimeError("the ASGI server has not run the lifespan's start-up")

    async def _live(self, receive: Receive, send: Send) -> None:
        """The ASGI lifespan.

        A failure is never raised: Hypercorn would log it and serve on without us. ``failed`` is what ends it, with a
        LifespanFailureError, in the start-up and later.
        """
        await receive()
        if not trio.lowlevel.in_trio_run():
            say("error: this needs Hypercorn's trio worker; add -k trio")
            await send({"type": "lifespan.startup.failed", "message": "add -k trio"})
            return
        phase = "startup"
        try:
            async with self._open() as opened, trio.open_nursery() as nursery:
                self._requests = InFlight(opened.app)
                if _owns_signals():
                    await nursery.start(self._obey_signals, opened)
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
                nursery.cancel_scope.cancel()
        except ConfigError as error:
            failure = str(error)
            _print(render_problems(error.source, error.problems, error.text))
        except Exception as error:  # the lifespan is the last place that can end the process
            failure = f"{type(error).__name__}: {error}"
            LOG.critical("the aggregator failed in its %s; ending the process", phase, exc_info=error)
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": f"lifespan.{phase}.failed", "message": failure})

    async def _obey_signals(
        self, opened: Opened, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert self._requests is not None
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            number = await anext(signals)
            say(f"{signal.Signals(number).name}: finishing the calls in flight, {opened.drain:g} s at most")
            leave_after(opened.drain + HARD_DEADLINE_AFTER_DRAIN, 0)
            opened.app.start_draining()
            self._requests.start_draining()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_quit_at, signals)
                with trio.move_on_after(opened.drain):
                    await self._requests.wait_idle()
                nursery.cancel_scope.cancel()
        _interrupt()


async def _quit_at(signals: AsyncIterator[int]) -> None:
    os._exit(128 + await anext(signals))


@trio.lowlevel.enable_ki_protection
def _interrupt() -> None:
    """What Hypercorn without workers takes for the order to stop.

    Protected, so that trio hands the KeyboardInterrupt to the main task, which expects it, and not to this one.
    """
    signal.raise_signal(signal.SIGINT)


def _owns_signals() -> bool:
    """Whether this process is Hypercorn itself (``-w 0``) and nobody else has taken SIGTERM."""
    if multiprocessing.parent_process() is not None:
        LOG.warning("Hypercorn's workers are told of a stop only when their connections are closed; use -w 0 to drain")
        return False
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _print(report: str) -> None:
    """As the command line does: stderr is for people."""
    print(report, end="", file=sys.stderr, flush=True)


@asynccontextmanager
async def open_configured() -> AsyncIterator[Opened]:
    """The aggregator of the configuration that is found where ``mcp-aggregator serve`` finds it.

    Raises:
        ConfigError: when there is none, or it cannot be used.
    """
    loaded = load_config()
    _print(render_problems(loaded.source, loaded.warnings, loaded.text, kind="warning"))
    if loaded.config.auth is None and not (loaded.config.listen.token or loaded.config.listen.allow_unauthenticated):
        told = "is needed where Hypercorn listens, and not we: nobody knows here who can reach it; or use 'serve'"
        raise ConfigError(loaded.source, (Problem("listen.token", told),), text=loaded.text)
    if loaded.config.tls is not None:
        say("warning: tls: Hypercorn listens here, not we; give it --certfile and --keyfile")
    from .server import open_aggregator  # here, so that a bad configuration is told without waiting for it

    async with open_aggregator(loaded.config) as aggregator:
        yield Opened(aggregator, loaded.config.drain)


class _RedactingLogger(Logger):
    """Hypercorn's logs, which its flags and its ``--log-config`` set up just before the first line."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        redact_every_handler()


def prepare_process() -> None:
    """Guard Hypercorn and give its command line the defaults of `serve`; its own flags still win."""
    install()
    accept_failures.install()
    redact_every_handler()
    Config.logger_class = _RedactingLogger
    for name, value in HYPERCORN_SETTINGS.items():
        setattr(Config, name, value)
    if multiprocessing.parent_process() is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else `_interrupt` does nothing


prepare_process()
app = LifespanApplication(open_configured)
