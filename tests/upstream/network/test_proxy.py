"""What goes through `outbound.proxy`, what does not, and what is said when the proxy says no."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence

import pytest
import trio

from aggregator.config.model import Auth, Secret
from aggregator.errors import IdentityProviderUnavailable, Unfetchable, UpstreamLost
from aggregator.protocol.learned_url import parse_learned_url
from aggregator.upstream.http.exchange import open_exchange
from aggregator.upstream.identity.provider import CONNECTIONS, open_identity_provider
from aggregator.upstream.network.learned_http import open_learned_http
from aggregator.upstream.network.proxy import Proxy, open_tunnel, parse_proxy
from tests.fakes.http_proxy import HttpProxy, open_http_proxy
from tests.fakes.https import Authority, make_authority, open_https_server
from tests.parts.processes import PATIENCE, free_port

PUBLIC = "93.184.216.34"
AUTHORIZATION = "Basic YW5uOnBAc3M="  # ann:p@ss


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def through(proxy: HttpProxy, user: str = "") -> Proxy:
    made = parse_proxy(Secret(f"http://{user}127.0.0.1:{proxy.port}"))
    assert made is not None
    return made


async def post(url: str, context: ssl.SSLContext, proxy: Proxy | None) -> int:
    async with (
        open_exchange(url, context, proxy, connections=1) as exchange,
        exchange.send("POST", [(b"x-own", b"1")], b"{}") as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        ("mcp.example.com", True),
        ("10.0.0.1", True),
        ("2606:4700::1111", True),
        ("localhost.example.com", True),
        ("localhost", False),
        ("LOCALHOST.", False),
        ("a.localhost", False),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("[::1]", False),
    ],
)
def test_everything_but_this_computer_is_beyond_the_proxy(host: str, beyond: bool) -> None:
    assert Proxy("proxy", 3128).is_for(host) is beyond


def test_a_proxy_is_read_with_its_user_and_never_shows_them() -> None:
    assert parse_proxy(None) is None
    proxy = parse_proxy(Secret("http://ann:p%40ss@[2001:db8::1]:3128/"))
    assert proxy == Proxy("2001:db8::1", 3128, AUTHORIZATION.encode())
    assert proxy.name == "outbound.proxy [2001:db8::1]:3128"
    assert "YW5u" not in repr(proxy)
    assert "ann" not in repr(proxy)


async def test_an_upstream_is_reached_in_a_tunnel_that_sees_nothing_but_its_name(authority: Authority) -> None:
    async with open_https_server(authority) as server, open_http_proxy({"client.example:443": server.port}) as proxy:
        proxy.authorization = AUTHORIZATION
        url = "https://client.example/mcp"
        assert await post(url, authority.client_context(), through(proxy, "ann:p%40ss@")) == 200
    assert proxy.targets == ["client.example:443"]
    assert server.sni == ["client.example"]
    (request,) = server.requests
    assert request.startswith("POST /mcp HTTP/1.1\r\nhost: client.example\r\n")
    assert "proxy" not in request.lower()
    assert "x-own" not in "".join(proxy.heads)


async def test_plain_http_is_handed_to_the_proxy_as_a_whole_url() -> None:
    seen: list[str] = []

    async def serve(stream: trio.SocketStream) -> None:
        seen.append((await stream.receive_some()).decode())
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        hosts = {"up.example.com:8080": listeners[0].socket.getsockname()[1]}
        async with open_http_proxy(hosts) as proxy:
            proxy.authorization = AUTHORIZATION
            url = "http://up.example.com:8080/mcp"
            assert await post(url, ssl.create_default_context(), through(proxy, "ann:p%40ss@")) == 204
        nursery.cancel_scope.cancel()
    assert proxy.targets == ["http://up.example.com:8080/mcp"]
    assert "\r\nhost: up.example.com:8080\r\n" in seen[0]


async def test_loopback_is_reached_directly(authority: Authority) -> None:
    async with open_https_server(authority) as server, open_http_proxy() as proxy:
        context = authority.client_context()
        assert await post(f"https://localhost:{server.port}/mcp", context, through(proxy)) == 200
        async with open_learned_http(context, allow_loopback=True, proxy=through(proxy)) as http:
            url = parse_learned_url(f"https://localhost:{server.port}/id.json")
            assert (await http.fetch_json(url, limit=999)).body == b"{}"
        async with open_identity_provider(
            Auth(f"https://localhost:{server.port}"),
            "http://localhost/callback",
            ssl_context=context,
            proxy=through(proxy),
        ) as provider:
            with pytest.raises(IdentityProviderUnavailable, match="issuer"):
                await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 403 Forbidden by policy\r\n\r\n",
            "does not connect to client.example:443: 403 Forbidden by policy",
        ),
        (b"HTTP/1.1 407 Who\r\n\r\n", "wants a user and password"),
        (b"HTTP/1.1 502\r\n\r\n", "does not connect to client.example:443: 502"),
        (b"HTTP/1.1 302 Found\r\nlocation: https://login.example\r\n\r\n", "302 Found"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer as an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n", "does not answer as an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 9999, "does not answer as an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "something spoke before it was asked"),
        (b"", "does not answer as an HTTP proxy"),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_named_with_its_reason(answer: bytes, words: str) -> None:
    async with open_http_proxy() as proxy:
        proxy.answer = answer
        with pytest.raises(UpstreamLost, match="cannot connect") as lost:
            await post("https://client.example/mcp", ssl.create_default_context(), through(proxy))
    assert words in str(lost.value)
    assert f"outbound.proxy 127.0.0.1:{proxy.port}" in str(lost.value)
    assert not lost.value.executed


async def test_a_password_that_the_proxy_refuses_is_not_told() -> None:
    async with open_http_proxy() as proxy:
        proxy.authorization = "Basic other"
        with pytest.raises(UpstreamLost, match="refuses the user and password it was given") as lost:
            await post("https://client.example/mcp", ssl.create_default_context(), through(proxy, "ann:hunter2@"))
    assert "hunter2" not in str(lost.value)


async def test_a_proxy_that_is_not_there_is_named() -> None:
    gone = Proxy("127.0.0.1", free_port())
    with pytest.raises(UpstreamLost, match=rf"outbound\.proxy 127.0.0.1:{gone.port}: Connection refused"):
        await post("https://client.example/mcp", ssl.create_default_context(), gone)


async def test_a_tunnel_that_is_given_up_leaves_no_connection() -> None:
    async def swallow(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        asked.set()
        assert await stream.receive_some() == b""
        ended.set()

    asked, ended = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, swallow, listeners)
        proxy = Proxy("127.0.0.1", listeners[0].socket.getsockname()[1])
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as caller:
                caller.start_soon(open_tunnel, proxy, "client.example", 443)
                await asked.wait()
                caller.cancel_scope.cancel("given up")
            await ended.wait()
        nursery.cancel_scope.cancel()


class Names:
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return self.addresses


@pytest.mark.requirement("UP8")
async def test_a_learned_host_is_checked_before_the_proxy_hears_of_it_and_reached_by_its_address(
    authority: Authority,
) -> None:
    async with (
        open_https_server(authority, b'{"a": 1}') as server,
        open_http_proxy({f"{PUBLIC}:443": server.port}) as proxy,
    ):
        url, context = parse_learned_url("https://client.example/id.json"), authority.client_context()
        async with open_learned_http(context, resolve=Names(PUBLIC), proxy=through(proxy)) as http:
            assert (await http.fetch_json(url, limit=999)).body == b'{"a": 1}'
        assert proxy.targets == [f"{PUBLIC}:443"]
        assert server.sni == ["client.example"]
        assert "\r\nhost: client.example\r\n" in server.requests[0]
        for inside in ("169.254.169.254", "10.0.0.1", "127.0.0.1"):
            async with open_learned_http(context, resolve=Names(PUBLIC, inside), proxy=through(proxy)) as http:
                with pytest.raises(Unfetchable, match="not on the public internet"):
                    await http.fetch_json(url, limit=999)
    assert len(proxy.heads) == 1


async def test_a_learned_host_that_the_proxy_refuses_is_unfetchable() -> None:
    async with (
        open_http_proxy() as proxy,
        open_learned_http(ssl.create_default_context(), resolve=Names(PUBLIC), proxy=through(proxy)) as http,
    ):
        with pytest.raises(Unfetchable, match=f"does not connect to {PUBLIC}:443: 502 Bad Gateway"):
            await http.fetch_json(parse_learned_url("https://client.example/a"), limit=999)


async def test_the_identity_provider_is_reached_through_the_proxy_after_any_number_of_failures(
    authority: Authority,
) -> None:
    """Failures behind the proxy take no place for ever (httpcore2's own tunnels would)."""
    issuer = "https://client.example"
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    async with (
        open_https_server(authority, json.dumps(document).encode()) as server,
        open_http_proxy({"client.example:443": free_port()}) as proxy,
        open_identity_provider(
            Auth(issuer),
            "http://localhost/callback",
            ssl_context=authority.client_context(),
            proxy=through(proxy),
        ) as provider,
    ):
        proxy.answer = b"HTTP/1.1 200 OK\r\n\r\n"  # a tunnel that ends before TLS has begun
        for _ in range(CONNECTIONS + 1):
            with pytest.raises(IdentityProviderUnavailable, match=r"identity provider https://client\.example: "):
                await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
        proxy.answer, proxy.hosts = None, {"client.example:443": server.port}
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    url = await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
                    break
                except IdentityProviderUnavailable:
                    await trio.sleep(0.1)
    assert url.startswith("https://client.example/authorize?")
    assert set(proxy.targets) == {"client.example:443"}
