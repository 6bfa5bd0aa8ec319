"""The aggregator on https: a login's metadata, MCP calls, and the edge that holds in clear text as well."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import httpx2
import pytest
import trio

from aggregator.config.model import Tls
from aggregator.server import serve
from tests.fakes.https import Authority, make_authority
from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers import open_everything

from .asking import Asking, bearer_for, text_of
from .deployment import config_of
from .oracle import assert_healthy
from .own_process import configuration, open_own_process, stop

pytestmark = pytest.mark.live


@asynccontextmanager
async def open_https(authority: Authority, upstreams: dict[str, str]) -> AsyncIterator[str]:
    port = free_port()
    config = config_of(
        "http://127.0.0.1:9",
        port,
        upstreams,
        issuer_url=f"https://127.0.0.1:{port}",
        tls=Tls(str(authority.chain), str(authority.key)),
    )
    async with trio.open_nursery() as nursery:
        addresses: list[str] = await nursery.start(serve_reporting, config)
        assert addresses == [f"https://127.0.0.1:{port}"]
        yield addresses[0]
        await assert_healthy(addresses[0])
        nursery.cancel_scope.cancel()


async def serve_reporting(
    config: object, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
) -> None:
    await serve(config, task_status=task_status)  # type: ignore[arg-type]


async def test_mcp_is_spoken_over_tls(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with open_everything() as everything, open_https(authority, {"everything": everything}) as url:
        async with httpx2.AsyncClient(trust_env=False, verify=authority.client_context(), timeout=PATIENCE) as http:
            asking = Asking(f"{url}/mcp", bearer_for(url), http)
            assert text_of(await asking.call("everything__echo", message="hi")) == "Echo: hi"
            metadata = (await http.get(f"{url}/.well-known/oauth-authorization-server")).json()
            assert metadata["token_endpoint"] == f"{url}/token"
            # An answer that comes before the body has been read reaches its client over TLS as well.
            early = await http.post(f"{url}/mcp", content=b"x" * 12_000_000, headers={"authorization": "Bearer no"})
            assert early.status_code in (401, 413)
        with pytest.raises(httpx2.HTTPError):
            async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
                await http.get(url.replace("https", "http"))


async def test_readers_who_stall_over_tls_hold_up_nobody(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with open_https(authority, {"nowhere": "http://127.0.0.1:9/mcp"}) as url:
        port = int(url.rpartition(":")[2])
        stalled = await trio.to_thread.run_sync(stall, authority, port)
        async with httpx2.AsyncClient(trust_env=False, verify=authority.client_context(), timeout=PATIENCE) as http:
            took = []
            for _ in range(20):
                begun = time.monotonic()
                assert (await http.get(f"{url}/healthz")).status_code == 200
                took.append(time.monotonic() - begun)
            assert median(took) < 5, "whoever waits for them waits longer"
        begun = time.monotonic()
    assert time.monotonic() - begun < PATIENCE  # cancelled while they stall, it ends
    for client in stalled:
        client.close()


def stall(authority: Authority, port: int) -> list[socket.socket]:
    """Ten who ask for much and read nothing, and ten who never shake hands."""
    context = authority.client_context()
    stalled: list[socket.socket] = []
    for _ in range(10):
        bare = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client = context.wrap_socket(bare, server_hostname="127.0.0.1")
        client.settimeout(0.2)
        try:
            for _ in range(3000):
                client.sendall(b"GET /style.css HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        except (TimeoutError, ssl.SSLError, OSError):
            pass
        stalled += [client, socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)]
    return stalled


async def test_serve_names_its_https_url_and_a_bad_file_ends_it_with_78(tmp_path: Path) -> None:
    authority, port = make_authority(tmp_path), free_port()
    tls = {"certFile": str(authority.chain), "keyFile": str(authority.key)}
    written = configuration("http://127.0.0.1:9", port, {"nowhere": "http://127.0.0.1:9/mcp"}, tls=tls)
    written["issuerUrl"] = f"https://127.0.0.1:{port}"
    async with open_own_process("serve", written) as process:
        await process.wait_output(rf"https://127\.0\.0\.1:{port}/mcp on https://127\.0\.0\.1:{port}")
        assert await stop(process) == 0
    authority.key.write_text("nothing")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(written))
    command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(command, capture_stderr=True, check=False)
    assert ended.returncode == 78
    assert f"tls.keyFile: the file '{authority.key}' holds no private key" in ended.stderr.decode()
