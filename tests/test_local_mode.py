"""Local mode as a whole, over real sockets: one person on one machine."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from aggregator import serve
from aggregator.config.model import AnyUpstream, ConnectRetry, Listen, LocalConfig, Secret, StdioUpstream
from aggregator.serving import CannotListen, listen
from aggregator.systemd import Service
from tests.parts.processes import LOOK_AGAIN, PATIENCE

from .live.asking import LEGACY, MODERN, Asking, text_of

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent / "fakes" / "stdio_server.py")
TOKEN = "3f1c9a0d5e7b42861f0e9d8c7b6a5948"


def command(name: str, *arguments: str) -> StdioUpstream:
    argv = (sys.executable, "-I", "-S", SCRIPT, *arguments)
    return StdioUpstream(name=name, prefix=name, command=argv, discovery_timeout=PATIENCE)


def config(*upstreams: AnyUpstream, **more: Any) -> LocalConfig:
    fields: dict[str, Any] = {
        "auth": None,
        "upstreams": upstreams or (command("good", "modern"),),
        "issuer_url": "http://localhost:0",
        "host": "127.0.0.1",
        "port": 0,
        **more,
    }
    return LocalConfig(**fields)


@asynccontextmanager
async def served(settings: LocalConfig) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, settings)
        yield address
        nursery.cancel_scope.cancel()


async def test_the_log_says_in_words_for_one_person_what_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aggregator.assembly.ground")
    file = str(tmp_path / "local.sqlite")
    for storage in ("memory", file):
        async with served(config(storage=storage)):
            pass
    memory, kept = [record.getMessage() for record in caplog.records if record.name == "aggregator.assembly.ground"]
    assert (
        memory == "logins to upstreams are kept in memory, until the end: set 'storage' to a file to keep them longer"
    )
    assert kept == f"logins to upstreams are kept in {file}, encrypted"


async def test_another_key_than_before_is_told_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        async with served(config(storage=str(tmp_path / "local.sqlite"))):
            pass
        (tmp_path / "local.key").unlink()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "put the key back, or log in again: mcp-aggregator login" in told


@asynccontextmanager
async def asking(address: str, revision: str = MODERN, token: str = "none") -> AsyncIterator[Asking]:
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        client = Asking(f"{address}/mcp", token, http, revision)
        if revision == LEGACY:
            await client.initialize()
        yield client


def visiting() -> httpx2.AsyncClient:
    """A browser, but for cookies of its own making."""
    return httpx2.AsyncClient(trust_env=False, follow_redirects=True, timeout=PATIENCE)


async def wait_listed(client: Asking) -> None:
    """A list waits a moment only for programs that start, and a machine may be slower."""
    with trio.fail_after(PATIENCE):
        while "good__echo" not in await client.tools():  # noqa: ASYNC110 - over HTTP
            await trio.sleep(LOOK_AGAIN)


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_whoever_is_on_the_machine_calls_tools_without_a_login(revision: str) -> None:
    async with served(config()) as address, asking(address, revision) as client:
        await wait_listed(client)
        assert text_of(await client.call("good__echo", text="hello")) == "hello"


async def test_a_program_has_as_long_to_answer_as_is_configured() -> None:
    mute = StdioUpstream(name="mute", prefix="mute", command=("sleep", "600"))
    retry = ConnectRetry(enabled=False, attempt_timeout=0.5)
    async with served(config(mute, connect_retry=retry)) as address, asking(address) as client:
        await client.tools()
        with trio.fail_after(PATIENCE):
            while (error := (await client.status())["mute"]["lastError"]) is None:  # noqa: ASYNC110 - over HTTP
                await trio.sleep(0.2)  # its end takes some seconds
        assert error.startswith("did not answer the handshake within 0.5 s; ask again in "), error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example", "origin": "http://evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_a_page_of_a_foreign_name_reaches_nothing(headers: dict[str, str], status: int) -> None:
    async with served(config()) as address, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        answer = await http.post(f"{address}/mcp", content="{}", headers=headers)
        assert answer.status_code == status


async def test_who_has_the_token_may_come_in_and_nobody_else() -> None:
    async with served(config(listen=Listen(token=Secret(TOKEN)))) as address:
        async with asking(address, token=TOKEN) as client:
            await wait_listed(client)
        async with asking(address, token=TOKEN[::-1]) as client:
            answer = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}})
            assert answer.status_code == 401
            assert TOKEN not in answer.text


async def test_there_is_no_authorization_server() -> None:
    async with served(config()) as address, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        for path in ("/authorize", "/token", "/register", "/.well-known/oauth-protected-resource/mcp"):
            assert (await http.get(f"{address}{path}")).status_code == 404, path
        page = await http.get(f"{address}/", headers={"accept": "text/html"}, follow_redirects=True)
        assert (page.status_code, page.url.host) == (200, "localhost")
        assert "/clients" not in page.text


async def test_a_browser_sees_its_connections_without_a_login() -> None:
    async with served(config()) as address, visiting() as http:
        page = await http.get(f"{address.replace('127.0.0.1', 'localhost')}/connections")
        assert page.status_code == 200
        assert "good" in page.text


async def test_a_browser_shows_the_token_once_where_there_is_one() -> None:
    async with (
        served(config(listen=Listen(token=Secret(TOKEN)))) as address,
        visiting() as http,
    ):
        home = address.replace("127.0.0.1", "localhost")
        page = await http.get(f"{home}/connections")
        assert "Show the token" in page.text
        found = re.search(r'name="state" value="([^"]+)"', page.text)
        assert found is not None
        wrong = await http.post(f"{home}/listen-token", data={"state": found[1], "token": "wrong"})
        assert wrong.status_code == 403
        page = await http.post(f"{home}/listen-token", data={"state": found[1], "token": TOKEN})
        assert (page.status_code, page.url.path) == (200, "/connections")
        foreign = {"state": found[1], "token": TOKEN}
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as another:
            assert (await another.post(f"{home}/listen-token", data=foreign)).status_code == 403


async def test_the_endpoint_stands_where_the_file_says() -> None:
    async with (
        served(config(listen=Listen(path="/tools/"))) as address,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
    ):
        client = Asking(f"{address}/tools/", "none", http)
        await wait_listed(client)
        assert (await http.post(f"{address}/mcp", content="{}")).status_code == 404
        browser = await http.get(f"{address}/tools/", headers={"accept": "text/html"})
        assert browser.headers["location"] == "/"


async def test_a_socket_that_other_machines_reach_is_refused_at_the_bind(tmp_path: Path) -> None:
    storage = str(tmp_path / "local.sqlite")
    with pytest.raises(CannotListen, match=r"lets other machines in.*listen\.token"):
        await serve(config(host="0.0.0.0", storage=storage))
    assert not await trio.Path(storage).exists(), "nothing else was opened"
    async with served(config(host="0.0.0.0", listen=Listen(allow_unauthenticated=True))) as address:
        assert address.startswith("http://0.0.0.0:")


async def test_what_is_remembered_outlives_a_restart(tmp_path: Path) -> None:
    """The session of a client was sealed by the process before."""
    settings = config(storage=str(tmp_path / "state" / "local.sqlite"))
    async with served(settings) as address, asking(address, LEGACY) as client:
        session = client.session
    assert await trio.Path(tmp_path / "state" / "local.key").exists()
    async with served(settings) as address, httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        client = Asking(f"{address}/mcp", "none", http, LEGACY, session)
        await wait_listed(client)


@asynccontextmanager
async def asking_at(path: str) -> AsyncIterator[Asking]:
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=path), timeout=PATIENCE) as http:
        yield Asking("http://localhost/mcp", "none", http)


async def test_a_unix_socket_is_served_to_its_owner_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        settings = config(listen=Listen(socket=str(path)), issuer_url="http://localhost")
        (address,) = await nursery.start(serve, settings)
        assert address == f"unix:{path}"
        async with asking_at(str(path)) as client:
            assert text_of(await client.call("good__echo", text="hello")) == "hello"
        nursery.cancel_scope.cancel()
    assert not await trio.Path(path).exists()


async def wait_told(manager: socket.socket, wanted: str) -> str:
    """The first of what the service says that begins so."""
    with trio.fail_after(PATIENCE):
        while True:
            await trio.lowlevel.wait_readable(manager)
            if (told := manager.recv(4096).decode()).startswith(wanted):
                return told


async def test_a_socket_that_is_passed_to_us_counts_and_not_the_files(tmp_path: Path) -> None:
    passed = listen("127.0.0.1", 0)
    port = passed[0].getsockname()[1]
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        service = Service({"NOTIFY_SOCKET": str(path)})
        shutdown = trio.Event()
        settings = config(listen=Listen(socket=str(tmp_path / "x.sock")), issuer_url="http://localhost", drain=1.0)
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(
                partial(serve, settings, passed=passed, service=service, shutdown=shutdown)
            )
            assert address == f"http://127.0.0.1:{port}"
            assert not await trio.Path(tmp_path / "x.sock").exists()
            async with asking(address) as client:
                await wait_listed(client)
            assert await wait_told(manager, "READY=1")
            assert await wait_told(manager, "STATUS=1 of 1 upstreams, ")
            shutdown.set()
        assert await wait_told(manager, "STOPPING=1")
