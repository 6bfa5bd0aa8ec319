"""A person with a browser, without the browser: cookies, redirects, forms.

It knows no page by name: it fills the form that looks like a login, and presses
the button that does not look like "no". What it does like a browser on purpose:
`Origin` on posts (``null`` below ``Referrer-Policy: no-referrer``), cookies by
RFC 6265, fetch metadata, 307 against 303.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

import httpx2

from .processes import PATIENCE

MAX_STEPS = 30
_NO = re.compile(r"\b(deny|refuse|cancel|reject|decline|no|abort|log ?out|sign ?out|switch|another)\b", re.IGNORECASE)
_USER_FIELDS = frozenset({"login", "username", "user", "email", "sub", "name", "account"})


class LoginStuck(AssertionError):
    """No redirect to the end, no form to fill; the text shows the way and the last page."""


@dataclass
class Button:
    name: str | None
    value: str
    label: str = ""


@dataclass
class Form:
    """One form of a page: where it goes, its fields by type, its buttons."""

    method: str
    action: str
    fields: list[tuple[str, str, str]] = field(default_factory=list)  # type, name, value
    buttons: list[Button] = field(default_factory=list)


class Page(HTMLParser):
    """The forms and links of an HTML page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._form: Form | None = None
        self._button: Button | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(given.get("method", "get").upper(), given.get("action", ""))
            self.forms.append(self._form)
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif self._form is not None and tag == "input":
            kind = given.get("type", "text").lower()
            if kind in ("submit", "image"):
                self._form.buttons.append(Button(given.get("name"), given.get("value", ""), given.get("value", "")))
            elif "name" in given and (kind not in ("checkbox", "radio") or "checked" in given):
                self._form.fields.append((kind, given["name"], given.get("value", "")))
        elif self._form is not None and tag == "button" and given.get("type", "submit").lower() == "submit":
            self._button = Button(given.get("name"), given.get("value", ""))
            self._form.buttons.append(self._button)

    def handle_data(self, data: str) -> None:
        if self._button is not None:
            self._button.label += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "button":
            self._button = None

    def best_form(self) -> Form | None:
        """The form a person would use: a login, else one with a button that does not say no."""
        ranked = sorted(self.forms, key=_rank)
        return ranked[0] if ranked and _rank(ranked[0]) < 9 else None


def _rank(form: Form) -> int:
    kinds = {kind for kind, _, _ in form.fields}
    if "password" in kinds:
        return 0
    if any(name.lower() in _USER_FIELDS and kind in ("text", "email") for kind, name, _ in form.fields):
        return 1
    return 2 if _yes_button(form) else 9


def _yes_button(form: Form) -> Button | None:
    return next((b for b in form.buttons if not _NO.search(f"{b.label} {b.value} {b.name or ''}")), None)


def open_browser() -> httpx2.AsyncClient:
    """The cookies of one person; pass it to several `walk_login` to stay logged in at the identity provider."""
    return httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=PATIENCE)


async def walk_login(
    url: str,
    redirect_prefix: str,
    user: str = "alice",
    *,
    password: str = "any password",
    browser: httpx2.AsyncClient | None = None,
    on_page: Callable[[str, str], None] | None = None,
) -> str:
    """Start at `url` and do what a willing person does until something leads to `redirect_prefix`; returns that URL.

    The final URL is not requested. `on_page` sees each page's URL and HTML.

    Raises:
        LoginStuck: when there is no way on.
    """
    if browser is None:
        async with open_browser() as fresh:
            return await walk_login(url, redirect_prefix, user, password=password, browser=fresh, on_page=on_page)
    way: list[str] = []
    form: dict[str, str] | None = None
    headers = {"sec-fetch-site": "none"}
    for _ in range(MAX_STEPS):
        method = "GET" if form is None else "POST"
        response = await browser.request(
            method, url, data=form, headers={"accept": "text/html", "sec-fetch-mode": "navigate", **headers}
        )
        way.append(f"{method} {url.partition('?')[0]} -> {response.status_code}")
        if response.has_redirect_location:
            url = urljoin(url, response.headers["location"])
            if url.startswith(redirect_prefix):
                return url
            form = form if response.status_code in (307, 308) else None
            headers = {"sec-fetch-site": "cross-site"}
            continue
        if on_page is not None:
            on_page(url, response.text)
        page = Page(response.text)
        if onward := next((link for link in page.links if link.startswith(redirect_prefix)), None):
            return onward
        chosen = page.best_form() if response.status_code < 400 else None
        if chosen is None:
            raise LoginStuck("\n".join(way) + "\n" + response.text[:2000])
        filled = _fill(chosen, user, password)
        headers = _post_headers(url, response)
        url = urljoin(url, chosen.action)
        if url.startswith(redirect_prefix):
            return url
        form = filled if chosen.method == "POST" else None
        if form is None:
            url = url.partition("?")[0] + "?" + urlencode(filled)
    raise LoginStuck("\n".join(way))


def _fill(form: Form, user: str, password: str) -> dict[str, str]:
    filled: dict[str, str] = {}
    for kind, name, value in form.fields:
        if kind == "password":
            filled[name] = password
        elif kind in ("text", "email") and (not value or name.lower() in _USER_FIELDS):
            filled[name] = user
        else:
            filled[name] = value
    button = _yes_button(form)
    if button is not None and button.name:
        filled[button.name] = button.value
    return filled


def _post_headers(url: str, page: httpx2.Response) -> dict[str, str]:
    parts = urlsplit(url)
    # Fetch, "append a request Origin header": null for a navigation whose page has Referrer-Policy no-referrer.
    hidden = page.headers.get("referrer-policy", "").strip().lower() == "no-referrer"
    origin = "null" if hidden else f"{parts.scheme}://{parts.netloc}"
    return {"origin": origin, "sec-fetch-site": "same-origin", **({} if hidden else {"referer": url})}
