"""What the bare server lets in and the guard refuses, with an answer that arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .starting import WAYS, Running, read_answer, start

pytestmark = pytest.mark.live

H2C = (
    b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
)
PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
TWO_FRAMINGS = (
    b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    b"2\r\nhi\r\n0\r\n\r\n"
)
OLD_CHUNKED = b"POST /x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
EXPECT = b"POST /x HTTP/1.1\r\nhost: x\r\nexpect: a-miracle\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
STRANGE_TARGETS = (
    "http://evil.example/mcp",
    "//mcp",
    "/a//b",
    "/a/../mcp",
    "/..",
    "/./mcp",
    "/a%2fb",
    "/a%5cb",
    "/mcp%00",
    "/%6dcp",
    "/a\\b",
    "*",
)


@pytest.fixture(scope="module")
def bare() -> Iterator[Running]:
    with start("bare") as running:
        yield running


@pytest.fixture(scope="module", params=WAYS)
def ours(request: pytest.FixtureRequest) -> Iterator[Running]:
    with start(request.param) as running:
        yield running


def status(answer: bytes) -> bytes:
    return answer[:12]


def test_bare_speaks_http_2_in_clear_text(bare: Running) -> None:
    with bare.connect() as client:
        client.sendall(H2C)
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
    with bare.connect() as client:
        client.sendall(PRIOR_KNOWLEDGE)
        assert client.recv(65536)[3:4] == b"\x04"  # a SETTINGS frame


def test_bare_takes_two_framings_and_unknown_expectations_and_any_target(bare: Running) -> None:
    for taken in (TWO_FRAMINGS, OLD_CHUNKED, EXPECT):
        assert status(bare.ask(taken)) == b"HTTP/1.1 200"
    for target in STRANGE_TARGETS:
        assert status(bare.get(target)) == b"HTTP/1.1 200"


def test_an_offer_of_h2c_is_answered_in_http_1(ours: Running) -> None:
    with ours.connect() as client:
        for _ in range(2):  # and the connection goes on
            client.sendall(H2C)
            assert status(read_answer(client)) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    ("request_", "expected", "says"),
    [
        (PRIOR_KNOWLEDGE, b"505", b"HTTP/1.1 only"),
        (TWO_FRAMINGS, b"400", b"exclude each other"),
        (OLD_CHUNKED, b"400", b"no Transfer-Encoding"),
        (EXPECT, b"417", b"100-continue"),
        (b"GET /x HTTP/1.1\r\n\r\n", b"400", b"HTTP/1.1 allows"),
        (b"nonsense\r\n\r\n", b"400", b"HTTP/1.1 allows"),
    ],
)
def test_a_head_we_do_not_take_is_refused_in_words(
    ours: Running, request_: bytes, expected: bytes, says: bytes
) -> None:
    answer = ours.ask(request_)
    assert answer[9:12] == expected
    assert says in answer
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("target", STRANGE_TARGETS)
def test_a_target_that_can_be_read_in_two_ways_is_refused(ours: Running, target: str) -> None:
    assert status(ours.get(target)) == b"HTTP/1.1 400"


def test_a_head_of_40_kilobytes_is_read_and_a_longer_one_is_refused_in_words(ours: Running) -> None:
    head = b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: %s\r\n\r\n"
    assert status(ours.ask(head % (b"a" * 40_000))) == b"HTTP/1.1 200"
    for much in (70_000, 100_000, 500_000):
        answer = ours.ask(head % (b"a" * much))
        assert status(answer) == b"HTTP/1.1 431"
        assert b"65536 bytes" in answer


def test_100_continue_is_still_honoured(ours: Running) -> None:
    with ours.connect() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert status(client.recv(65536)) == b"HTTP/1.1 100"
        client.sendall(b"hi")
        assert status(client.recv(65536)) == b"HTTP/1.1 200"


def test_the_server_does_not_name_its_software(ours: Running) -> None:
    assert b"server:" not in ours.get("/x")
