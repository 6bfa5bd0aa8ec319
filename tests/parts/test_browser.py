"""The substitute for a browser does what browsers do where servers depend on it."""

from __future__ import annotations

from urllib.parse import parse_qs

import httpx2
import pytest

from .browser import LoginStuck, walk_login

END = "http://localhost:9/callback"


def browser_over(*answers: httpx2.Response) -> tuple[httpx2.AsyncClient, list[httpx2.Request]]:
    """A browser that gets `answers` one after the other, and the requests it makes."""
    asked: list[httpx2.Request] = []
    waiting = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return next(waiting)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer)), asked


def page(html: str, **headers: str) -> httpx2.Response:
    return httpx2.Response(200, headers={name.replace("_", "-"): value for name, value in headers.items()}, html=html)


def redirect(status: int, location: str, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, headers={"location": location, **named})


CONSENT = """
<form method=post action=/no><button name=do value=deny>Cancel</button></form>
<form method=post action=/yes><input type=hidden name=t value=1><button name=do value=deny>Deny</button>
<button name=do value=allow>Allow</button></form>
"""


async def test_it_says_yes_and_carries_its_cookies() -> None:
    browser, asked = browser_over(
        redirect(303, "/page", set_cookie="a=1; Path=/"),
        page(CONSENT, set_cookie="secure=1; Secure"),
        redirect(303, END + "?code=1"),
    )
    async with browser:
        assert await walk_login("http://localhost:8/start", END, browser=browser) == END + "?code=1"
    posted = asked[-1]
    assert (posted.method, posted.url.path) == ("POST", "/yes")
    assert parse_qs(posted.content.decode()) == {"t": ["1"], "do": ["allow"]}
    assert posted.headers["cookie"] == "a=1"  # a Secure cookie does not travel over http
    assert posted.headers["origin"] == "http://localhost:8"


async def test_origin_is_null_below_no_referrer() -> None:
    browser, asked = browser_over(page(CONSENT, referrer_policy="no-referrer"), redirect(302, END))
    async with browser:
        await walk_login("http://localhost:8/start", END, browser=browser)
    assert asked[-1].headers["origin"] == "null"
    assert "referer" not in asked[-1].headers


@pytest.mark.parametrize(("status", "method"), [(303, "GET"), (302, "GET"), (307, "POST")])
async def test_a_redirect_keeps_the_form_only_with_307(status: int, method: str) -> None:
    browser, asked = browser_over(page(CONSENT), redirect(status, "/next"), redirect(303, END))
    async with browser:
        await walk_login("http://localhost:8/start", END, browser=browser)
    assert asked[-1].method == method


async def test_it_fills_in_a_login() -> None:
    login = "<form method=post><input name=login><input type=password name=password><button>Go</button></form>"
    browser, asked = browser_over(page(login), redirect(303, END))
    async with browser:
        await walk_login("http://localhost:8/start", END, "bob", password="pw", browser=browser)
    assert parse_qs(asked[-1].content.decode()) == {"login": ["bob"], "password": ["pw"]}


async def test_a_link_to_the_end_is_followed() -> None:
    browser, _ = browser_over(page(f'<a href="{END}?code=2&amp;state=3">Continue</a>'))
    async with browser:
        assert await walk_login("http://localhost:8/start", END, browser=browser) == END + "?code=2&state=3"


@pytest.mark.parametrize("answer", [page("<p>Something went wrong"), httpx2.Response(403, html=CONSENT)])
async def test_a_dead_end_shows_the_way(answer: httpx2.Response) -> None:
    browser, _ = browser_over(answer)
    async with browser:
        with pytest.raises(LoginStuck, match="GET http://localhost:8/start -> "):
            await walk_login("http://localhost:8/start", END, browser=browser)
