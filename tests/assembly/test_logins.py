"""Which logins the person at this machine is asked for, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from aggregator.assembly.logins import GLANCE, PATIENCE, Logins
from aggregator.config.model import BrowserLogin, Upstream
from aggregator.errors import StoreUnavailable
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import Principal
from aggregator.upstream.credentials import SHARED, Standing
from aggregator.upstream.upstream_status import UpstreamStatus

SITE = site_of("http://localhost:8080")


class Listed:
    """Upstreams with one account each, and how it stands with them."""

    def __init__(self, *upstreams: Upstream) -> None:
        self.upstreams = upstreams
        self.rows = {
            upstream.name: UpstreamStatus(
                upstream.name, "connecting", 0, None, None, None, stale=False, left_out=(), standing=SHARED
            )
            for upstream in upstreams
        }
        self.is_away = False

    def configured(self) -> tuple[Upstream, ...]:
        return self.upstreams

    async def statuses(self) -> tuple[UpstreamStatus, ...]:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StoreUnavailable("the disk is full")
        return tuple(self.rows.values())

    def becomes(self, name: str, state: str, standing: Standing = SHARED) -> None:
        self.rows[name] = replace(self.rows[name], state=state, standing=standing)


class World:
    """The person, who logs in when the test says so, and the pages that were opened, by when."""

    def __init__(
        self,
        listed: Listed,
        nursery: trio.Nursery,
        *,
        eager: bool = False,
        has_browser: bool = True,
        has_pages: bool = True,
    ) -> None:
        self.listed = listed
        self.opened: list[tuple[float, str]] = []
        self._begun = trio.current_time()
        self._has_browser = has_browser
        self._connected: dict[str, trio.Event] = {}
        self.logins = Logins(
            SITE, listed.configured, listed.statuses, self, self.open_page, eager=eager, has_pages=has_pages
        )
        nursery.start_soon(self.logins.run)

    async def open_page(self, url: str) -> bool:
        await trio.lowlevel.checkpoint()
        self.opened.append((round(trio.current_time() - self._begun), url.rpartition("/")[2]))
        return self._has_browser

    async def wait_connected(self, principal: Principal, upstream: str) -> None:
        await self._connected.setdefault(upstream, trio.Event()).wait()

    def log_in(self, name: str) -> None:
        self.listed.becomes(name, "connected", Standing("me", "connected"))
        self._connected.setdefault(name, trio.Event()).set()


def logged_in_to(name: str, **options: Any) -> Upstream:
    return Upstream(name, f"https://{name}.example/mcp", name, browser_login=BrowserLogin(**options))


async def test_who_waits_for_a_login_is_asked_for_once_one_after_another(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    listed = Listed(logged_in_to("a"), logged_in_to("b"), logged_in_to("c"), Upstream("d", "https://d.example", "d"))
    for name in "abd":
        listed.becomes(name, "needs_login")
    world = World(listed, nursery)
    await trio.sleep(10)
    assert world.opened == [(0, "a")]
    world.log_in("a")
    await trio.sleep(10)
    assert world.opened == [(0, "a"), (10, "b")]
    await trio.sleep(PATIENCE)
    listed.becomes("c", "needs_login")
    await trio.sleep(2 * GLANCE)
    assert [name for _, name in world.opened] == ["a", "b", "c"]
    await trio.sleep(10 * PATIENCE)
    assert len(world.opened) == 3, "no window opens behind anybody's back"


async def test_a_login_that_ends_later_opens_no_window(autojump_clock: Any, nursery: trio.Nursery) -> None:
    listed = Listed(logged_in_to("a"))
    listed.becomes("a", "needs_login")
    world = World(listed, nursery)
    await trio.sleep(1)
    world.log_in("a")
    await trio.sleep(1)
    listed.becomes("a", "needs_login", Standing("me", "needs_login"))
    await trio.sleep(100)
    assert len(world.opened) == 1


async def test_eager_asks_for_every_account_that_is_not_there(autojump_clock: Any, nursery: trio.Nursery) -> None:
    listed = Listed(logged_in_to("a"), logged_in_to("b"))
    listed.becomes("a", "connected", Standing("me", "connected"))
    world = World(listed, nursery, eager=True)
    await trio.sleep(1)
    assert world.opened == [(0, "b")]


@pytest.mark.parametrize(("options", "has_browser"), [({"open_browser": False}, True), ({}, False)])
async def test_without_a_browser_the_link_is_in_the_log(
    options: dict[str, Any],
    has_browser: bool,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: Any,
    nursery: trio.Nursery,
) -> None:
    listed = Listed(logged_in_to("a", **options))
    listed.becomes("a", "needs_login")
    World(listed, nursery, has_browser=has_browser)
    await trio.sleep(1)
    assert "upstream a waits for its login: http://localhost:8080/connect/a (open it in a browser)" in caplog.text


async def test_where_no_browser_can_come_the_command_is_in_the_log(
    caplog: pytest.LogCaptureFixture, autojump_clock: Any, nursery: trio.Nursery
) -> None:
    listed = Listed(logged_in_to("a"))
    listed.becomes("a", "needs_login")
    world = World(listed, nursery, has_pages=False)
    await trio.sleep(1)
    assert "run mcp-aggregator login a" in caplog.text
    assert world.opened == []


async def test_a_store_that_is_away_is_asked_again(autojump_clock: Any, nursery: trio.Nursery) -> None:
    listed = Listed(logged_in_to("a"))
    listed.becomes("a", "needs_login")
    listed.is_away = True
    world = World(listed, nursery)
    await trio.sleep(10)
    assert world.opened == []
    listed.is_away = False
    await trio.sleep(2 * GLANCE)
    assert [name for _, name in world.opened] == ["a"]
