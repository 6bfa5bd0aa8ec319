"""The guard's decisions, and its deadlines in virtual time. The defects themselves: tests/live/test_hypercorn_*.py."""

from __future__ import annotations

import logging
from typing import Any

import h11
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from aggregator.web.hypercorn.guard import (
    HEAD_TIMEOUT,
    LINGER_BYTES,
    LINGER_TIMEOUT,
    MAX_COPIED,
    _Connection,
    _Protocol,
    guarded,
    install,
    refused_head,
)
from aggregator.web.hypercorn.worker import WRITE_TIMEOUT
from aggregator.web.hypercorn.worker import Worker as _Worker

MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


# Paths


async def outcome(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What an application behind the guard, or the guard itself, sends."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "passed"})

    async def send(message: Any) -> None:
        sent.append(message)

    await guarded(app)(scope, trio.sleep_forever, send)
    return sent


@pytest.mark.parametrize(
    "path",
    ["/", "/mcp", "/upstream-auth/callback/a.b-c_D", "/.well-known/x/mcp", "/static/..a", "/a/", "/.../x", "/a:b@c"],
)
async def test_plain_paths_pass(path: str) -> None:
    assert await outcome({"type": "http", "path": path, "raw_path": path.encode()}) == [{"type": "passed"}]


@pytest.mark.parametrize(
    "path",
    [
        "", "*", "mcp", "//", "/a//", "http://evil/", "/..", "/a/..", "/a/../b", "/.", "/./a", "/%2e%2e/a", "/a%2Fb",
        "/a\\", "/\xff", "/a\n",
    ],
)  # fmt: skip
async def test_other_targets_are_refused(path: str) -> None:
    start, body = await outcome({"type": "http", "path": path, "raw_path": path.encode("latin-1")})
    assert start["status"] == 400
    assert b"plain path" in body["body"]


async def test_a_server_that_gives_no_raw_path_is_judged_by_its_path() -> None:
    assert await outcome({"type": "http", "path": "/mcp"}) == [{"type": "passed"}]
    assert (await outcome({"type": "http", "path": "/a b"}))[0]["status"] == 400


async def test_websockets_are_refused_and_the_lifespan_passes() -> None:
    assert await outcome({"type": "websocket", "path": "/mcp"}) == [{"type": "websocket.close", "code": 1000}]
    assert await outcome({"type": "lifespan"}) == [{"type": "passed"}]


# Heads


def head(*headers: tuple[str, str], version: str = "1.1") -> h11.Request:
    return h11.Request(method="POST", target="/mcp", headers=[("host", "x"), *headers], http_version=version)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head(("content-length", "2")), None),
        (head(("transfer-encoding", "chunked")), None),
        (head(("expect", "100-Continue")), None),
        (head(version="1.0"), None),
        (head(version="2.0"), 505),
        (head(("content-length", "2"), ("transfer-encoding", "chunked")), 400),
        (head(("transfer-encoding", "chunked"), version="1.0"), 400),
        (head(("expect", "tea")), 417),
        (head(("x", "a" * 1000)), 431),
    ],
)
def test_heads(request_: h11.Request, status: int | None) -> None:
    refused = refused_head(request_, 1000)
    assert (refused and refused[0]) == status


def test_installing_twice_is_harmless() -> None:
    install()
    install()
    from hypercorn.trio import run

    assert run.TCPServer is _Connection  # type: ignore[attr-defined]
    assert _Connection.__mro__[1] is TCPServer


# One connection, in virtual time


class Socket:
    family = 0

    def getpeername(self) -> tuple[str, int]:
        return ("", 0)

    getsockname = getpeername


async def connect(nursery: trio.Nursery, app: Any, worker: _Worker | None = None) -> tuple[MemoryStream, Config]:
    """A client's end of a connection that the guard serves."""
    install()
    config = Config.from_mapping(errorlog=None, keep_alive_timeout=75)
    client, server = memory_stream_pair()
    server.socket = Socket()  # type: ignore[attr-defined]

    async def entry(scope: Any, receive: Any, send: Any, *_: Any) -> None:
        await app(scope, receive, send)

    async def serve() -> None:
        await _Connection(entry, config, worker or _Worker(None), ConnectionState({}), server)

    nursery.start_soon(serve)
    return client, config


