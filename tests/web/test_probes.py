from __future__ import annotations

from typing import Any

import trio

from aggregator.errors import StoreUnavailable
from aggregator.web.http import Request
from aggregator.web.probes import CHECK_INTERVAL, probe_routes


class Checked:
    """A store of which only the check is asked."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault


class Probed:
    def __init__(self) -> None:
        self.store = Checked()
        self.draining = False
        store: Any = self.store
        self.foreign_keys = False
        self.behind = False
        routes = probe_routes(store, lambda: self.draining, lambda: self.foreign_keys, lambda: self.behind)
        self._routes = {route.path: route for route in routes}

    async def get(self, path: str) -> tuple[int, bytes]:
        response = await self._routes[path].methods["GET"](Request("GET", path, "", (), b"", "r"))
        assert ("cache-control", "no-store") in response.headers
        return response.status, response.body


async def test_a_process_that_drains_is_alive_and_not_ready() -> None:
    probed = Probed()
    assert (await probed.get("/healthz"), await probed.get("/readyz")) == ((200, b"ok\n"), (200, b"ready\n"))
    probed.draining = True
    assert (await probed.get("/healthz"), await probed.get("/readyz")) == ((200, b"ok\n"), (503, b"draining\n"))


async def test_a_process_without_its_store_is_alive_and_not_ready_until_it_returns(
    autojump_clock: trio.testing.MockClock,
) -> None:
    probed = Probed()
    probed.store.fault = StoreUnavailable("canary: disk gone")
    assert await probed.get("/readyz") == (503, b"store unavailable\n")
    assert await probed.get("/healthz") == (200, b"ok\n")
    probed.store.fault = None
    await trio.sleep(CHECK_INTERVAL)
    assert await probed.get("/readyz") == (200, b"ready\n")


async def test_whoever_asks_often_does_not_make_the_store_work(autojump_clock: trio.testing.MockClock) -> None:
    probed = Probed()
    for _ in range(1000):
        await probed.get("/readyz")
    assert probed.store.checks == 1
    await trio.sleep(CHECK_INTERVAL)
    await probed.get("/readyz")
    assert probed.store.checks == 2


async def test_a_process_with_another_secret_than_its_neighbours_is_alive_and_not_ready() -> None:
    probed = Probed()
    probed.foreign_keys = True
    assert await probed.get("/readyz") == (503, b"another instance runs with another secret\n")
    assert await probed.get("/healthz") == (200, b"ok\n")
    probed.foreign_keys = False
    assert await probed.get("/readyz") == (200, b"ready\n")


async def test_a_process_with_tokens_that_no_other_has_is_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    probed = Probed()
    probed.behind = True
    assert await probed.get("/readyz") == (503, b"renewed tokens wait for the store\n")
    assert await probed.get("/healthz") == (200, b"ok\n")
    probed.behind = False
    assert await probed.get("/readyz") == (200, b"ready\n")
