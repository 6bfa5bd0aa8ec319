from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import Refusal, StoreUnavailable
from aggregator.web.http import Request, Response, Route, json_response

from ..fakes.asgi import Browser, Received
from ..fakes.mcp_server import MODERN
from ..fakes.relay import Relay, one

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def echo(request: Request) -> Response:
    return json_response({"method": request.method, "query": request.query, "body": request.body.decode("latin-1")})


async def tell_peer(request: Request) -> Response:
    return json_response(request.peer)


async def refuse(request: Request) -> Response:
    raise Refusal(403, "access_denied", "No.", headers=(("x-why", "because"),))


async def crash(request: Request) -> Response:
    raise ZeroDivisionError("canary")


async def storeless(request: Request) -> Response:
    raise StoreUnavailable("canary")


ROUTES = (
    Route("/echo", {"GET": echo, "POST": echo}, body_limit=10),
    Route("/peer", {"GET": tell_peer}),
    Route("/refuse", {"GET": refuse}),
    Route("/page", {"GET": refuse}, page=True),
    Route("/crash", {"GET": crash}),
    Route("/storeless", {"GET": storeless}),
    Route("/open", {"POST": echo, "GET": refuse}, cors=True),
    Route("/tree", {"GET": tell_peer}, page=True, below=True),
    Route("/tree/leaf", {"GET": echo}),
)
PROBES = (Route("/healthz", {"GET": echo}),)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Browser, Relay]]:
    async with one(MODERN, routes=ROUTES, probes=PROBES, allowed_origins=("https://app.example.com",)) as (_, relay):
        yield Browser(relay.app), relay


async def test_a_route_is_told_whose_connection_it_is_whatever_headers_say() -> None:
    async with served() as (browser, _):
        spoofed = [
            ("x-forwarded-for", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1"),
            ("x-real-ip", "198.51.100.1"),
        ]
        assert (await browser.request("GET", "/peer", spoofed)).json() == "192.0.2.1"


async def test_a_route_gets_its_request() -> None:
    async with served() as (browser, _):
        received = await browser.request("POST", "/echo?a=b", [], b"hello")
        assert (received.status, received.json()) == (200, {"method": "POST", "query": "a=b", "body": "hello"})
        assert received.headers["x-content-type-options"] == "nosniff"
        assert len(received.headers["x-request-id"]) == 16


async def test_head_is_get_without_a_body() -> None:
    async with served() as (browser, _):
        received = await browser.request("HEAD", "/echo")
        assert (received.status, received.body) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/nothing", "/MCP", "/mcp/", "//mcp", "/echo/", "/mcp%20", "/../mcp"])
async def test_what_is_not_there_is_404(path: str) -> None:
    async with served() as (browser, _):
        received = await browser.request("GET", path)
        assert (received.status, received.json()["error"]) == (404, "not_found")


async def test_a_tree_answers_what_stands_below_it_and_has_no_route_of_its_own() -> None:
    async with served() as (browser, _):
        for path in ("/tree", "/tree/", "/tree/any", "/tree/any/thing"):
            assert (await browser.request("GET", path)).json() == "192.0.2.1", path
        assert (await browser.request("GET", "/tree/leaf")).json()["method"] == "GET"
        assert (await browser.request("GET", "/trees")).status == 404
        assert (await browser.request("POST", "/tree/any")).headers["content-type"].startswith("text/html")


async def test_a_method_that_a_route_does_not_know_is_405() -> None:
    async with served() as (browser, _):
        for method in ("DELETE", "OPTIONS", "get", "X" * 500):
            received = await browser.request(method, "/echo")
            assert (received.status, received.headers["allow"]) == (405, "GET, POST")


@pytest.mark.requirement("TR1")
async def test_every_path_but_the_probes_asks_for_our_own_host() -> None:
    async with served() as (browser, _):
        for path in ("/echo", "/mcp", "/nothing", "/page"):
            for host in ("attacker.example", "10.0.0.7:3000"):
                assert (await browser.request("GET", path, host=host)).status == 421
            assert (await browser.request("GET", path, host="")).status == 400
            twice = await browser.request("GET", path, [("host", "mcp.example.com")])
            assert twice.status == 400
        for host in ("10.0.0.7:3000", ""):
            assert (await browser.request("GET", "/healthz", host=host)).status == 200


@pytest.mark.requirement("TR1")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS", "HEAD"])
async def test_a_foreign_page_cannot_use_the_mcp_endpoint(method: str) -> None:
    async with served() as (browser, _):
        for origin in ("https://attacker.example", "null", "http://mcp.example.com"):
            received = await browser.request(method, "/mcp", [("origin", origin), ("authorization", "Bearer alice")])
            assert received.status == 403
            assert "access-control-allow-origin" not in received.headers
        both = [("origin", "https://mcp.example.com"), ("origin", "https://attacker.example")]
        assert (await browser.request(method, "/mcp", both)).status == 400


async def test_an_allowed_page_may_ask_before_it_calls_and_read_what_comes() -> None:
    origin = ("origin", "https://app.example.com")
    async with served() as (browser, relay):
        wanted = "authorization, mcp-method, mcp-param-region, x-evil, mcp-param-a b"
        asked = [origin, ("access-control-request-method", "POST"), ("access-control-request-headers", wanted)]
        received = await browser.request("OPTIONS", "/mcp", asked)
        assert (received.status, received.headers["access-control-allow-origin"]) == (204, "https://app.example.com")
        allowed = received.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-type", "mcp-method", "mcp-name", "mcp-session-id", "mcp-param-region"} <= set(
            allowed
        )
        assert "x-evil" not in allowed
        assert not any(" " in name for name in allowed)
        assert {"POST", "DELETE"} <= set(received.headers["access-control-allow-methods"].split(", "))
        assert "access-control-allow-credentials" not in received.headers
        client = relay.modern()
        for headers in (client.headers("tools/list", {}), [("authorization", "Bearer hostile")]):
            received = await browser.request("POST", "/mcp", [*headers, origin], client.encode("tools/list", {}, 1))
            assert received.status in (200, 401)
            assert received.headers["access-control-allow-origin"] == "https://app.example.com"
            assert "www-authenticate" in received.headers["access-control-expose-headers"]
            assert received.headers["vary"] == "origin"


