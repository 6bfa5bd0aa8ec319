"""What an operator does beside running servers: revoking, exchanging the secret's files. Real processes, one store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from aggregator.config.load import load_config
from aggregator.config.model import Config
from aggregator.config.secrets import new_secret
from aggregator.keys.deployment import LOOK_INTERVAL, make_key_ring
from aggregator.protocol.oauth.sealed import AccessToken, seal_access
from aggregator.protocol.oauth.site import SCOPE
from aggregator.protocol.principal import Principal, principal_of
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Grant
from aggregator.store.sqlite import open_sqlite_store
from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port, open_process

from .asking import MODERN, Asking, message
from .oracle import assert_healthy, assert_tells_no_secret

pytestmark = pytest.mark.live

NOBODY = "http://127.0.0.1:9"
ADA, BOB = (principal_of(NOBODY, subject) for subject in ("ada", "bob"))


class Site:
    """A deployment of several processes of one host: one configuration, one store, ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.issuer_url = "https://mcp.example"
        self.store = folder / "store.sqlite"
        self.secret_files = [folder / "new", folder / "old"]
        self.config = folder / "config.json"
        self.put_secrets(new_secret())

    def put_secrets(self, new: str, old: str | None = None) -> None:
        for file, text in zip(self.secret_files, (new, old or new), strict=True):
            waiting = file.with_suffix(".tmp")
            waiting.write_text(text)
            os.replace(waiting, file)

    def write_config(self, port: int) -> Path:
        path = self.folder / f"config-{port}.json"
        content = {
            "auth": {"issuer": NOBODY},
            "upstreams": [{"name": "gone", "url": f"{NOBODY}/mcp"}],
            "issuerUrl": self.issuer_url,
            "allowedHosts": [f"127.0.0.1:{port}"],
            "host": "127.0.0.1",
            "port": port,
            "storage": str(self.store),
            "secret": [{"file": str(file)} for file in self.secret_files],
        }
        path.write_text(json.dumps(content))
        self.config = path
        return path

    async def readiness(self, url: str) -> tuple[int, str]:
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            answer = await http.get(f"{url}/readyz")
            return answer.status_code, answer.text

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        whole = [sys.executable, "-m", "aggregator", *arguments, "-c", str(self.config)]
        return await trio.run_process(whole, capture_stdout=True, capture_stderr=True, check=False)

    @asynccontextmanager
    async def server(self) -> AsyncIterator[str]:
        """A server process; its URL. At the end of a block that did not fail: see `oracle`."""
        port = free_port()
        command = [sys.executable, "-m", "aggregator", "serve", "-c", str(self.write_config(port))]
        async with open_process("server", command) as process:
            await process.wait_listening(port)
            yield f"http://127.0.0.1:{port}"
            await assert_healthy(f"http://127.0.0.1:{port}")
            assert_tells_no_secret(process.output(), tuple(file.read_text().strip() for file in self.secret_files))

    async def add_grant(self, grant_id: str, person: Principal, keys: KeyRing) -> str:
        """A live grant, and an access token of it."""
        now = time.time()
        grant = Grant(
            *(grant_id, person, person.subject, f"client-{grant_id}", "A client", "http://127.0.0.1/cb", SCOPE),
            *(f"{self.issuer_url}/mcp", now, now + 3600),
            logged_in_at=now,
        )
        async with open_sqlite_store(str(self.store), keys) as store:
            assert await store.add_grant(grant)
        token = AccessToken(grant_id, grant.client, person, SCOPE, grant.resource, self.issuer_url, now + 900)
        return seal_access(keys, token, now=now)

    def key_ring(self) -> KeyRing:
        config = load_config(str(self.write_config(1))).config
        assert isinstance(config, Config)
        return make_key_ring(config)


async def status_at(url: str, token: str) -> int:
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        return (
            await Asking(f"{url}/mcp", token, http, MODERN).post(message("server/discover", {}, MODERN))
        ).status_code


async def wait_status(url: str, token: str, expected: int) -> None:
    """Until the server answers `expected`."""
    with trio.fail_after(PATIENCE):
        while await status_at(url, token) != expected:  # noqa: ASYNC110 - another process
            await trio.sleep(LOOK_AGAIN)


@pytest.mark.requirement("TK8")
async def test_what_is_revoked_beside_two_servers_is_refused_by_both(tmp_path: Path) -> None:
    site = Site(tmp_path)
    keys = site.key_ring()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(site.server()) for _ in range(2)]
        of_ada, of_bob = await site.add_grant("g1", ADA, keys), await site.add_grant("g2", BOB, keys)
        for server in servers:
            assert await status_at(server, of_ada) == await status_at(server, of_bob) == 200
        revoked = await site.command("revoke", "ada")
        assert revoked.returncode == 0, revoked.stderr
        assert b"of ada (subject ada)" in revoked.stdout
        async with trio.open_nursery() as nursery:
            for server in servers:
                # tests/web/oauth/test_revocations.py counts the seconds; the token would be good for minutes.
                nursery.start_soon(wait_status, server, of_ada, 401)
        for server in servers:
            assert await status_at(server, of_bob) == 200


async def test_secret_files_exchanged_under_two_servers_fail_nothing_until_a_key_is_dropped(tmp_path: Path) -> None:
    """The table of docs/operations.md: k1 k1 -> k1 k2 -> k2 k1 -> k2 k2."""
    site = Site(tmp_path)
    k1, k2 = new_secret(), new_secret()
    site.put_secrets(k1)
    settle = 3 * LOOK_INTERVAL
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(site.server()) for _ in range(2)]
        tokens = [await site.add_grant("g1", ADA, site.key_ring())]
        for number, secrets in enumerate([(k1, k2), (k2, k1)]):
            site.put_secrets(*secrets)
            until = trio.current_time() + settle
            while trio.current_time() < until:
                for server in servers:
                    for token in tokens:
                        assert await status_at(server, token) == 200
                await trio.sleep(0.3)
            tokens.append(await site.add_grant(f"s{number}", ADA, site.key_ring()))
        for server in servers:
            await wait_status(server, tokens[-1], 200)  # sealed with k2
        rekeyed = await site.command("rekey")
        assert rekeyed.returncode == 0, rekeyed.stderr
        site.put_secrets(k2)
        for server in servers:
            await wait_status(server, tokens[0], 401)
            assert await status_at(server, tokens[-1]) == 200


@pytest.mark.requirement("AF27")
async def test_a_server_with_another_secret_is_not_ready_and_the_one_before_it_is(tmp_path: Path) -> None:
    """The roll-out stands still."""
    site = Site(tmp_path)
    async with AsyncExitStack() as stack:
        right = await stack.enter_async_context(site.server())
        site.secret_files = [tmp_path / "other-new", tmp_path / "other-old"]
        site.put_secrets(new_secret())
        wrong = await stack.enter_async_context(site.server())
        assert await site.readiness(wrong) == (503, "another instance runs with another secret\n")
        assert await site.readiness(right) == (200, "ready\n")
