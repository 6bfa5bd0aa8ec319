"""The two ways to authorization servers, over real sockets and TLS on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest
import trio

from aggregator.errors import ConnectFailed
from aggregator.protocol.brokering.reach import Reach
from aggregator.upstream.oauth.http import open_oauth_http
from tests.fakes.https import Authority, make_authority, open_https_server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


async def inside(host: str, port: int) -> Sequence[str]:
    await trio.lowlevel.checkpoint()
    return ["10.0.0.1"]


PUBLIC = Reach(("https://mcp.example/mcp",))


@pytest.mark.requirement("UP8")
async def test_a_strangers_name_that_is_inside_is_not_connected_to(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context()
    async with open_oauth_http(context, context, resolve=inside) as http:
        with pytest.raises(ConnectFailed) as caught:
            await http.get(PUBLIC, "https://as.example/.well-known/oauth-authorization-server", {})
    assert caught.value.temporary
    assert "10.0.0.1" not in str(caught.value)  # the cause is for the log alone
    assert "as.example is 10.0.0.1" in caplog.text


@pytest.mark.requirement("UP8")
@pytest.mark.parametrize("url", ["https://127.0.0.1/x", "https://localhost/x", "https://as.example:8443/x"])
async def test_neither_this_computer_nor_another_port_is_open_to_strangers(url: str) -> None:
    context = ssl.create_default_context()
    async with open_oauth_http(context, context, resolve=inside) as http:
        with pytest.raises(ConnectFailed, match="cannot be reached now"):
            await http.get(PUBLIC, url, {})


@pytest.mark.requirement("UP9")
async def test_a_certificate_is_verified_by_the_authorities_of_its_way(authority: Authority) -> None:
    """The operator's own authority vouches for what they configured, and for no stranger."""
    async with open_https_server(authority, b'{"a": 1}') as server:
        url = f"https://localhost:{server.port}/x"
        own, system = authority.client_context(), ssl.create_default_context()
        async with open_oauth_http(system, own) as http:
            found = await http.get(Reach((url,)), url, {"accept": "application/json"})
            assert (found.status, found.body) == (200, b'{"a": 1}')
        async with open_oauth_http(own, system) as http:
            with pytest.raises(ConnectFailed):
                await http.get(Reach((url,)), url, {})
    assert len(server.requests) == 1


async def test_a_redirect_is_an_answer_like_any_other(authority: Authority) -> None:
    async with open_https_server(authority) as server:
        server.answer(b"", "location: http://169.254.169.254/", status="302 Found")
        url = f"https://localhost:{server.port}/x"
        async with open_oauth_http(ssl.create_default_context(), authority.client_context()) as http:
            answer = await http.post_form(Reach((url,)), url, {}, {"grant_type": "refresh_token"})
    assert answer.status == 302
    assert server.connections == 1