async def test_an_open_route_answers_every_page() -> None:
    async with served() as (browser, _):
        origin = [("origin", "https://attacker.example")]
        for method, status in (("OPTIONS", 204), ("POST", 200), ("GET", 403), ("PUT", 405)):
            received = await browser.request(method, "/open", origin)
            assert (received.status, received.headers["access-control-allow-origin"]) == (status, "*")


async def test_a_refusal_is_json_for_programs_and_a_page_for_people() -> None:
    async with served() as (browser, _):
        received = await browser.request("GET", "/refuse")
        assert received.status == 403
        assert received.json() == {"error": "access_denied", "error_description": "No."}
        assert received.headers["x-why"] == "because"
        assert received.headers["cache-control"] == "no-store"
        page = await browser.request("GET", "/page")
        assert (page.status, page.headers["content-type"], page.body) == (403, "text/html", b"No.")


NAVIGATION = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "text/html"),
        ("POST", "/refuse", 405, "text/html"),
        ("GET", "/refuse", 403, "text/html"),
        ("GET", "/crash", 500, "text/html"),
        ("GET", "/storeless", 503, "text/html"),
        ("GET", "/open", 403, "application/json"),
        ("POST", "/mcp", 401, "application/json"),
    ],
)
async def test_a_browsers_navigation_ends_at_a_page_unless_it_meets_an_endpoint_of_programs(
    method: str, path: str, status: int, kind: str
) -> None:
    async with served() as (browser, _):
        received = await browser.request(method, path, NAVIGATION)
        assert (received.status, received.headers["content-type"]) == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "headers", "location"),
    [
        ("GET", "/page?to=%2Fx&a=b", NAVIGATION, "http://localhost:3000/page?to=%2Fx&a=b"),
        ("GET", "/tree/twig", NAVIGATION, "http://localhost:3000/tree/twig"),
        ("GET", "/page", [], None),  # a program has no cookies that could be missing
        ("POST", "/page", NAVIGATION, None),
        ("GET", "/refuse", NAVIGATION, None),
    ],
)
async def test_a_browser_that_came_by_another_name_of_this_computer_is_led_to_the_one_that_logins_come_back_to(
    method: str, path: str, headers: list[tuple[str, str]], location: str | None
) -> None:
    async with one(MODERN, routes=ROUTES, issuer_url="http://localhost:3000") as (_, relay):
        received = await Browser(relay.app, "127.0.0.1:3000").request(method, path, headers)
        assert received.headers.get("location") == location
        assert (received.status == 303) == (location is not None)
        assert (await Browser(relay.app, "localhost:3000").request(method, path, headers)).status != 303