async def read_until_end(client: MemoryStream) -> bytes:
    found = b""
    async for data in client:
        found += data
    return found


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


async def read_and_answer(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await answer(scope, receive, send)


async def stall(scope: Any, receive: Any, send: Any) -> None:
    await trio.sleep_forever()


async def test_a_slow_head_is_answered_408_and_left_soon_after(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which of the sends is the point
            while True:
                await client.send_all(b"G")
                await trio.sleep(1)
        assert trio.current_time() == pytest.approx(HEAD_TIMEOUT + LINGER_TIMEOUT, abs=1)
        assert (await read_until_end(client)).startswith(b"HTTP/1.1 408")


async def test_a_head_has_its_deadline_from_its_first_byte(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await trio.sleep(60)  # an idle connection has none
        await client.send_all(b"GET / HT")
        begun = trio.current_time()
        await client.receive_some()
        assert trio.current_time() - begun == HEAD_TIMEOUT
        await client.aclose()


async def test_an_idle_connection_ends_after_the_keep_alive_time(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        assert await read_until_end(client) == b""
        assert trio.current_time() == 75


async def test_an_idle_connection_whose_client_left_ends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
    assert trio.current_time() == 0


async def test_a_connection_whose_client_left_during_the_work_ends_with_the_work(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(scope, receive, send)

    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, late)
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
    assert trio.current_time() == 5


async def test_a_client_that_leaves_a_stream_with_a_request_begun_is_let_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """h11 pauses before the next request; nobody reads then, so only a write tells that the client has left."""

    async def tick(scope: Any, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:

            async def cancel_when_gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(cancel_when_gone)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await trio.sleep(1)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            client, _ = await connect(nursery, tick)
            await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT")
            await client.receive_some()
            await client.aclose()


async def test_a_client_that_goes_on_sending_after_the_answer_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await client.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert (await read_until_end(client)).endswith(b"no")
        begun = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which of the sends is the point
            while True:
                await client.send_all(b"x")
                await trio.sleep(0.1)
        assert trio.current_time() - begun == pytest.approx(LINGER_TIMEOUT, abs=0.2)


async def test_an_answer_behind_which_we_close_says_so() -> None:
    """The body comes behind the head, as httpx sends it; a client reuses what was not said to end."""
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await client.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        head = (await client.receive_some()).partition(b"\r\n\r\n")[0].lower()
        assert b"connection: close" in head
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"],
        [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n", b"bo", b"dy"],
        [b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nbody\r\n", b"0\r\n\r\n"],
    ],
)
async def test_an_answer_to_a_request_that_was_read_whole_keeps_the_connection(pieces: list[bytes]) -> None:
    """Whoever has been given the end of a body may be sure that nothing of that request is on its way any more."""
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, read_and_answer)
        for _ in range(2):
            for piece in pieces:
                await client.send_all(piece)
            answered = b""
            while not answered.endswith(b"\r\n\r\nno"):
                answered += (data := await client.receive_some())
                assert data, "the connection has ended"
            assert b"connection:" not in answered.lower()
        nursery.cancel_scope.cancel()


async def test_nor_do_we_take_more_than_so_many_bytes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await client.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        await read_until_end(client)
        taken = 0
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which of the sends is the point
            while True:
                await client.send_all(bytes(65536))
                taken += 65536
                await trio.testing.wait_all_tasks_blocked()
        assert taken == pytest.approx(LINGER_BYTES, abs=2 * 65536)


async def test_an_answer_whose_length_is_known_is_one_write() -> None:
    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, answer)
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.receive_some()).endswith(b"\r\n\r\nno")
        nursery.cancel_scope.cancel()


async def test_the_head_of_a_stream_leaves_at_once() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, stream)
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pieces", [3, 10, 11, 40])
async def test_a_client_that_leaves_amid_its_body_releases_everything(
    autojump_clock: trio.testing.MockClock, pieces: int
) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(scope, receive, send)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            client, _ = await connect(nursery, late)
            await client.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
            for _ in range(pieces):
                await client.send_all(b"x" * 1000)
                await trio.testing.wait_all_tasks_blocked()
            await client.aclose()


async def test_a_reader_of_the_body_learns_that_the_client_has_left(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])

    async with trio.open_nursery() as nursery:
        client, _ = await connect(nursery, listen)
        await client.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(12):
            await client.send_all(b"x" * 1000)
            await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
    assert heard == ["http.request"] * 12 + ["http.disconnect"]


