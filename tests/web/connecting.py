"""A deployment with upstreams that have accounts, and browsers on the way to connect them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from aggregator.web.http import Response

from .account_fakes import FakeAccounts
from .deployment import (
    ANNA,
    FROM_OWN_PAGE,
    ISSUER,
    Browser,
    Deployment,
    hidden_fields,
    location,
    text_of,
)


class World:
    """A deployment, its people's accounts, and browsers."""

    def __init__(self, *, fakes: FakeAccounts | None = None, **settings: Any) -> None:
        self.fakes = fakes or FakeAccounts()
        self.deployment = Deployment(accounts=self.fakes.accounts(), upstreams=self.fakes.upstreams, **settings)
        self.fakes.connecting.store = self.deployment.store

    async def signed_in(self, person: Any = ANNA) -> Browser:
        browser = Browser(self.deployment)
        await browser.sign_in(person)
        return browser

    @property
    def saved(self) -> dict[tuple[str, str], str | None]:
        found = self.fakes.connecting.saved
        return {(principal.subject, upstream): issued.account for (principal, upstream), issued in found.items()}

    @property
    def redeemed(self) -> list[str]:
        return self.fakes.oauth.redeemed


async def begun(browser: Browser, upstream: str = "gmail", **form: str) -> str:
    """Press Connect; where the browser stands then."""
    page = await browser.get(f"/connect/{upstream}")
    return destination(await browser.post(f"/connect/{upstream}", hidden_fields(page) | form, *FROM_OWN_PAGE))


async def came_back(browser: Browser, answer: str) -> Response:
    """The page that a browser shows which the authorization server sent to `answer`."""
    page = await browser.get(answer)
    if page.status == 303 and location(page).startswith(f"{ISSUER}/connected/"):
        return await browser.get(location(page).removeprefix(ISSUER))
    return page


def destination(page: Response) -> str:
    """Where a page leads on to, by itself and by its link."""
    assert page.status == 200, text_of(page)
    [url] = re.findall(r'<meta http-equiv="refresh" content="0;url=([^"]*)">', text_of(page))
    assert f'href="{url}"' in text_of(page)
    return unescape(url)
