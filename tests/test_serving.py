"""Listening, draining and leaving, in this process. Signals: tests/live/test_hypercorn_stopping.py."""

from __future__ import annotations

import errno
import signal
import socket
from functools import partial
from typing import Any

import httpx2
import pytest
import trio

from aggregator.serving import (
    ONE_SIGNAL,
    CannotListen,
    InFlight,
    another,
    listen,
    run_until_signalled,
    serve_application,
    url_of,
)
from tests.parts.processes import PATIENCE


class App:
    """Answers when told to; its readiness is what `start_draining` did."""

    def __init__(self) -> None:
        self.draining = False
        self.asked = trio.Event()
        self.release = trio.Event()

    def start_draining(self) -> None:
        self.draining = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            self.asked.set()
            await self.release.wait()
        status = 503 if self.draining else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")


@pytest.mark.live
async def test_it_gives_the_bound_addresses_when_it_accepts() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_application, App(), host="127.0.0.1", port=0, drain=1)
        (url,) = await nursery.start(serve)
        assert url.startswith("http://127.0.0.1:")
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            assert (await client.get(url)).status_code == 200
        nursery.cancel_scope.cancel()


@pytest.mark.live
async def test_a_shutdown_waits_for_the_call_in_flight_and_shows_the_red_readiness_meanwhile() -> None:
    app, shutdown = App(), trio.Event()
    statuses = []
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client, trio.open_nursery() as nursery:
        serve = partial(serve_application, app, host="127.0.0.1", port=0, drain=30, shutdown=shutdown)
        (url,) = await nursery.start(serve)

        async def call() -> None:
            statuses.append((await client.get(f"{url}/wait")).status_code)

        nursery.start_soon(call)
        await app.asked.wait()
        shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        probe = await client.get(f"{url}/ready")
        assert (probe.status_code, probe.headers["connection"].lower()) == (503, "close")
        app.release.set()
    assert statuses == [503]


@pytest.mark.live
async def test_what_is_still_running_after_the_drain_is_cancelled() -> None:
    app, shutdown = App(), trio.Event()
    with trio.fail_after(PATIENCE):
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client, trio.open_nursery() as nursery:
            serve = partial(serve_application, app, host="127.0.0.1", port=0, drain=0.1, shutdown=shutdown)
            (url,) = await nursery.start(serve)

            async def call() -> None:
                with pytest.raises(httpx2.RemoteProtocolError):
                    await client.get(f"{url}/wait")

            nursery.start_soon(call)
            await app.asked.wait()
            shutdown.set()


class Late(App):
    """Its clients speak in the moment in which it is told that the end has come."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[socket.socket] = []

    def start_draining(self) -> None:
        super().start_draining()
        for client in self.clients:
            client.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")


@pytest.mark.live
async def test_whoever_was_let_in_before_the_end_is_answered() -> None:
    """A first request, which no client sends again: only on a connection that has served before it may have to."""
    app, shutdown = Late(), trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(serve_application, app, host="127.0.0.1", port=0, drain=30, shutdown=shutdown)
            (url,) = await nursery.start(serve)
            where = ("127.0.0.1", int(url.rpartition(":")[2]))
            app.clients += [socket.create_connection(where, timeout=PATIENCE) for _ in range(20)]
            async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                await client.get(url)  # behind them in the queue, so they have been accepted
            shutdown.set()
    answers = [client.recv(65536) for client in app.clients]
    close(tuple(app.clients))
    assert {answer.partition(b" \r\n")[0] for answer in answers} == {b"HTTP/1.1 503"}


async def test_requests_in_flight_are_counted_until_the_last_has_ended() -> None:
    app = App()
    in_flight = InFlight(app)

    async def send(message: Any) -> None: ...

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_flight, {"type": "http", "path": "/wait"}, trio.sleep_forever, send)
        await app.asked.wait()
        in_flight.start_draining()
        assert repr(in_flight) == "<InFlight 1 requests, draining>"
        app.release.set()
        await in_flight.wait_idle()
    assert repr(in_flight) == "<InFlight 0 requests, draining>"


async def test_who_comes_after_a_drain_is_waited_for_as_well() -> None:
    app = App()
    in_flight = InFlight(app)

    async def send(message: Any) -> None: ...

    in_flight.start_draining()
    await in_flight.wait_idle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_flight, {"type": "http", "path": "/wait"}, trio.sleep_forever, send)
        await app.asked.wait()
        nursery.start_soon(in_flight.wait_idle)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(in_flight) == "<InFlight 1 requests, draining>"
        app.release.set()


async def test_a_drain_without_requests_is_over_at_once() -> None:
    in_flight = InFlight(App())
    in_flight.start_draining()
    await in_flight.wait_idle()


# Listening


def close(sockets: tuple[socket.socket, ...]) -> None:
    for each in sockets:
        each.close()


def test_a_taken_port_is_named_with_the_next_step() -> None:
    (taken,) = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    try:
        with pytest.raises(CannotListen, match=f"port {port} of 127.0.0.1 is in use by another program") as refused:
            listen("127.0.0.1", port)
        assert refused.value.errno == errno.EADDRINUSE
    finally:
        taken.close()


@pytest.mark.parametrize(
    ("host", "says"), [("192.0.2.1", "not an address of this machine"), ("no.such.name.invalid", "not an address or a")]
)
def test_a_host_that_is_not_ours_is_named(host: str, says: str) -> None:
    with pytest.raises(CannotListen, match=says):
        listen(host, 0)


def test_a_silent_peer_is_dropped_by_the_kernel_after_20_seconds() -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_both_families_of_a_name_share_one_port() -> None:
    sockets = listen("localhost", 0)
    ports = {each.getsockname()[1] for each in sockets}
    close(sockets)
    assert len(ports) == 1


def test_an_ipv6_address_is_bracketed_in_its_url() -> None:
    try:
        (listener,) = listen("::1", 0)
    except CannotListen as refused:  # not every container has IPv6
        assert "::1" in str(refused)  # noqa: PT017
    else:
        with listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


# Running


def test_a_main_that_returns_ends_with_0() -> None:
    async def main(shutdown: trio.Event) -> None:
        await trio.lowlevel.checkpoint()

    assert run_until_signalled(main, drain=1) == 0


def test_an_address_that_cannot_be_had_is_one_line_and_75(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(shutdown: trio.Event) -> None:
        async with trio.open_nursery() as nursery:  # as a caller's own nursery would wrap it
            nursery.start_soon(partial(serve_application, App(), host="192.0.2.1", port=0, drain=1))

    assert run_until_signalled(main, drain=1) == 75
    assert capsys.readouterr().err.startswith("mcp-aggregator: error: host: '192.0.2.1' is not an address of this")


def test_other_failures_of_main_pass_unchanged() -> None:
    async def main(shutdown: trio.Event) -> None:
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        run_until_signalled(main, drain=1)


async def test_the_same_signal_at_once_again_is_no_second_one(autojump_clock: trio.abc.Clock) -> None:
    send, signals = trio.open_memory_channel[int](9)
    send.send_nowait(signal.SIGTERM)  # as `timeout` does, which tells its child and then its child's process group
    with trio.move_on_after(ONE_SIGNAL):
        await another(signals, signal.SIGTERM)
        pytest.fail("that was one signal, told twice")
    send.send_nowait(signal.SIGTERM)
    assert await another(signals, signal.SIGINT) == signal.SIGTERM

    async def insist() -> None:
        await trio.sleep(2 * ONE_SIGNAL)
        send.send_nowait(signal.SIGTERM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(insist)
        assert await another(signals, signal.SIGTERM) == signal.SIGTERM
