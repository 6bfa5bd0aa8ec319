"""Fetching from strangers, over real TLS on loopback: what is connected to, what is read, and when it stops."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from aggregator.errors import Unfetchable
from aggregator.protocol.learned_url import parse_learned_url
from aggregator.upstream.network.learned_http import CONNECTIONS, DEADLINE, LearnedHttp, is_json, open_learned_http
from aggregator.upstream.network.public_network import ATTEMPT_DEADLINE, CONNECT_DEADLINE, SystemResolver
from tests.fakes.https import Authority, make_authority, open_https_server

LIMIT = 16 * 1024


class Names:
    """A name server: each question takes the next answer, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


async def fetch(http: LearnedHttp, url: str) -> bytes:
    return (await http.fetch_json(parse_learned_url(url), limit=LIMIT)).body


async def refusal(http: LearnedHttp, url: str) -> str:
    with pytest.raises(Unfetchable) as caught:
        await fetch(http, url)
    return str(caught.value)


async def test_a_document_is_asked_for_by_its_name_and_without_anything_of_ours(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with open_https_server(authority, b'{"a": 1}') as server:
        server.answer(b'{"a": 1}', "set-cookie: a=b; Path=/")
        async with open_learned_http(authority.client_context(), allow_loopback=True) as http:
            for _ in range(2):
                assert await fetch(http, f"https://localhost:{server.port}/id.json?x=1") == b'{"a": 1}'
    assert server.sni == ["localhost", "localhost"]
    assert server.connections == 2
    for request in server.requests:
        first, *headers = request.strip().split("\r\n")
        assert first == "GET /id.json?x=1 HTTP/1.1"
        names = [header.partition(":")[0].lower() for header in headers]
        assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
        assert f"host: localhost:{server.port}" in headers


@pytest.mark.requirement("CI2")
async def test_loopback_is_refused_unless_it_is_allowed_and_called_by_its_name(authority: Authority) -> None:
    async with open_https_server(authority) as server:
        context = authority.client_context()
        names = Names(["127.0.0.1"])
        async with open_learned_http(context, ports={server.port}) as http:
            for host in ("localhost", "127.0.0.1"):
                assert "not on the public internet (loopback)" in await refusal(http, f"https://{host}:{server.port}/a")
        async with open_learned_http(context, allow_loopback=True, ports={server.port}, resolve=names) as http:
            words = await refusal(http, f"https://client.example:{server.port}/a")
            assert "client.example is 127.0.0.1" in words
            assert await fetch(http, f"https://localhost:{server.port}/a") == b"{}"
    assert server.connections == 1


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["93.184.216.34", "10.0.0.1"],
        ["2606:4700::1111", "fd00:ec2::254"],
        ["64:ff9b::169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
        ["127.0.0.1"],
    ],
)
async def test_a_name_with_one_address_inside_is_not_connected_to(addresses: list[str]) -> None:
    names = Names(addresses)
    async with open_learned_http(ssl.create_default_context(), resolve=names) as http:
        assert "not on the public internet" in await refusal(http, "https://client.example/a")
    assert names.asked == [("client.example", 443)]


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "[::1]", "[fd00:ec2::254]", "[::ffff:10.0.0.1]", "0.0.0.0"]
)
async def test_an_address_instead_of_a_name_is_checked_alike(host: str) -> None:
    async with open_learned_http(ssl.create_default_context(), allow_loopback=False) as http:
        assert "not on the public internet" in await refusal(http, f"https://{host}/a")


