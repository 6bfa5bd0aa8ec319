"""Listening, serving and stopping: everything between a process and an ASGI application.

This file owns the listening sockets, Hypercorn's settings, the drain and what
signals mean. It must not know what is served: an `Application` is anything
that speaks ASGI and can turn its readiness red. docs/serving.md tells operators
what they can rely on.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import hypercorn.trio
import trio
from hypercorn.config import Config

from .config.model import Listen
from .web.hypercorn import accept_failures
from .web.hypercorn.guard import ASGIApp, Message, Receive, Scope, Send, install
from .web.hypercorn.worker import FIRST_REQUEST

EXIT_CANNOT_LISTEN = 75  # EX_TEMPFAIL of sysexits.h: try again when the address is free
HARD_DEADLINE_AFTER_DRAIN = 4.0  # 25 s of drain and this stay below the 30 s promised to Kubernetes and systemd
ONE_SIGNAL = 0.5  # seconds: `timeout` and `npm run` tell us what our process group was told already
QUIT_DEADLINE = 2.0  # a second signal waits for clean-up no longer than this
USER_TIMEOUT_MS = 20_000  # TCP_USER_TIMEOUT: the kernel drops a peer that acknowledges nothing for so long
BACKLOG = 1024
CLOSING_TIME = 0.5  # after the drain, for connections to close and cancelled requests to clean up

LOG = logging.getLogger("hypercorn.error")  # Hypercorn's own words, under its own name

# Hypercorn's defaults that do not suit a server behind a load balancer; asgi.py applies them to its command line too.
HYPERCORN_SETTINGS: Final[dict[str, Any]] = {
    "accesslog": None,
    "alpn_protocols": ["http/1.1"],
    "backlog": BACKLOG,
    "h11_max_incomplete_size": 64 * 1024,  # a request's head: sealed tokens and Mcp-Param-* headers are long
    "include_server_header": False,
    "keep_alive_max_requests": 1_000_000,
    "ssl_handshake_timeout": 10.0,  # as long as a request's head may take
    "keep_alive_timeout": 75.0,  # longer than the 60 s of load balancers, else they meet closed connections
}


class Application(Protocol):
    """What is served."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None: ...

    def start_draining(self) -> None:
        """Readiness turns red and streams that would never end by themselves end. Called once."""


