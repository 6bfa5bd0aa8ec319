"""``/authorize`` and the way back without a login."""

from __future__ import annotations

import re

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.oauth.sealed import open_flow
from aggregator.web.pages import PLACES

from ..deployment import (
    CALLBACK,
    FROM_OWN_PAGE,
    ISSUER,
    LOOPBACK,
    PROVIDER,
    Browser,
    Deployment,
    authorize_target,
    header,
    hidden_fields,
    location,
    query_of,
    text_of,
)

_FIXED = Deployment()
_CLIENT = trio.run(_FIXED.register)


@pytest.mark.requirement("AZ8")
async def test_a_valid_request_goes_to_the_identity_provider_with_a_flow_cookie() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    response = await browser.begin(await deployment.register())
    assert response.status == 303
    assert location(response).startswith(PROVIDER + "/authorize?")
    state = query_of(location(response))["state"]
    [(name, sealed)] = browser.jar.items()
    assert name == "__Host-mcp-flow-" + state
    assert open_flow(deployment.keys, sealed, now=deployment.clock()).id == state
    assert len(state) >= 22  # 128 bits
    assert not any(key.startswith("access-control-") for key, _ in response.headers)
    assert not deployment.routes["/authorize"].cors
    assert set(deployment.routes["/authorize"].methods) == {"GET"}


@pytest.mark.requirement("CO4")
async def test_the_flow_cookie_is_bound_to_host_and_flow_and_hidden_from_scripts() -> None:
    deployment = Deployment()
    cookie = header(await Browser(deployment).begin(await deployment.register()), "set-cookie")
    assert cookie is not None
    assert cookie.split("; ")[1:] == ["Max-Age=600", "Path=/", "HttpOnly", "SameSite=Lax", "Secure"]
    assert "anna" not in cookie


async def test_on_loopback_http_the_cookie_has_no_prefix_and_is_not_secure() -> None:
    deployment = Deployment(issuer_url="http://localhost:3000")
    cookie = header(await Browser(deployment).begin(await deployment.register()), "set-cookie")
    assert cookie is not None
    assert cookie.startswith("mcp-flow-")
    assert "Secure" not in cookie


@pytest.mark.requirement("AZ1")
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "unknown"},
        {"client_id": None},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": "javascript:alert(document.domain)"},
        {"redirect_uri": "data:text/html,<script>alert(1)</script>"},
    ],
)
async def test_what_is_not_proven_ends_on_our_own_page(changes: dict[str, str | None]) -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    response = await browser.begin(await deployment.register(), **changes)
    assert response.status == 400
    assert header(response, "location") is None
    assert browser.jar == {}
    page = text_of(response)
    for forbidden in ("<form", "refresh", "<script"):
        assert forbidden not in page
    assert re.findall(r'<a href="([^"]*)"', page) == [where for where, _ in PLACES]


@pytest.mark.requirement("AZ7")
@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "resource", "unknown"])
async def test_a_parameter_that_stands_twice_is_refused(name: str) -> None:
    deployment = Deployment()
    target = authorize_target(await deployment.register(), scope="a", resource=ISSUER + "/mcp", unknown="x")
    response = await deployment.send("GET", f"{target}&{name}=again")
    assert response.status == 400
    assert header(response, "location") is None
    assert "more than once" in text_of(response)


@pytest.mark.requirement("AZ7")
async def test_an_empty_value_counts_as_absent() -> None:
    deployment = Deployment()
    target = authorize_target(await deployment.register(), resource="", scope="", prompt="")
    assert (await deployment.send("GET", target)).status == 303
    target = authorize_target(await deployment.register(LOOPBACK), state="", response_type="")
    answer = query_of(location(await deployment.send("GET", target)))
    assert (answer["error"], "state" in answer) == ("invalid_request", False)


@pytest.mark.parametrize("query", ["state=%ff", "%00", "&".join(f"p{n}=1" for n in range(100)), "state=%ud800", "=&&="])
async def test_a_query_that_cannot_be_read_gets_a_page(query: str) -> None:
    assert (await Deployment().send("GET", "/authorize?" + query)).status == 400


@pytest.mark.requirement("AZ7")
@given(st.text(st.characters(max_codepoint=255)), st.booleans())
async def test_any_query_is_sent_on_or_refused(query: str, appended: bool) -> None:
    prefix = authorize_target(_CLIENT) + "&" if appended else "/authorize?"
    assert (await _FIXED.send("GET", prefix + query)).status in (303, 400)


