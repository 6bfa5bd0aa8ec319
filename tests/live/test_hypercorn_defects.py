"""Each defect of Hypercorn's trio worker, on the bare server and behind the guard.

A test of the bare server that fails says that Hypercorn has mended it: then the containment can go.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.parts.processes import PATIENCE

from .starting import WAYS, Running, read_answer, start, until_end

pytestmark = pytest.mark.live

UPGRADE_AND_A_BYTE = (
    b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\nx\r\n"
)
WATCHED = b"POST /watch HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n%s\r\nhi"


@pytest.fixture
def bare() -> Iterator[Running]:
    with start("bare") as running:
        yield running


@pytest.fixture(scope="module", params=WAYS)
def ours(request: pytest.FixtureRequest) -> Iterator[Running]:
    with start(request.param) as running:
        yield running


def upload(server: Running, path: str, *, unheard: float = PATIENCE) -> bytes:
    """Begin a large upload, keep sending for as long as it is taken, and return what came back; who falls silent for
    `unheard` seconds is left."""
    with server.connect() as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n".encode())
        client.settimeout(unheard)
        try:
            for _ in range(60):
                client.sendall(bytes(60_000))
        except OSError:
            pass
        try:
            return client.recv(65536)
        except OSError:
            return b""


# H1: an exception in one connection's task ends the whole server


def test_bare_h1_one_websocket_packet_kills_the_server(bare: Running) -> None:
    with bare.connect() as client:
        client.sendall(UPGRADE_AND_A_BYTE)
        assert bare.wait_exit() == 1


def test_h1_a_websocket_packet_is_an_http_request(ours: Running) -> None:
    with ours.connect() as client:
        client.sendall(UPGRADE_AND_A_BYTE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert ours.is_well()


# H2: a write to a client that does not read can never be cancelled


def stall(server: Running) -> socket.socket:
    client = server.connect(buffer=4096)
    client.sendall(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
    assert client.recv(16) == b"HTTP/1.1 200 \r\nd"
    return client


def test_bare_h2_one_stalled_reader_keeps_the_server_from_stopping(bare: Running) -> None:
    with stall(bare):
        bare.signal(signal.SIGTERM)
        assert bare.wait_exit(3) is None  # graceful_timeout is 0.5 s


@pytest.mark.parametrize("way", WAYS)
def test_h2_a_stalled_reader_does_not_keep_the_server_from_stopping(way: str) -> None:
    with start(way, PROBE_DRAIN="0.5") as ours, stall(ours):
        ours.signal(signal.SIGTERM)
        assert ours.wait_exit() == 0
        assert "leaving now" not in ours.stderr


# H3: the last send wakes whoever waits for the disconnect, and is cancelled by it


@pytest.mark.parametrize("header", [b"connection: close\r\n", b""], ids=["close", "idle"])
def test_bare_h3_a_connection_whose_disconnect_is_watched_never_ends(bare: Running, header: bytes) -> None:
    with bare.connect() as client:
        client.settimeout(2)  # keep-alive is 1 s
        client.sendall(WATCHED % header)
        with pytest.raises(TimeoutError):
            until_end(client)


def test_h3_a_connection_whose_disconnect_is_watched_is_closed(ours: Running) -> None:
    assert ours.ask(WATCHED % b"connection: close\r\n").endswith(b"watched")


def test_h3_http_1_0_sees_the_end_of_the_answer(ours: Running) -> None:
    assert ours.ask((WATCHED % b"").replace(b"HTTP/1.1", b"HTTP/1.0")).endswith(b"watched")


def test_h3_a_connection_is_used_again_and_then_reaped() -> None:
    with start("reaping") as ours, ours.connect() as client:  # keep-alive is 1 s
        client.sendall(WATCHED % b"")
        while not client.recv(65536).endswith(b"watched"):
            pass
        client.sendall(WATCHED % b"")
        assert until_end(client).endswith(b"watched")


# H4: a response that ends before the request's body is read stalls for ever


@pytest.mark.parametrize("path", ["/early", "/early-crash"])
def test_bare_h4_an_early_answer_to_an_upload_leaves_its_task_behind(bare: Running, path: str) -> None:
    upload(bare, path, unheard=1)
    if path == "/early":
        assert bare.wait_alive(1) == 1
        assert bare.wait_alive(0, 1) == 1


@pytest.mark.parametrize(("path", "status"), [("/early", b"413"), ("/early-crash", b"500"), ("/ignore", b"200")])
def test_h4_an_early_answer_to_an_upload_arrives_and_leaves_nothing_behind(
    ours: Running, path: str, status: bytes
) -> None:
    assert upload(ours, path)[9:12] == status
    assert ours.wait_alive(0) == 0


# H5: a crash behind the ASGI lifespan is logged and survived


def test_bare_h5_the_server_serves_on_without_its_background_task() -> None:
    with start("lonely") as bare:
        bare.get("/crash")
        assert bare.wait_exit(0.5) is None
        assert bare.is_well()


@pytest.mark.parametrize("way", WAYS)
def test_h5_a_crash_of_the_applications_nursery_ends_the_process_with_its_traceback(way: str) -> None:
    with start(way) as ours:
        ours.get("/crash")
        assert ours.wait_exit() == 1
        assert "background task died" in ours.stderr
        assert "Traceback" in ours.stderr


# H6: a connection that its client has closed is kept for the keep-alive time


def seconds_until_closed(server: Running) -> float:
    """How long an idle connection lives on after its client has said that nothing more comes."""
    with server.connect() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_answer(client).startswith(b"HTTP/1.1 200")
        time.sleep(0.05)  # the bare server gets ready for the next request
        begun = time.monotonic()
        client.shutdown(socket.SHUT_WR)
        until_end(client)
        return time.monotonic() - begun


def test_bare_h6_a_closed_connection_is_kept_for_the_keep_alive_time(bare: Running) -> None:
    # Of 1 s; again, since one that was not ready yet for the next request closes at once.
    assert any(seconds_until_closed(bare) > 0.3 for _ in range(10))


def test_h6_a_closed_connection_is_closed(ours: Running) -> None:
    assert seconds_until_closed(ours) < 30  # of 100 s
