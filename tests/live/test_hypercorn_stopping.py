"""Signals while calls are in flight, under `serve` and under Hypercorn's command line."""

from __future__ import annotations

import signal
import socket

import pytest

from .starting import WAYS, Running, arguments, launch, start, until_end

pytestmark = [pytest.mark.live, pytest.mark.parametrize("way", WAYS)]


def call_slowly(server: Running) -> socket.socket:
    """A connection with a call in flight that ends when ``/release`` is asked for."""
    client = server.connect()
    client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    assert server.wait_alive(1) == 1
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_in_flight_finishes_readiness_is_red_at_once_and_the_exit_code_is_0(
    way: str, number: signal.Signals
) -> None:
    with start(way, PROBE_DRAIN="90") as ours, call_slowly(ours) as client:
        assert b" 200 " in ours.get("/ready").partition(b"\r\n")[0]
        ours.signal(number)
        while b"finishing the calls" not in ours.stderr.encode():
            assert ours.wait_exit(0.01) is None
        probe = ours.ask(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")  # keep-alive, and yet the connection ends
        assert b" 503 " in probe.partition(b"\r\n")[0]
        assert b"connection: close" in probe.lower()
        ours.get("/release")
        assert until_end(client).endswith(b"finished")
        assert ours.wait_exit() == 0
        assert "Traceback" not in ours.stderr


def test_an_idle_server_stops_at_once(way: str) -> None:
    with start(way, PROBE_DRAIN="90") as ours, ours.connect():
        ours.get("/x")
        ours.signal(signal.SIGTERM)
        assert ours.wait_exit(60) == 0


def test_a_second_signal_quits_at_once(way: str) -> None:
    with start(way, PROBE_DRAIN="90") as ours, ours.connect() as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        client.recv(1)
        ours.signal(signal.SIGTERM)
        while "finishing the calls" not in ours.stderr:
            assert ours.wait_exit(0.01) is None
        ours.signal(signal.SIGINT)
        assert ours.wait_exit(60) == 128 + signal.SIGINT


def test_an_interrupt_that_the_shell_ignored_for_us_is_heard_all_the_same(way: str) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `sh -c 'mcp-aggregator serve &'` does
    try:
        process = launch(*arguments(way))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        ours = Running(process)
        ours.signal(signal.SIGTERM if way == "command" else signal.SIGINT)
        assert ours.wait_exit() == 0
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_is_stuck_leaves_4_seconds_after_its_drain(way: str) -> None:
    with start(way, PROBE_DRAIN="0") as ours:
        ours.get("/stick")
        ours.signal(signal.SIGTERM)
        assert ours.wait_exit(3) is None
        assert ours.wait_exit() == 0
        assert "still not finished after 4 s" in ours.stderr
