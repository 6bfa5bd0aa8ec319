"""How often clients may register and logins be begun, and who counts as one."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from trio.testing import MockClock

from aggregator.errors import Refusal
from aggregator.web.address_limit import network_of
from aggregator.web.http import Request, Response
from aggregator.web.limits import (
    DOCUMENTS,
    LOGINS,
    REGISTRATIONS,
    REGISTRATIONS_IN_TOTAL,
    login_limit,
    registration_limit,
)
from aggregator.web.refusals import render_refusal

from .deployment import Deployment, header, read

BODY = json.dumps({"redirect_uris": ["http://localhost/cb"]}).encode()


async def register(deployment: Deployment, peer: str, *headers: tuple[bytes, bytes]) -> Response:
    route = deployment.routes["/register"]
    request = Request("POST", "/register", "", ((b"content-type", b"application/json"), *headers), BODY, "r", peer)
    try:
        return await route.methods["POST"](request)
    except Refusal as refusal:
        return render_refusal(refusal, route, deployment.pages, "r")


@pytest.mark.requirement("MD3")
async def test_a_flood_from_one_address_is_told_when_to_come_back(mock_clock: MockClock) -> None:
    deployment = Deployment()
    statuses = [(await register(deployment, "198.51.100.7")).status for _ in range(REGISTRATIONS.burst + 5)]
    assert statuses == [201] * REGISTRATIONS.burst + [429] * 5
    refused = await register(deployment, "198.51.100.7")
    assert header(refused, "retry-after") == "1"
    assert header(refused, "cache-control") == "no-store"
    assert read(refused)["error"] == "temporarily_unavailable"
    assert (await register(deployment, "198.51.100.8")).status == 201
    mock_clock.jump(REGISTRATIONS.interval)
    assert [(await register(deployment, "198.51.100.7")).status for _ in range(2)] == [201, 429]


async def test_a_header_makes_nobody_another(mock_clock: MockClock) -> None:
    deployment = Deployment()
    statuses = []
    for number in range(REGISTRATIONS.burst + 1):
        spoofed = (b"x-forwarded-for", b"203.0.113.%d" % (number % 250)), (b"forwarded", b"for=203.0.113.9")
        statuses.append((await register(deployment, "198.51.100.7", *spoofed)).status)
    assert statuses[-1] == 429


def test_all_together_are_limited_as_well() -> None:
    limit = registration_limit()
    for number in range(REGISTRATIONS_IN_TOTAL.burst):
        limit.admit(f"10.{number // 250}.0.{number % 250}", 0.0)
    with pytest.raises(Refusal) as caught:
        limit.admit("192.0.2.1", 0.0)
    assert caught.value.status == 429
    limit.admit("192.0.2.1", 1.0)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/a.sock", "/run/a.sock"),
    ],
)
def test_an_ipv6_site_is_one(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_a_whole_company_behind_one_address_logs_in_on_a_monday_morning() -> None:
    """Five thousand people within ten minutes, a fifth of them in the first; twice, for those who begin again."""
    limit = login_limit()
    for number in range(2000):
        limit.admit("192.0.2.1", number * 60 / 2000)
    for number in range(8000):
        limit.admit("192.0.2.1", 60 + number * 540 / 8000)


async def test_a_flood_of_logins_is_told_when_to_come_back_and_begins_none(mock_clock: MockClock) -> None:
    deployment = Deployment()
    route = deployment.routes["/authorize"]
    refused = []
    for number in range(LOGINS.burst + 5):
        request = Request("GET", "/authorize", "client_id=x", (), b"", "r", "198.51.100.7")
        with pytest.raises(Refusal) as caught:
            await route.methods["GET"](request)
        refused.append((number, caught.value.status))
    assert [number for number, status in refused if status == 429] == list(range(LOGINS.burst, LOGINS.burst + 5))
    assert {status for _, status in refused} == {400, 429}
    page = render_refusal(caught.value, route, deployment.pages, "r")
    assert (page.status, header(page, "retry-after"), header(page, "content-type")) == (
        429,
        "1",
        "text/html; charset=utf-8",
    )
    assert b"Too many logins" in page.body


@pytest.mark.requirement("CI2")
async def test_one_address_that_invents_clients_keeps_no_other_client_from_being_read(mock_clock: MockClock) -> None:
    deployment = Deployment()
    known = deployment.documents.publish("https://known.example/id.json")
    route = deployment.routes["/authorize"]

    async def ask(client_id: str, peer: str) -> int:
        query = urlencode({"client_id": client_id})
        try:
            return (await route.methods["GET"](Request("GET", "/authorize", query, (), b"", "r", peer))).status
        except Refusal as refusal:
            return refusal.status

    asked = [await ask(f"https://{number}.example/id.json", "198.51.100.7") for number in range(DOCUMENTS.burst + 5)]
    assert asked == [400] * DOCUMENTS.burst + [429] * 5
    assert len(deployment.documents.asked) == DOCUMENTS.burst
    assert await ask(known["client_id"], "198.51.100.8") == 400  # it was read: what is missing is the rest
    assert deployment.documents.asked[-1] == known["client_id"]
    assert await ask(known["client_id"], "198.51.100.7") == 400, "known by now, and held to nothing"
    mock_clock.jump(DOCUMENTS.interval)
    assert await ask("https://new.example/id.json", "198.51.100.7") == 400
    assert await ask("https://newer.example/id.json", "198.51.100.7") == 429