@pytest.mark.requirement("CI2")
async def test_a_name_is_resolved_once_and_the_checked_address_is_used(authority: Authority) -> None:
    """DNS rebinding: a name server that changes its mind is not asked again."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True, resolve=names) as http,
    ):
        assert await fetch(http, f"https://localhost:{server.port}/a") == b"{}"
        assert names.asked == [("localhost", server.port)]
        assert "10.0.0.1" in await refusal(http, f"https://localhost:{server.port}/a")


async def test_the_next_address_is_tried_where_the_first_does_not_answer(authority: Authority) -> None:
    names = Names(["::1", "127.0.0.1"])
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True, resolve=names) as http,
    ):
        assert await fetch(http, f"https://localhost:{server.port}/a") == b"{}"


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize("port", [22, 80, 8443, 6443])
async def test_only_the_usual_port_is_connected_to(port: int) -> None:
    names = Names(["93.184.216.34"])
    async with open_learned_http(ssl.create_default_context(), resolve=names) as http:
        assert f"at port {port}; allowed: 443" in await refusal(http, f"https://client.example:{port}/a")
    assert names.asked == []


async def test_a_certificate_of_nobody_we_trust_is_refused(authority: Authority) -> None:
    async with (
        open_https_server(authority) as server,
        open_learned_http(ssl.create_default_context(), allow_loopback=True) as http,
    ):
        assert "TLS certificate refused" in await refusal(http, f"https://localhost:{server.port}/a")
    assert server.requests == []


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(authority: Authority, status: str) -> None:
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        server.answer(b"{}", f"location: https://localhost:{server.port}/other", status=status)
        assert "redirects are not followed" in await refusal(http, f"https://localhost:{server.port}/a")
        assert len(server.requests) == 1


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    "status", ["201 Created", "204 No Content", "206 Partial", "304 Not Modified", "404 No", "500 X"]
)
async def test_only_200_is_an_answer(authority: Authority, status: str) -> None:
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        server.answer(b"" if status[:3] in ("204", "304") else b"{}", status=status)
        assert f"answered {status[:3]}" in await refusal(http, f"https://localhost:{server.port}/a")


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON", True),
        ("application/cimd+json", True),
        ("text/json", False),
        ("text/html", False),
        ("application/jsonp", False),
        ("application/javascript", False),
        ("image/svg+xml", False),
        ("", False),
    ],
)
async def test_the_content_type_says_json(authority: Authority, kind: str, taken: bool) -> None:
    assert is_json(kind.partition(";")[0].lower()) is taken
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        server.answer(b"{}", kind=kind)
        if taken:
            assert await fetch(http, f"https://localhost:{server.port}/a") == b"{}"
        else:
            assert "not JSON" in await refusal(http, f"https://localhost:{server.port}/a")


@pytest.mark.requirement("CI2")
async def test_reading_stops_at_the_limit(authority: Authority) -> None:
    """With and without a length, and with one that lies, a body is never read much beyond what it may have."""
    sent = 0

    async def pour(stream: trio.SSLStream[trio.SocketStream]) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await stream.send_all(b" " * 4096)
            sent += 4096

    async with (
        open_https_server(authority, b" " * LIMIT) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        url = f"https://localhost:{server.port}/a"
        assert len(await fetch(http, url)) == LIMIT
        server.answer(b" " * (LIMIT + 1))
        assert "more than 16384 bytes" in await refusal(http, url)
        server.behave = pour
        assert "more than 16384 bytes" in await refusal(http, url)
    assert sent < 16 * 2**20  # what the sockets' buffers take, not what a minute of pouring would be


async def test_a_compressed_answer_is_not_unpacked(authority: Authority) -> None:
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        server.answer(gzip.compress(b" " * 10_000_000), "content-encoding: gzip")
        assert "compressed" in await refusal(http, f"https://localhost:{server.port}/a")


async def test_garbage_and_a_hang_up_are_failures_like_others(authority: Authority) -> None:
    async def garbage(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"\x00\x01 not HTTP\r\n\r\n")

    async def hang_up(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")

    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        for server.behave in (garbage, hang_up):
            assert "cannot be fetched" in await refusal(http, f"https://localhost:{server.port}/a")


async def test_a_server_that_drips_is_left_after_ten_seconds(authority: Authority, autojump_clock: MockClock) -> None:
    async def drip(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await trio.sleep(1)
            await stream.send_all(b" ")

    # Real seconds: what stands still so long waits for time, not for sockets. Nothing here waits for a thread.
    autojump_clock.autojump_threshold = 0.2
    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True, resolve=Names(["127.0.0.1"])) as http,
    ):
        server.behave = drip
        began = trio.current_time()
        assert "within 10 seconds" in await refusal(http, f"https://localhost:{server.port}/a")
        assert trio.current_time() - began == pytest.approx(DEADLINE, abs=0.5)


async def test_a_name_server_that_is_silent_is_left_after_five_seconds(autojump_clock: MockClock) -> None:
    async def silent(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    async with open_learned_http(ssl.create_default_context(), resolve=silent) as http:
        assert "no connection within 5 seconds" in await refusal(http, "https://client.example/a")
    assert trio.current_time() == pytest.approx(CONNECT_DEADLINE)
    assert ATTEMPT_DEADLINE < CONNECT_DEADLINE < DEADLINE


@pytest.mark.parametrize("answer", [[], ["not an address"]])
async def test_a_name_that_is_no_address_is_a_failure(answer: list[str]) -> None:
    async with open_learned_http(ssl.create_default_context(), resolve=Names(answer)) as http:
        assert "client.example" in await refusal(http, "https://client.example/a")


async def test_a_name_that_cannot_be_encoded_is_a_failure() -> None:
    async with open_learned_http(ssl.create_default_context()) as http:
        assert "cannot be resolved" in await refusal(http, f"https://{'a' * 64}.example/a")


async def test_the_systems_resolver_gives_every_address_once() -> None:
    found = await SystemResolver()("localhost", 443)
    assert "127.0.0.1" in found or "::1" in found
    assert len(found) == len(set(found))


async def test_cancelling_a_fetch_gives_its_connection_back(authority: Authority) -> None:
    async def silence(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await trio.sleep_forever()

    async with (
        open_https_server(authority) as server,
        open_learned_http(authority.client_context(), allow_loopback=True) as http,
    ):
        url, answers, server.behave = f"https://localhost:{server.port}/a", server.behave, silence
        for _ in range(CONNECTIONS + 1):
            with trio.move_on_after(0.02):
                await fetch(http, url)
        server.behave = answers
        assert await fetch(http, url) == b"{}"