async def test_what_nobody_expected_is_500_without_detail_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (browser, _):
        received = await browser.request("GET", "/crash?code=canary")
        assert received.status == 500
        assert b"canary" not in received.body
        assert received.headers["x-request-id"] in received.json()["error_description"]
        (record,) = caplog.records
        assert received.headers["x-request-id"] in record.getMessage()
        assert "canary" not in record.getMessage()
        assert record.exc_info is not None


async def test_a_store_that_is_away_is_503_and_says_when_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (browser, _):
        received = await browser.request("GET", "/storeless")
        assert (received.status, received.headers["retry-after"]) == (503, "5")
        assert b"canary" not in received.body
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_body_is_bounded_whatever_the_route(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as (browser, relay):
        assert (await browser.request("POST", "/echo", [], b"x" * 11)).status == 413
        headers = relay.modern().headers("tools/list", {})
        received = await browser.request("POST", "/mcp", [*headers], b" " * (4 * 2**20 + 1))
        assert received.status == 413
        for path in ("/echo", "/mcp"):
            async with browser.open("POST", path, headers, [b"{"], endless=True) as ongoing:
                started = trio.current_time()
                await ongoing.done.wait()
                assert ongoing.status == 408
                assert trio.current_time() - started == pytest.approx(30)


async def test_a_client_that_leaves_while_sending_is_answered_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (browser, relay):
        for path in ("/echo", "/mcp"):
            async with browser.open("POST", path, relay.modern().headers("x", {}), [b"{"], endless=True) as ongoing:
                ongoing.disconnect()
                await ongoing.done.wait()
            assert ongoing.status is None
        assert not caplog.records


HEADER_NAMES = ["authorization", "content-type", "accept", "origin", "mcp-protocol-version", "mcp-method", "mcp-name"]
HEADER_NAMES += ["mcp-session-id", "mcp-param-x", "host", "cookie", "x-forwarded-host"]
HEADER_VALUES = ["Bearer alice", "Bearer hostile", "application/json", "*/*", "https://mcp.example.com", "null", MODERN]
HEADER_VALUES += ["2025-11-25", "tools/call", "up__t", "=?base64?\xe9?=", "", "\xff", "attacker.example"]
header = st.tuples(st.sampled_from(HEADER_NAMES), st.sampled_from(HEADER_VALUES))
# A value of the wrong kind is named in the answer; whoever sends a token under a wrong name reads it back.
headers = st.lists(header.filter(lambda pair: pair[0] == "authorization" or "Bearer" not in pair[1]), max_size=8)
BODIES = [
    b"",
    b"{",
    b"[]",
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up__t"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":[]},"cursor":"\xc3\xa9"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":[]}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}',
    b'{"jsonrpc":"2.0","id":"x","method":"logging/setLevel","params":{"level":{"a":1}}}',
    json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "gateway__unauth",
                "arguments": {"server": 7},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {"a": []},
                    "io.modelcontextprotocol/logLevel": 7,
                },
            },
        }
    ).encode(),
]
STATUSES = {200, 202, 204, 400, 401, 403, 404, 405, 406, 413, 415, 421}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "DELETE"]),
    st.sampled_from(["/mcp", "/mcp", "/echo", "/healthz", "/x"]),
    headers,
    st.sampled_from(BODIES) | st.binary(max_size=30),
)
def test_any_request_has_a_documented_status(
    method: str, path: str, given_headers: list[tuple[str, str]], body: bytes
) -> None:
    """A-P 2."""
    usual = {
        "authorization": "Bearer alice",
        "content-type": "application/json",
        "accept": "*/*",
        **{name: value for name, value in given_headers if name != "host"},
    }

    async def main() -> Received:
        async with served() as (browser, _):
            return await browser.request(method, path, [*usual.items(), *given_headers[:1]], body)

    received = trio.run(main)
    assert received.status in STATUSES
    assert b"alice" not in received.body


async def test_the_endpoint_pasted_into_a_browser_leads_to_the_landing_page() -> None:
    async with served() as (browser, _):
        page = await browser.request("GET", "/mcp", [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")])
        assert (page.status, page.headers["location"]) == (303, "/")
        stream = await browser.request("GET", "/mcp", [("accept", "text/event-stream")])
        assert stream.status == 401
        mine = [("authorization", "Bearer alice"), ("accept", "text/event-stream")]
        stream = await browser.request("GET", "/mcp", mine)
        assert (stream.status, stream.headers["allow"]) == (405, "POST"), "a stream belongs to a session"
