"""The aggregator as a whole: embedded, served, and refused when it cannot be."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
import trio
import trio.testing

from aggregator import Config, open_aggregator, serve
from aggregator.config.model import Auth, Secret, Upstream
from aggregator.config.secrets import derive_key
from aggregator.errors import StoreUnavailable
from aggregator.protocol.oauth.sealed import AccessToken, seal_access
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.server import EXIT_UNAVAILABLE, PURGE_INTERVAL, keep_purged, run, with_bound_port
from aggregator.store import Grant
from aggregator.store.sqlite import open_sqlite_store
from tests.parts.processes import PATIENCE, wait_until

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


def config(**more: Any) -> Config:
    fields: dict[str, Any] = {
        "auth": Auth(NOBODY),
        "upstreams": (Upstream("gone", f"{NOBODY}/mcp", prefix="gone"),),
        "issuer_url": "http://localhost:0",
        "host": "127.0.0.1",
        "port": 0,
        "secret": Secret("3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8"),
    }
    return Config(**{**fields, **more})


async def get(url: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        return await client.get(url, headers=headers)


@pytest.mark.live
async def test_serve_gives_the_bound_addresses_and_names_itself_by_them() -> None:
    """With port 0 the issuer is what the system chose."""
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, config())
        port = address.rpartition(":")[2]
        metadata = (await get(f"{address}/.well-known/oauth-authorization-server")).json()
        assert metadata["issuer"] == f"http://localhost:{port}"
        nursery.cancel_scope.cancel()


@pytest.mark.live
async def test_it_serves_although_identity_provider_and_upstream_are_down(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once, is live and ready, and tells a person who wants to log in what is wrong."""
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve, config())
            assert (await get(f"{address}/healthz")).text == "ok\n"
            assert (await get(f"{address}/readyz")).text == "ready\n"
            refused = await get(f"{address}/mcp")
            assert refused.status_code == 401
            await wait_until(lambda: any("identity provider" in record.message for record in caplog.records))
            nursery.cancel_scope.cancel()
    assert sum("identity provider" in record.message for record in caplog.records) == 1


@pytest.mark.live
async def test_probes_answer_for_any_host_and_nothing_else_does() -> None:
    """A kubelet calls a pod by its address; a page of a foreign name must reach nothing."""
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, config())
        assert (await get(f"{address}/readyz", host="10.1.2.3:3000")).status_code == 200
        for path in ("/", "/mcp", "/authorize", "/.well-known/oauth-authorization-server"):
            assert (await get(f"{address}{path}", host="evil.example")).status_code == 421, path
        nursery.cancel_scope.cancel()


async def test_an_embedded_aggregator_is_an_asgi_application() -> None:
    """No socket is opened; whoever embeds it calls it."""
    async with open_aggregator(with_bound_port(config(), 3000)) as aggregator:
        sent = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: object) -> None:
            sent.append(message)

        path = "/.well-known/oauth-protected-resource/mcp"
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await aggregator({**scope, "headers": [(b"host", b"localhost:3000")]}, receive, send)
    start, body = sent
    assert start["status"] == 200  # type: ignore[index]
    assert json.loads(body["body"])["resource"] == "http://localhost:3000/mcp"  # type: ignore[index]


@pytest.mark.requirement("TK8")
async def test_what_was_revoked_before_the_start_is_refused_from_the_first_request_on(tmp_path: Path) -> None:
    settings = with_bound_port(config(storage=str(tmp_path / "store.sqlite")), 3000)
    assert settings.secret is not None
    keys, url, now = KeyRing([derive_key(settings.secret)]), settings.issuer_url, time.time()
    anna = Principal(NOBODY, "anna")
    grant = Grant("g1", anna, "anna", "reg", "Tester", f"{url}/cb", "mcp:tools", f"{url}/mcp", now, now + 9e5)
    async with open_sqlite_store(settings.storage, keys) as store:
        await store.add_grant(grant)
        await store.revoke_grant("g1", now=now)
    status = {}
    async with open_aggregator(settings) as aggregator:
        for id in ("g1", "g2"):
            token = seal_access(keys, AccessToken(id, "reg", anna, "mcp:tools", f"{url}/mcp", url, now + 900), now=now)
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "query_string": b""}
            headers = [(b"host", b"localhost:3000"), (b"authorization", b"Bearer " + token.encode())]
            await aggregator({**scope, "headers": headers}, trio.sleep_forever, send)
            status[id] = sent[0]["status"]
    assert status == {"g1": 401, "g2": 415}


def test_a_store_that_cannot_be_opened_ends_the_process_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config(storage=str(tmp_path / "missing" / "store.sqlite"))) == EXIT_UNAVAILABLE
    assert "there is no directory" in capsys.readouterr().err


def test_a_chosen_issuer_url_stays_when_the_port_is_chosen_by_the_system() -> None:
    assert with_bound_port(config(issuer_url="https://mcp.example.com"), 4000).issuer_url == "https://mcp.example.com"


async def test_the_store_is_purged_again_and_again_even_after_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    class Recording:
        purged: ClassVar[list[float]] = []

        async def purge(self, *, now: float) -> int:
            self.purged.append(now)
            if len(self.purged) == 1:
                raise StoreUnavailable("the disk is full")
            return 0

    with trio.move_on_after(3 * PURGE_INTERVAL + 1):
        await keep_purged(Recording(), trio.current_time)  # type: ignore[arg-type]
    assert Recording.purged == [PURGE_INTERVAL, 2 * PURGE_INTERVAL, 3 * PURGE_INTERVAL]
