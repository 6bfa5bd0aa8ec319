"""The control of local mode: who may ask, what is told, what is done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from aggregator.config.model import Listen, Secret
from aggregator.errors import Refusal
from aggregator.protocol.oauth.site import site_of
from aggregator.protocol.principal import LOCAL, Principal
from aggregator.upstream.credentials import SHARED
from aggregator.upstream.listings import UpstreamStatus
from aggregator.web.http import Request
from aggregator.web.local.control import control_routes, status_record
from aggregator.web.local.door import LocalAuthentication
from aggregator.web.people.accounts import Controls

SITE = site_of("http://localhost:3000")
Headers = tuple[tuple[bytes, bytes], ...]


def row(name: str, state: str, **more: Any) -> UpstreamStatus:
    fields = {"tools": 2, "revision": None, "latency": 0.0123, "error": None, "stale": False, "left_out": ()}
    return UpstreamStatus(name, state, standing=SHARED, **{**fields, **more})


class Connections:
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        assert principal == LOCAL
        self.ended.append(upstream)
        return upstream == "wiki"


class Control:
    def __init__(self, *rows: UpstreamStatus, token: str | None = None) -> None:
        self.tried: list[str | None] = []
        self.connections = Connections()
        connections: Any = self.connections  # the rest of the contract is not asked for

        async def known(principal: Principal) -> tuple[UpstreamStatus, ...]:
            return rows

        def try_now(name: str | None) -> tuple[str, ...]:
            self.tried.append(name)
            return ("jira",)

        listen = Listen(token=None if token is None else Secret(token))
        routes = control_routes(SITE, LocalAuthentication(listen), Controls(known, try_now), connections)
        self._routes = {route.path: route for route in routes}

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> Any:
        endpoint = self._routes[f"/control/{path}"].methods[method]
        response = await endpoint(Request(method, f"/control/{path}", "", tuple(headers), body, "r"))
        assert ("cache-control", "no-store") in response.headers
        return json.loads(response.body)


async def test_status_names_the_command_for_each_problem() -> None:
    control = Control(
        row("wiki", "connected"), row("jira", "unreachable", error="no\x1b[31m"), row("gh", "needs_login")
    )
    told = await control.ask("GET", "status")
    assert told["url"] == "http://localhost:3000"
    assert [(each["name"], each.get("fix")) for each in told["upstreams"]] == [
        ("wiki", None),
        ("jira", "mcp-aggregator retry jira"),
        ("gh", "mcp-aggregator login gh"),
    ]
    assert told["upstreams"][1]["error"] == "no[31m"
    assert told["upstreams"][2]["loginUrl"] == "http://localhost:3000/connect/gh"


def test_the_last_words_of_a_program_are_told() -> None:
    said = row("jira", "unreachable", last_words=("no\x1b[31m key",))
    assert status_record(SITE, said)["stderr"] == ["no[31m key"]
    assert "stderr" not in status_record(SITE, row("jira", "unreachable"))


def test_latency_is_in_milliseconds() -> None:
    assert status_record(SITE, row("wiki", "connected"))["latencyMs"] == 12
    assert status_record(SITE, row("wiki", "connecting", latency=None))["latencyMs"] is None


async def test_those_that_fail_are_tried_all_or_one() -> None:
    control = Control(row("jira", "unreachable"))
    assert await control.ask("POST", "retry") == {"tried": ["jira"]}
    assert await control.ask("POST", "retry", b'{"upstream":"jira"}') == {"tried": ["jira"]}
    assert control.tried == [None, "jira"]


async def test_a_login_is_ended() -> None:
    control = Control(row("wiki", "connected"), row("jira", "connected"))
    assert await control.ask("POST", "logout", b'{"upstream":"wiki"}') == {"ended": True}
    assert await control.ask("POST", "logout", b'{"upstream":"jira"}') == {"ended": False}
    assert control.connections.ended == ["wiki", "jira"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("retry", b'{"upstream":"no such"}', 404),
        ("retry", b'{"upstream":3}', 400),
        ("retry", b"[]", 400),
        ("retry", b"{" * 4000, 400),
        ("retry", b"\xff", 400),
        ("logout", b"", 400),
    ],
)
async def test_what_names_no_upstream_is_refused(path: str, body: bytes, status: int) -> None:
    control = Control(row("jira", "unreachable"))
    with pytest.raises(Refusal) as caught:
        await control.ask("POST", path, body)
    assert caught.value.status == status
    assert control.tried == []


@pytest.mark.parametrize(
    "header", [(b"origin", b"null"), (b"origin", b"http://localhost:3000"), (b"sec-fetch-site", b"same-origin")]
)
async def test_no_page_of_any_site_may_ask(header: tuple[bytes, bytes]) -> None:
    control = Control(row("jira", "unreachable"))
    for method, path in (("GET", "status"), ("POST", "retry"), ("POST", "logout")):
        with pytest.raises(Refusal) as caught:
            await control.ask(method, path, headers=[header])
        assert caught.value.status == 403
    assert control.tried == []


async def test_the_token_is_asked_for_where_there_is_one() -> None:
    control = Control(row("jira", "unreachable"), token="a long token")
    for headers in ((), ((b"authorization", b"Bearer another"),)):
        with pytest.raises(Refusal) as caught:
            await control.ask("POST", "retry", headers=headers)
        assert caught.value.status == 401
    assert control.tried == []
    await control.ask("POST", "retry", headers=((b"authorization", b"Bearer a long token"),))
    assert control.tried == [None]
