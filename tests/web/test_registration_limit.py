"""How often clients may register, and who counts as one."""

from __future__ import annotations

import json

import pytest
from trio.testing import MockClock

from aggregator.errors import Refusal
from aggregator.web.http import Request, Response
from aggregator.web.refusals import render_refusal
from aggregator.web.registration_limit import (
    ADDRESS_BURST,
    ADDRESS_INTERVAL,
    TOTAL_BURST,
    RegistrationLimit,
    network_of,
)

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
    statuses = [(await register(deployment, "198.51.100.7")).status for _ in range(ADDRESS_BURST + 5)]
    assert statuses == [201] * ADDRESS_BURST + [429] * 5
    refused = await register(deployment, "198.51.100.7")
    assert header(refused, "retry-after") == "1"
    assert header(refused, "cache-control") == "no-store"
    assert read(refused)["error"] == "temporarily_unavailable"
    assert (await register(deployment, "198.51.100.8")).status == 201
    mock_clock.jump(ADDRESS_INTERVAL)
    assert [(await register(deployment, "198.51.100.7")).status for _ in range(2)] == [201, 429]


async def test_a_header_makes_nobody_another(mock_clock: MockClock) -> None:
    deployment = Deployment()
    statuses = []
    for number in range(ADDRESS_BURST + 1):
        spoofed = (b"x-forwarded-for", b"203.0.113.%d" % (number % 250)), (b"forwarded", b"for=203.0.113.9")
        statuses.append((await register(deployment, "198.51.100.7", *spoofed)).status)
    assert statuses[-1] == 429


def test_all_together_are_limited_as_well() -> None:
    limit = RegistrationLimit()
    for number in range(TOTAL_BURST):
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