async def test_a_client_that_offers_an_upgrade_is_heard_leaving(autojump_clock: trio.testing.MockClock) -> None:
    """h11 would pause the connection until the offer is answered, and nobody would read it."""
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            client, _ = await connect(nursery, listen)
            await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await client.aclose()
    assert heard == ["http.request", "http.disconnect"]


async def test_a_crash_in_a_connection_is_logged_and_stays_there(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(trio.abc.SendStream, trio.abc.ReceiveStream):
        socket = Socket()

        async def send_all(self, data: Any) -> None: ...
        async def wait_send_all_might_not_block(self) -> None: ...
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise RuntimeError("provoked")

        async def aclose(self) -> None: ...

    config = Config.from_mapping(errorlog=None)
    with caplog.at_level(logging.ERROR):
        await _Connection(answer, config, _Worker(None), ConnectionState({}), Broken())
    assert "only this connection is lost" in caplog.text
    assert "provoked" in caplog.text


# Writes


class Unread(trio.abc.SendStream):
    """The other side's window is shut."""

    async def send_all(self, data: Any) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def worker() -> _Worker:
    made = _Worker(None)
    made.config = Config.from_mapping(graceful_timeout=3.0)
    return made


async def test_a_write_that_nobody_takes_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    assert await worker().write(Unread(), b"x") is False
    assert trio.current_time() == WRITE_TIMEOUT


async def test_a_write_is_not_torn_by_a_cancellation(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1):
        await worker().write(Unread(), b"x")
    assert trio.current_time() == WRITE_TIMEOUT


async def test_the_graceful_time_ends_writes_under_way_and_later_ones(autojump_clock: trio.testing.MockClock) -> None:
    stopping = worker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stopping.write, Unread(), b"x")
        await trio.sleep(1)
        await stopping.terminated.set()
    assert trio.current_time() == 4
    assert await stopping.write(Unread(), b"x") is False
    assert trio.current_time() == 4


@pytest.mark.parametrize(
    ("pieces", "writes"),
    [
        ([b"x" * 10], 1),
        ([b"x" * 10, b"y" * 20], 1),
        ([b"x" * 10, b"y" * MAX_COPIED], 2),
        ([b"x" * MAX_COPIED], 2),
        ([b"x" * MAX_COPIED, b"y" * 10], 3),
        ([], 1),
    ],
)
async def test_an_answer_is_one_write_unless_that_would_copy_much(pieces: list[bytes], writes: int) -> None:
    written: list[bytes] = []

    async def send(event: Any) -> None:
        written.append(event.data)

    body = b"".join(pieces)
    protocol = _Protocol(None, Config(), worker(), None, ConnectionState({}), None, None, None, send)  # type: ignore[arg-type]
    protocol.connection.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    while not isinstance(protocol.connection.next_event(), h11.EndOfMessage):
        pass
    length = (b"content-length", b"%d" % len(body))
    for event in (
        h11.Response(status_code=200, headers=[length]),
        *[h11.Data(data=piece) for piece in pieces],
        h11.EndOfMessage(),
    ):
        await protocol._send_h11_event(event)
    assert len(written) == writes
    assert b"".join(written) == b"HTTP/1.1 200 \r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
