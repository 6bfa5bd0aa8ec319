"""Flow cookies: found among strangers, bounded in number and size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.oauth.site import site_of
from aggregator.web.cookies import ended_flow_cookie, flow_cookie, flow_cookies, surplus_flows
from aggregator.web.http import Request

SITE = site_of("https://mcp.example.com")
LOCAL = site_of("http://localhost:3000")
ID = "i" * 32


def request(*cookies: str) -> Request:
    headers = tuple((b"cookie", cookie.encode("latin-1", "replace")) for cookie in cookies)
    return Request("GET", "/", "", headers, b"", "r")


@pytest.mark.requirement("CO4")
def test_a_flow_cookie_is_found_by_its_full_name_only() -> None:
    assert flow_cookies(SITE, request(f"__Host-mcp-flow-{ID}=sealed")) == {ID: "sealed"}
    assert flow_cookies(SITE, request(f"mcp-flow-{ID}=planted; __host-mcp-flow-{ID}=planted")) == {}
    assert flow_cookies(LOCAL, request(f"mcp-flow-{ID}=sealed")) == {ID: "sealed"}


def test_cookies_of_other_programs_on_this_host_do_not_hide_ours() -> None:
    noise = 'prefs={"a": "b; c"}; x:y=1; bare; =; "=a'
    assert flow_cookies(LOCAL, request(noise, f"{noise}; mcp-flow-{ID}=sealed; {noise}")) == {ID: "sealed"}


@given(st.text(max_size=200))
def test_any_cookie_header_is_read_without_an_error(text: str) -> None:
    flow_cookies(SITE, request(text))


def test_a_cookie_that_browsers_would_drop_is_not_made() -> None:
    assert flow_cookie(SITE, ID, "s" * 3900) is not None
    assert flow_cookie(SITE, ID, "s" * 4000) is None


def test_an_ended_cookie_has_the_attributes_that_its_prefix_demands() -> None:
    assert ended_flow_cookie(SITE, ID) == (
        "set-cookie",
        f"__Host-mcp-flow-{ID}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure",
    )


def test_the_oldest_flows_go_first() -> None:
    held = "; ".join(f"__Host-mcp-flow-{n:032d}=x" for n in range(9))
    ended = [value.partition("=")[0] for _, value in surplus_flows(SITE, request(held), 10)]
    assert ended == [f"__Host-mcp-flow-{n:032d}" for n in range(2)]
    assert surplus_flows(SITE, request(), 10) == ()