class CannotListen(OSError):
    """The configured address cannot be had; the text says which, why and what to do."""


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Listening sockets for every address that `host` stands for; the caller closes them. Port 0 is any free port.

    ``::`` takes IPv4 as well. A name such as ``localhost`` gives one socket per family, all on one port.

    Raises:
        CannotListen: when not one address, or only some of an IPv4 host's, can be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(f"host: '{host}' is not an address or a name this machine knows: {error.strerror}") from None
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_listen_at(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(found) > 1:
                continue  # a name with an address of a family that this machine has switched off
            for open_socket in sockets:
                open_socket.close()
            raise CannotListen(error.errno, _why_not(host, port, error)) from error
        port = sockets[-1].getsockname()[1]
    if not sockets:
        raise CannotListen(f"host: none of the addresses of '{host}' belongs to this machine")
    return tuple(sockets)


def check_reach(door: Listen, sockets: Sequence[socket.socket]) -> None:
    """Return if nobody reaches `sockets` whom the operator has not let in.

    What the configuration says has been checked before; a name may stand for another address, and a socket may have
    been passed to us.

    Raises:
        CannotListen: if other machines could come in and nothing says that they may.
    """
    if door.token is not None or door.allow_unauthenticated:
        return
    for listener in sockets:
        if listener.family != socket.AF_UNIX and not _is_loopback(listener.getsockname()[0]):
            raise CannotListen(
                f"{url_of(listener)} lets other machines in, and whoever comes could use every upstream; "
                "give 'listen.token', or 'listen.allowUnauthenticated: true' if all who can reach it may"
            )


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_loopback or (found.version == 6 and found.ipv4_mapped is not None and found.ipv4_mapped.is_loopback)


def _listen_at(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use by another program; stop it or set another port"
        case errno.EACCES:
            return f"port {port} of {host} needs privileges this process lacks; set a port of 1024 or more"
        case errno.EADDRNOTAVAIL:
            return f"host: '{host}' is not an address of this machine; set one of its own, or 0.0.0.0 for all"
        case _:
            return f"cannot listen on port {port} of {host}: {os.strerror(error.errno or 0)}"


def url_of(listener: socket.socket, *, scheme: str = "http") -> str:
    """The bound address as a URL, such as ``http://127.0.0.1:3000`` or ``http://[::1]:3000``, or ``unix:/path``."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


class _Settings(Config):
    """Hypercorn's settings with a TLS context that somebody else keeps."""

    context: ssl.SSLContext | None = None

    @property
    def ssl_enabled(self) -> bool:
        return self.context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self.context


class InFlight:
    """ASGI wrapper that knows how many requests are being answered, and answers Hypercorn's lifespan."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0
        self._draining = False
        self._idle = trio.Event()

    def __repr__(self) -> str:
        return f"<InFlight {self._count} requests{', draining' if self._draining else ''}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self._count += 1
        try:
            await self._app(scope, receive, _closing(send) if self._draining else send)
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    def start_draining(self) -> None:
        """From now on every answer ends its connection, so that clients move on to another instance."""
        self._draining = True

    async def wait_idle(self) -> None:
        """Return when no request is being answered. One task at a time."""
        while self._count:
            self._idle = trio.Event()
            await self._idle.wait()
        await trio.lowlevel.checkpoint()


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return closing


async def serve_application(
    app: Application,
    *,
    host: str,
    port: int,
    drain: float,
    shutdown: trio.Event | None = None,
    sockets: Sequence[socket.socket] | None = None,
    context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until cancelled, or until `shutdown` is set and the drain is over.

    `task_status` receives the bound URLs when connections are really accepted. After `shutdown` the server still
    accepts, so that probes see the red readiness, until no request is in flight or `drain` seconds have passed; what
    is still running then is cancelled. Whoever was let in last and has asked nothing yet may, for `FIRST_REQUEST`, and
    gets an answer within the same `drain`: only on a connection that has served do clients ask again. Cancelling this
    function cancels the requests at once.

    With `context` it is served over TLS.

    Resource handling: `sockets`, from `listen`, are taken over; without them `host` and `port` are bound here.

    Raises:
        CannotListen: before anything is served.
    """
    install()
    accept_failures.install()
    listeners = listen(host, port) if sockets is None else sockets
    urls = [url_of(listener, scheme="https" if context else "http") for listener in listeners]
    settings = _Settings.from_mapping(HYPERCORN_SETTINGS, graceful_timeout=CLOSING_TIME, errorlog=LOG, context=context)
    settings.bind = [f"fd://{listener.detach()}" for listener in listeners]
    in_flight, stopped = InFlight(app), trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:
            serving = partial(hypercorn.trio.serve, in_flight, settings, shutdown_trigger=stopped.wait, mode="asgi")  # type: ignore[arg-type]
            await serving(task_status=task_status)
            nursery.cancel_scope.cancel("every connection is closed")

        await nursery.start(run)
        task_status.started(urls)
        if shutdown is not None:
            await shutdown.wait()
            app.start_draining()
            in_flight.start_draining()
            with trio.move_on_after(drain) as draining:
                await in_flight.wait_idle()
            settings.graceful_timeout = max(CLOSING_TIME, draining.deadline - trio.current_time())
            stopped.set()
            with trio.move_on_at(draining.deadline):
                await trio.sleep(FIRST_REQUEST)
                await in_flight.wait_idle()
            await trio.sleep(CLOSING_TIME)
            nursery.cancel_scope.cancel("the drain is over")


def run_until_signalled(main: Callable[[trio.Event], Awaitable[None]], *, drain: float) -> int:
    """Run `main` in trio until it returns; the exit code of the process.

    The first SIGTERM or SIGINT sets the event given to `main`, which then drains and returns: 0. `another` one cancels
    `main`: 128 plus its number. 75 when `main` raises `CannotListen`, whose text goes to stderr. Whatever blocks, the
    process is gone `drain` plus 4 seconds after the first signal, and 2 seconds after the second.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts background jobs so; trio would then never see the interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    quit_by: list[int] = []

    async def supervise() -> None:
        shutdown, listening, scope = trio.Event(), trio.Event(), trio.CancelScope()

        async def obey_signals() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                listening.set()
                number = await anext(signals)
                say(f"{signal.Signals(number).name}: finishing the calls in flight, {drain:g} s at most; again to quit")
                leave_after(drain + HARD_DEADLINE_AFTER_DRAIN, 0)
                shutdown.set()
                quit_by.append(await another(signals, number))
                leave_after(QUIT_DEADLINE, 128 + quit_by[0])
                scope.cancel()

        # A system task ends with the run, and unlike a nursery here it does not wrap what `main` raises.
        trio.lowlevel.spawn_system_task(obey_signals)
        await listening.wait()
        with scope:
            await main(shutdown)

    exit_code = 0
    try:
        trio.run(supervise)
    except* CannotListen as group:
        exit_code = EXIT_CANNOT_LISTEN
        say(f"error: {first_leaf(group).args[-1]}")
    return 128 + quit_by[0] if quit_by else exit_code


async def another(signals: AsyncIterator[int], first: int) -> int:
    """The signal after `first`, which just came; within `ONE_SIGNAL` seconds the same one is no other."""
    soon = trio.current_time() + ONE_SIGNAL
    while True:
        number = await anext(signals)
        if number != first or trio.current_time() >= soon:
            return number


def first_leaf(error: BaseException) -> BaseException:
    """What went wrong first, of everything that a group holds."""
    return first_leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def leave_after(seconds: float, exit_code: int) -> None:
    """End the process `seconds` from now, whatever it is doing, unless it has ended before."""

    def leave() -> None:
        threading.Event().wait(seconds)
        say(f"still not finished after {seconds:g} s; leaving now")
        sys.stdout.flush()
        os._exit(exit_code)

    threading.Thread(target=leave, name="hard-deadline", daemon=True).start()


def say(text: str) -> None:
    """A line for the person at the terminal, or for the journal."""
    print(f"mcp-aggregator: {text}", file=sys.stderr, flush=True)
