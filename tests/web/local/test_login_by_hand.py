"""Logging in with a browser elsewhere: what a program begins here, and which pasted addresses finish it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from aggregator.config.model import Auth, Config, Listen
from aggregator.errors import Refusal
from aggregator.protocol.oauth.sealed import FLOW_LIFETIME
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import LOCAL
from aggregator.store.memory import MemoryStore
from aggregator.web.http import Request
from aggregator.web.local.door import LocalAuthentication
from aggregator.web.local.login_by_hand import MAX_PENDING, LoginByHand, PendingLogins, by_hand_routes

from ..account_fakes import CLOCKS, GMAIL, SLACK, FakeAccounts

SITE = site_of("http://localhost:8080")
BACK = "http://localhost:8080/upstream-auth/callback/gmail"


class World:
    def __init__(self, fakes: FakeAccounts | None = None) -> None:
        self.fakes = fakes or FakeAccounts()
        config = Config(Auth(LOCAL.issuer), (GMAIL, SLACK, CLOCKS), SITE.issuer)
        login = LoginByHand(config, SITE, MemoryStore(clock=lambda: 1000.0), self.fakes.accounts(), PendingLogins())
        self._routes = {route.path: route for route in by_hand_routes(login, LocalAuthentication(Listen()))}

    async def ask(self, path: str, *headers: tuple[bytes, bytes], **fields: Any) -> dict[str, Any]:
        route = self._routes[f"/control/{path}"]
        body = json.dumps(fields).encode()
        response = await route.methods["POST"](Request("POST", route.path, "", headers, body, "r"))
        told: dict[str, Any] = json.loads(response.body)
        return told

    async def begun(self, upstream: str = "gmail") -> str:
        """The address of the authorization server."""
        return str((await self.ask("login", upstream=upstream))["url"])

    def landed(self, url: str, **changes: str | None) -> str:
        """Where a browser that allows access ends."""
        return SITE.origin + self.fakes.oauth.allow(url, **changes)

    async def refusal(self, pasted: str) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.ask("login/finish", pasted=pasted)
        return caught.value


async def test_who_begins_again_without_having_come_back_is_known_to_have_done_so() -> None:
    world = World()
    first = await world.begun()
    await world.begun("slack")
    await world.ask("login/finish", pasted=world.landed(await world.begun()))
    await world.ask("login/finish", pasted=world.landed(first))
    await world.begun()
    assert world.fakes.oauth.unanswered == [frozenset(), frozenset(), {"mcp-aggregator"}, frozenset()]


async def test_a_login_begun_here_is_finished_with_the_address_that_the_browser_ended_at() -> None:
    world = World()
    told = await world.ask("login", upstream="gmail")
    assert told["endsAt"] == BACK
    assert urlsplit(told["url"]).hostname == "login.gmail.example"
    done = await world.ask("login/finish", pasted=world.landed(told["url"]))
    assert done == {"connected": "gmail", "account": "anna@gmail.example"}
    assert (LOCAL, "gmail") in world.fakes.connecting.saved


async def test_an_answer_is_good_once() -> None:
    world = World()
    landed = world.landed(await world.begun())
    await world.ask("login/finish", pasted=landed)
    assert (await world.refusal(landed)).status == 400
    assert len(world.fakes.oauth.redeemed) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"iss": "https://evil.example"}, 403), ({"iss": None}, 403), ({"state": "x" * 32}, 400), ({"code": None}, 400)],
)
async def test_an_answer_of_somebody_else_is_sent_nowhere_and_ends_nothing(
    changes: dict[str, str | None], status: int
) -> None:
    world = World()
    url = await world.begun()
    assert (await world.refusal(world.landed(url, **changes))).status == status
    assert world.fakes.oauth.redeemed == []
    assert (await world.ask("login/finish", pasted=world.landed(url)))["connected"] == "gmail"


async def test_a_login_elsewhere_is_not_finished_here() -> None:
    """Whoever is talked into pasting the answer to a stranger's login connects nothing (COSF)."""
    mine, stranger = World(), World()
    landed = stranger.landed(await stranger.begun())
    await mine.begun()
    assert "begun here" in (await mine.refusal(landed)).description


async def test_a_refusal_there_is_told_and_the_login_over() -> None:
    world = World()
    url = await world.begun()
    told = await world.refusal(world.landed(url, code=None, error="access_denied"))
    assert (told.status, world.fakes.oauth.redeemed) == (403, [])
    assert (await world.refusal(world.landed(url))).status == 400


async def test_no_tokens_are_told_without_the_code() -> None:
    world = World()
    url = await world.begun()
    told = await world.refusal(world.landed(url, code="a-code-that-is-none"))
    assert told.status == 502
    assert "a-code" not in told.description


async def test_a_login_is_remembered_for_ten_minutes_and_eight_at_most(autojump_clock: Any) -> None:
    world = World()
    first = await world.begun()
    for _ in range(MAX_PENDING):
        last = await world.begun()
    assert (await world.refusal(world.landed(first))).status == 400
    await trio.sleep(FLOW_LIFETIME + 1)
    assert (await world.refusal(world.landed(last))).status == 400


@pytest.mark.parametrize("name", ["clocks", "nobody", ""])
async def test_only_upstreams_with_a_login_have_one(name: str) -> None:
    with pytest.raises(Refusal):
        await World().ask("login", upstream=name)


async def test_an_upstream_without_a_way_is_told() -> None:
    world = World()
    world.fakes.oauth.down = "its authorization server cannot be reached now"
    with pytest.raises(Refusal, match="cannot be reached now") as caught:
        await world.ask("login", upstream="gmail")
    assert caught.value.status == 502


async def test_pages_of_a_browser_begin_nothing() -> None:
    with pytest.raises(Refusal, match="programs"):
        await World().ask("login", (b"origin", b"http://localhost:8080"), upstream="gmail")
