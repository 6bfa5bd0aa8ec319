"""HTTP as an upstream speaks it, below the pool a scripted network; and what is made of its answers."""

from __future__ import annotations

import gc
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import pytest
import trio

from aggregator.errors import UpstreamLost, UpstreamRefused
from aggregator.protocol.jsonrpc import Message, Notice, Success
from aggregator.upstream.http.exchange import (
    MAX_BODY,
    Answer,
    HttpExchange,
    converse,
    open_exchange,
    read_body,
    read_outcome,
)

OK = b'{"jsonrpc":"2.0","id":"i","result":{"a":1}}'
HEADERS = [(b"content-type", b"application/json")]


class Wire(httpcore2.AsyncNetworkStream):
    """One connection: answers with `chunks`, remembers what was written; an exception among the chunks is raised."""

    def __init__(self, chunks: Iterable[bytes | Exception]) -> None:
        self.chunks = list(chunks)
        self.written = b""
        self.closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise httpcore2.ReadError("closed")
        if not self.chunks:
            await trio.sleep_forever()
        chunk = self.chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await trio.lowlevel.checkpoint()
        self.written += buffer

    async def aclose(self) -> None:
        self.closed = True

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


class Network(httpcore2.AsyncNetworkBackend):
    def __init__(self, *wires: Wire | Exception) -> None:
        self.wires = list(wires)
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> httpcore2.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        self.connected.append((host, port))
        wire = self.wires.pop(0)
        if isinstance(wire, Exception):
            raise wire
        return wire


@asynccontextmanager
async def over(*wires: Wire | Exception, url: str = "http://up.example.com/mcp?a=b") -> AsyncIterator[HttpExchange]:
    async with httpcore2.AsyncConnectionPool(network_backend=Network(*wires)) as pool:
        yield HttpExchange(url, pool)


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    fields = "".join(f"{header}\r\n" for header in ("content-type: application/json", *headers))
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{fields}\r\n".encode() + body


async def ignore(message: Message) -> None:
    await trio.lowlevel.checkpoint()


async def test_a_request_says_where_it_goes_and_asks_for_no_compression() -> None:
    wire = Wire([http(OK)])
    async with over(wire) as exchange:
        outcome = await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert outcome == Success("i", {"a": 1})
    head, _, body = wire.written.partition(b"\r\n\r\n")
    assert head.lower().split(b"\r\n") == [
        b"post /mcp?a=b http/1.1",
        b"host: up.example.com",
        b"accept-encoding: identity",
        b"content-length: 2",
        b"content-type: application/json",
    ]
    assert body == b"{}"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://up.example.com:8080/mcp", b"up.example.com:8080"),
        ("http://[2001:db8::1]:81/mcp", b"[2001:db8::1]:81"),
        ("http://[2001:db8::1]/", b"[2001:db8::1]"),
    ],
)
async def test_the_host_header_names_the_upstream(url: str, host: bytes) -> None:
    wire = Wire([http(OK)])
    async with over(wire, url=url) as exchange:
        await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert b"\r\nhost: " + host + b"\r\n" in wire.written.lower()


@pytest.mark.parametrize(("keepalive_expiry", "is_closed"), [(0.0, True), (600.0, False)])
async def test_a_connection_that_nobody_uses_is_closed_without_a_next_request(
    keepalive_expiry: float, is_closed: bool
) -> None:
    wire = Wire([http(OK)])
    network = Network(wire, Wire([http(OK)]))
    async with httpcore2.AsyncConnectionPool(network_backend=network, keepalive_expiry=keepalive_expiry) as pool:
        exchange = HttpExchange("http://up.example.com/mcp", pool)
        await converse(exchange, HEADERS, b"{}", "i", ignore)
        await exchange.let_go()
        assert wire.closed is is_closed
        if is_closed:
            await converse(exchange, HEADERS, b"{}", "i", ignore)


async def test_cookies_are_neither_kept_nor_sent() -> None:
    wire = Wire([http(OK, "set-cookie: session=alice; Path=/"), http(OK)])
    async with over(wire) as exchange:
        await converse(exchange, HEADERS, b"{}", "i", ignore)
        await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert b"cookie" not in wire.written.lower()
    assert wire.written.count(b"POST") == 2, "the connection is used again"


async def test_a_redirect_is_not_followed() -> None:
    wire = Wire([http(b"", "location: http://169.254.169.254/", status="307 Temporary Redirect")])
    async with over(wire) as exchange:
        with pytest.raises(UpstreamRefused, match="HTTP 307 Temporary Redirect: it redirects") as refused:
            await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert refused.value.status == 307


