"""systemd's protocols: sockets passed to us, and what it is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from aggregator.systemd import Service, take_sockets
from tests.parts.processes import PATIENCE


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def told(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_the_manager_is_told_and_programs_that_we_start_are_not(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "HOME": "/"}
    service = Service(environ)
    assert environ == {"HOME": "/"}
    service.ready()
    service.status("2 of 3 upstreams\nREADY=0")
    service.status("2 of 3 upstreams\nREADY=0")
    service.stopping()
    assert told(manager) == ["READY=1", "STATUS=2 of 3 upstreams READY=0", "STOPPING=1"]


def test_an_abstract_address_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0mcp-aggregator-test-{os.getpid()}")
        listener.setblocking(False)
        Service({"NOTIFY_SOCKET": f"@mcp-aggregator-test-{os.getpid()}"}).ready()
        assert told(listener) == ["READY=1"]


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens() -> None:
    Service({}).ready()
    Service({"NOTIFY_SOCKET": "/nonexistent/notify"}).ready()


async def test_the_watchdog_is_fed_twice_as_often_as_it_asks(manager: socket.socket, autojump_clock: MockClock) -> None:
    service = Service({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    with trio.move_on_after(46):
        await service.feed_watchdog()
    assert told(manager) == ["WATCHDOG=1"] * 4  # at 0, 15, 30 and 45 s


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}]
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(manager: socket.socket, environ: dict[str, str]) -> None:
    await Service({"NOTIFY_SOCKET": manager.getsockname(), **environ}).feed_watchdog()
    assert told(manager) == []


def test_sockets_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    assert take_sockets(environ) == ()
    assert environ == {}
    assert take_sockets({}) == ()


PASSED = """
import os, socket, sys
from aggregator.systemd import take_sockets
listener = socket.create_server(("127.0.0.1", 0)) if sys.argv[1] == "listener" else open("/dev/null")
os.dup2(listener.fileno(), 3)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "mcp"}
try:
    (passed,) = take_sockets(environ)
    print(passed.getsockname() == listener.getsockname(), os.get_inheritable(3), environ)
except OSError as exc:
    print(type(exc).__name__, exc)
"""


def run_with_passed(what: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PASSED, what], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return done.stdout.strip()


def test_a_passed_listener_is_taken_and_kept_from_children() -> None:
    assert run_with_passed("listener") == "True False {}"


def test_what_is_no_listener_is_refused_in_words() -> None:
    assert run_with_passed("file").startswith("CannotListen descriptor 3, which was passed to us, is no socket")
