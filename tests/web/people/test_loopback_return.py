"""The port that a pre-registered client's logins come back to: open for a login, leading on, believing nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from aggregator.errors import ConnectFailed
from aggregator.web.people.loopback_return import READ_WITHIN, LoopbackReturns, is_loopback_return

pytestmark = pytest.mark.live

PAGE = "http://localhost:8080/upstream-auth/callback/mail"


@pytest.fixture
async def returns(nursery: trio.Nursery) -> LoopbackReturns:
    opened = LoopbackReturns()
    nursery.start_soon(opened.run)
    await trio.testing.wait_all_tasks_blocked()
    return opened


async def send(port: int, target: str, *, host: str | None = None, method: str = "GET") -> str:
    """The whole answer."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        head = f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n\r\n"
        await stream.send_all(head.encode())
        answer = b""
        with trio.fail_after(120):
            while chunk := await stream.receive_some():
                answer += chunk
    return answer.decode()


def port_of(uri: str) -> int:
    port = urlsplit(uri).port
    assert port is not None
    return port


async def test_it_leads_the_browser_on_with_all_that_it_brought(returns: LoopbackReturns) -> None:
    uri = await returns.expect("s1", 0, PAGE)
    assert is_loopback_return(uri)
    answer = await send(port_of(uri), "/callback?code=a%2Bb&state=s1&iss=https%3A%2F%2Fas.example")
    assert answer.startswith("HTTP/1.1 200")
    assert f"refresh: 0;url={PAGE}?code=a%2Bb&state=s1&iss=https%3A%2F%2Fas.example\r\n" in answer
    assert "code=" not in answer.partition("\r\n\r\n")[2]
    assert "referrer-policy: no-referrer" in answer


@pytest.mark.parametrize(
    ("target", "changes", "status"),
    [
        ("/callback?code=c&state=other", {}, "400"),
        ("/callback?error=x", {}, "400"),
        ("/callback?code=c&state=s1&state=s1", {}, "400"),
        ("/?code=c&state=s1", {}, "404"),
        ("/callback?code=c&state=s1", {"method": "POST"}, "404"),
        ("/callback?code=c&state=s1", {"host": "evil.example"}, "421"),
    ],
)
async def test_what_belongs_to_no_login_ends_none(
    returns: LoopbackReturns, target: str, changes: dict[str, str], status: str
) -> None:
    port = port_of(await returns.expect("s1", 0, PAGE))
    answer = await send(port, target, **changes)
    assert answer.startswith(f"HTTP/1.1 {status}")
    assert "refresh" not in answer
    assert (await send(port, "/callback?code=c&state=s1")).startswith("HTTP/1.1 200")


async def test_logins_share_a_port_which_closes_after_the_last(returns: LoopbackReturns) -> None:
    port = port_of(await returns.expect("s1", 0, PAGE))
    assert port_of(await returns.expect("s2", 0, PAGE)) == port
    returns.forget("s1")
    assert (await send(port, "/callback?code=c&state=s2")).startswith("HTTP/1.1 200")
    returns.forget("s2")
    returns.forget("never known")
    await trio.testing.wait_all_tasks_blocked(0.05)
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_port_may_be_opened_again_the_moment_it_closes(returns: LoopbackReturns) -> None:
    port = port_of(await returns.expect("s1", 0, PAGE))
    returns.forget("s1")
    await trio.testing.wait_all_tasks_blocked(0.05)
    for number in range(3):
        assert port_of(await returns.expect(f"t{number}", port, PAGE)) == port
        returns.forget(f"t{number}")


async def test_a_port_that_somebody_else_has_is_said_to_be_taken(returns: LoopbackReturns) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        port = taken.socket.getsockname()[1]
        with pytest.raises(ConnectFailed, match=f"port {port}.* is taken by another program"):
            await returns.expect("s1", port, PAGE)


async def test_what_speaks_no_http_is_let_go(returns: LoopbackReturns) -> None:
    port = port_of(await returns.expect("s1", 0, PAGE))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"\x16\x03\x01 hello\r\n\r\n")
        with trio.fail_after(READ_WITHIN):
            assert await stream.receive_some() == b""


async def test_nobody_comes_back_before_it_runs() -> None:
    with pytest.raises(ConnectFailed):
        await LoopbackReturns().expect("s1", 0, PAGE)


@pytest.mark.parametrize(
    "uri", ["http://localhost:1/callback", "http://127.0.0.1/callback", "http://127.0.0.1:1/callback/x", PAGE]
)
def test_only_its_own_addresses_are_taken_for_its_own(uri: str) -> None:
    assert not is_loopback_return(uri)