@pytest.mark.requirement("AF4")
@pytest.mark.parametrize(
    ("wire", "words", "executed"),
    [
        (httpcore2.ConnectError("refused"), r"cannot connect \(refused\)", False),
        (httpcore2.ConnectTimeout(), r"cannot connect in time \(ConnectTimeout\)", False),
        (Wire([b""]), "broke off or does not speak HTTP", True),
        (Wire([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"]), "broke off or does not speak HTTP", True),
        (Wire([http(OK)[:-5], b""]), "broke off or does not speak HTTP", True),
        (Wire([httpcore2.ReadError("reset")]), r"connection lost \(reset\)", True),
        (Wire([http(OK)[:-5], httpcore2.ReadError("reset")]), r"connection lost \(reset\)", True),
    ],
)
async def test_a_broken_connection_is_said_in_words(wire: Wire | Exception, words: str, executed: bool) -> None:
    async with over(wire) as exchange:
        with pytest.raises(UpstreamLost, match=words) as lost:
            await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert lost.value.executed is executed


async def test_cancelling_closes_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for chunks in ([], [stream], [stream, b"8\r\n: hello\n\r\n"]):
        wire = Wire(chunks)
        async with over(wire) as exchange:
            with trio.move_on_after(3) as scope:
                await converse(exchange, HEADERS, b"{}", "i", ignore)
            assert scope.cancelled_caught
            assert wire.closed


async def test_a_stream_that_goes_on_after_its_answer_is_left(autojump_clock: trio.testing.MockClock) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    wire = Wire([head, b"data: " + OK + b"\n\n", b"data: {garbage\n\n", b": ping\n\n"])
    async with over(wire) as exchange:
        outcome = await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert outcome == Success("i", {"a": 1})
    assert wire.closed
    assert trio.current_time() < 0.1


async def test_a_stream_that_ends_with_its_answer_leaves_the_connection_usable() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b"data: " + OK + b"\n\n"
    wire = Wire([head, b"%x\r\n" % len(event) + event + b"\r\n", b"0\r\n\r\n", http(OK)])
    async with over(wire) as exchange:
        await converse(exchange, HEADERS, b"{}", "i", ignore)
        await converse(exchange, HEADERS, b"{}", "i", ignore)
    assert wire.written.count(b"POST") == 2


class Pieces:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def answer(*chunks: bytes, status: int = 200, kind: str = "application/json", more: Any = ()) -> Answer:
    return Answer(status, {"content-type": kind, **dict(more)}, Pieces(chunks))


async def test_an_answer_in_the_same_chunk_as_what_follows_it_counts() -> None:
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    before = b'data: {"jsonrpc":"2.0","method":"a"}\n\n'
    chunk = b"data:\n\n" + before + b"data: " + OK + b"\n\n" + before + b"data: {garbage\n\n"
    assert await read_outcome(answer(chunk, kind="text/event-stream; charset=utf-8"), "i", hear) == Success(
        "i", {"a": 1}
    )
    assert heard == [Notice("a", {})], "nothing is passed on after the answer"


async def test_only_the_own_answer_counts() -> None:
    foreign = b'data: {"jsonrpc":"2.0","id":%s,"result":{"stolen":1}}\n\n'
    stream = b"".join(foreign % id for id in (b'"j"', b"1", b'"I"'))
    outcome = await read_outcome(answer(stream, b"data: " + OK + b"\n\n", kind="text/event-stream"), "i", ignore)
    assert outcome == Success("i", {"a": 1})


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
async def test_a_refusal_with_a_json_rpc_error_of_ours_is_that_error(status: int) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": "i", "error": {"code": 5, "message": "m", "data": [1]}}).encode()
    outcome = await read_outcome(answer(body, status=status), "i", ignore)
    assert not isinstance(outcome, Success)
    assert outcome.error == {"code": 5, "message": "m", "data": [1]}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503, 599])
async def test_a_refusal_with_another_body_never_shows_it(status: int) -> None:
    for body in (b"<h1>secret", b'{"secret": 1}', b'{"jsonrpc":"2.0","id":"j","error":{"code":1,"message":"secret"}}'):
        with pytest.raises(UpstreamRefused, match=f"HTTP {status}") as refused:
            await read_outcome(answer(body, status=status), "i", ignore)
        assert "secret" not in str(refused.value)
        assert refused.value.status == status


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("", None), ("soon", None), ("-1", None), ("٣", None), ("9" * 400, None)]
)
async def test_a_wish_to_wait_is_read_if_it_is_a_number(value: str, seconds: float | None) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await read_outcome(answer(status=503, more={"retry-after": value}), "i", ignore)
    assert refused.value.retry_after == seconds


async def test_bodies_are_bounded() -> None:
    with pytest.raises(UpstreamLost, match="more than 10 bytes"):
        await read_body(answer(b"123456", b"123456"), 10)
    assert await read_body(answer(b"123456", b"1234"), 10) == b"1234561234"
    endless = [b" " * 2**20] * (MAX_BODY // 2**20 + 1)
    with pytest.raises(UpstreamLost, match="more than"):
        await read_outcome(answer(*endless), "i", ignore)
    with pytest.raises(UpstreamLost, match="larger than"):
        await read_outcome(answer(b"data: ", *endless, kind="text/event-stream"), "i", ignore)
    with pytest.raises(UpstreamLost, match="larger than"):
        await read_outcome(answer(*[b"data: " + b"x" * 2**20 + b"\n"] * 17, kind="text/event-stream"), "i", ignore)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_answer_without_end_is_cut_off_and_its_connection_closed(kind: str) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\ndata: ".encode()
    wire = Wire([head, *[b"x" * 2**20] * (MAX_BODY // 2**20 + 2)])
    async with over(wire) as exchange:
        with pytest.raises(UpstreamLost, match="than 16777216 bytes"):
            await converse(exchange, HEADERS, b"{}", "i", ignore)
        assert wire.closed
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
async def test_a_compressed_answer_is_refused_unread(encoding: str) -> None:
    with pytest.raises(UpstreamLost, match="content-encoding"):
        await read_outcome(answer(b"\x1f\x8b", more={"content-encoding": encoding}), "i", ignore)


async def test_a_pool_opens_without_a_network() -> None:
    async with open_exchange("http://up.example.com/mcp", ssl.create_default_context(), connections=1) as exchange:
        assert "up.example.com" in repr(exchange)


async def test_an_answer_that_nobody_reads_is_left_in_good_order() -> None:
    stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x"
    accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    for response in (stream, accepted, http(OK), http(b"x" * 2**20)[:1000]):
        async with over(Wire([response]), Wire([http(OK)]), Wire([http(OK)])) as exchange:
            async with exchange.send("POST", HEADERS, b"{}") as left:
                assert left.status in (200, 202)
            with pytest.raises(KeyError):
                async with exchange.send("POST", HEADERS, b"{}") as left:
                    raise KeyError
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