@pytest.mark.requirement("AZ6", "AZ10", "AZ11")
async def test_an_app_on_this_computer_gets_its_error_at_once() -> None:
    deployment = Deployment()
    response = await Browser(deployment).begin(
        await deployment.register(LOOPBACK), response_type="token", state="a b&c"
    )
    assert response.status == 303
    assert location(response).startswith(LOOPBACK + "?")
    answer = query_of(location(response))
    assert (answer["error"], answer["state"], answer["iss"]) == ("unsupported_response_type", "a b&c", ISSUER)


@pytest.mark.requirement("AZ6", "AZ9", "AZ11", "AZ19")
async def test_any_other_client_gets_its_error_only_when_the_person_presses_the_button() -> None:
    deployment = Deployment()
    browser = Browser(deployment)
    page = await browser.begin(await deployment.register(), response_type="token")
    assert page.status == 400
    assert header(page, "location") is None
    assert "Return to client.example" in text_of(page)
    policy = header(page, "content-security-policy")
    assert policy is not None
    assert "form-action 'self' https://client.example;" in policy
    response = await browser.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert response.status == 303
    assert location(response).startswith(CALLBACK + "?")
    answer = query_of(location(response))
    assert answer["error"] == "unsupported_response_type"
    assert (answer["state"], answer["iss"]) == ("client state", ISSUER)


@pytest.mark.requirement("AZ19")
@pytest.mark.parametrize("answer", ["", "x", "https://evil.example", "<script>"])
async def test_the_button_carries_nothing_that_we_did_not_seal(answer: str) -> None:
    response = await Deployment().post("/authorize/return", {"answer": answer}, *FROM_OWN_PAGE)
    assert response.status == 400
    assert header(response, "location") is None


@pytest.mark.requirement("AZ19")
async def test_a_button_on_another_site_leads_nowhere() -> None:
    deployment = Deployment()
    page = await Browser(deployment).begin(await deployment.register(), response_type="token")
    for headers in ([("sec-fetch-site", "cross-site")], [("origin", "https://evil.example")]):
        response = await deployment.post("/authorize/return", hidden_fields(page), *headers)
        assert response.status == 403
        assert header(response, "location") is None


@pytest.mark.requirement("AZ19")
async def test_the_button_stops_working_with_its_page() -> None:
    deployment = Deployment()
    page = await Browser(deployment).begin(await deployment.register(), response_type="token")
    deployment.clock.pass_by(600)
    response = await deployment.post("/authorize/return", hidden_fields(page), *FROM_OWN_PAGE)
    assert response.status == 400


async def test_a_provider_that_is_down_gets_a_page_that_names_it() -> None:
    deployment = Deployment()
    deployment.provider.down = True
    browser = Browser(deployment)
    response = await browser.begin(await deployment.register())
    assert response.status == 503
    assert header(response, "retry-after") == "30"
    assert PROVIDER in text_of(response)
    assert "connection refused" not in text_of(response)
    assert browser.jar == {}
    deployment.provider.down = False
    assert (await browser.begin(await deployment.register())).status == 303


@pytest.mark.requirement("AZ10")
async def test_a_long_state_fits_and_a_longer_one_is_refused_before_the_login() -> None:
    deployment = Deployment()
    client = await deployment.register(LOOPBACK)
    long_state = "s" * 2048
    answer = await Browser(deployment).obtain_answer(client, state=long_state)
    assert answer["state"] == long_state
    assert (await Browser(deployment).begin(client, state="s" * 2049)).status == 400
    awkward = query_of(location(await Browser(deployment).begin(client, state="\x01" * 2000)))
    assert awkward["error"] == "invalid_request"
    assert "too long" in awkward["error_description"]
    assert awkward["state"] == "\x01" * 2000


async def test_old_flows_make_room_for_new_ones() -> None:
    deployment = Deployment()
    client, browser = await deployment.register(), Browser(deployment)
    for _ in range(20):
        await browser.begin(client)
    assert len(browser.jar) == 8
    first = next(iter(browser.jar))
    await browser.begin(client)
    assert first not in browser.jar
    for _ in range(8):
        await browser.begin(client, state="s" * 2000)
    assert sum(len(name) + len(value) for name, value in browser.jar.items()) < 10_000
