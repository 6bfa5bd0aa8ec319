"""``/connect/<upstream>``: a person goes to connect their own account at one upstream.

The address names the upstream and nothing else: it is worth nothing to whoever
finds it, and whoever opens it connects an account of their own (MCP elicitation,
"Safe URL handling"). GET asks, POST goes. What comes back is
`connect_callback`'s affair.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from ...config.model import AnyUpstream, Config, Upstream
from ...errors import ConnectFailed, Refusal, Unsealable, UpstreamLost
from ...protocol.brokering.flow import ConnectFlow, open_connect, seal_connect
from ...protocol.oauth.browser import BrowserSession
from ...protocol.oauth.site import Site
from ...protocol.oauth.words import display_name
from ..cookies import flow_cookie, flow_cookies, surplus_flows
from ..http import Request, Response, see_other
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session, session_of_form
from .accounts import Accounts
from .sign_in import begin_sign_in

log = logging.getLogger(__name__)


async def show_connect(authority: Authority, upstream: Upstream, request: Request) -> Response:
    """Ask whether the person wants to connect. Nobody is asked for anything yet, and nothing changes."""
    session = await find_session(authority, request)
    if session is None:
        return await begin_sign_in(authority, request, f"/connect/{upstream.name}")
    stored = await authority.store.find_connection(session.person.principal, upstream.name)
    return authority.pages.render(
        "connect.html",
        viewer=session,
        name=upstream.name,
        title=title_of(upstream),
        host=urlsplit(upstream.url).netloc,
        description=upstream.description,
        account=None if stored is None else stored.account,
        is_connected=stored is not None and stored.state == "connected",
    )


async def show_connected(authority: Authority, upstream: Upstream, request: Request) -> Response:
    """Where a login at `upstream` ends: which account is linked to whom, and what is next.

    What it says stands in the store, so that it may be loaded again, and its address holds nothing but names.

    Raises:
        StoreUnavailable: when it is not known who asks, or what they connected.
    """
    session = await find_session(authority, request)
    if session is None:
        return await begin_sign_in(authority, request, f"/connect/{upstream.name}")
    stored = await authority.store.find_connection(session.person.principal, upstream.name)
    if stored is None or stored.state != "connected":
        return see_other(authority.site.url(f"/connect/{upstream.name}"))
    return authority.pages.render(
        "connected.html",
        viewer=session,
        title=title_of(upstream),
        account=display_name(stored.account or ""),
        **following(authority, request.query_parameters().get("then", "").split(",")),
    )


def connected_path(upstream: Upstream, then: Iterable[str]) -> str:
    """The address of that page, with those `then` to go on with."""
    names = ",".join(then)
    return f"/connected/{upstream.name}" + (f"?then={names}" if names else "")


async def begin_connect(authority: Authority, accounts: Accounts, upstream: Upstream, request: Request) -> Response:
    """Send the person to the upstream's authorization server. The form may name upstreams to go on with, in `then`.

    Raises:
        Refusal: see `session_of_form`.
        StoreUnavailable: when it is not known who asks.
    """
    session, form = await session_of_form(authority, request)
    return await go_and_connect(authority, accounts, session, upstream, form.get("then", ""), request)


async def go_and_connect(
    authority: Authority,
    accounts: Accounts,
    session: BrowserSession,
    upstream: Upstream,
    then: str,
    request: Request,
) -> Response:
    """A page that leads on to the authorization server, with the flow in a cookie."""
    # 192 bits: a flow's id is its only name outside the cookie.
    flow_id, principal = secrets.token_urlsafe(24), session.person.principal
    known = {name: None for name in then.split(",") if name in accounts.upstreams and name != upstream.name}
    stored = await authority.store.find_connection(principal, upstream.name)
    try:
        beginning = await accounts.oauth.begin(
            upstream,
            challenge=await accounts.upstreams[upstream.name].ask_challenge(),
            wanted_scope=None if stored is None else stored.wanted_scope,
            state=flow_id,
            redirect_uri=await way_back(authority.config, authority.site, accounts, upstream, flow_id),
            unanswered=_clients_under_way(authority, upstream, request),
        )
    except UpstreamLost as exc:
        _forget(accounts, flow_id)
        log.warning("request %s: %s cannot connect %s: %s", request.request_id, principal, upstream.name, exc)
        words = sentence(str(exc))
        return not_connected(authority, session, upstream, request, failed_status(exc), words, then=known)
    flow = ConnectFlow(flow_id, principal, beginning, tuple(known))
    sealed = seal_connect(authority.keys, flow, now=authority.clock())
    cookie = flow_cookie(authority.site, flow_id, sealed)
    if cookie is None:
        _forget(accounts, flow_id)
        words = "What its authorization server asks us to remember is too long for a cookie."
        return not_connected(authority, session, upstream, request, 502, words, then=known)
    # A page and not a redirect: browsers hold the redirect that answers a form against the form's `form-action`, which
    # would have to name a host that nobody knows before this moment.
    page = authority.pages.render(
        "going.html",
        viewer=session,
        title=title_of(upstream),
        url=web_url(beginning.url),
        host=urlsplit(beginning.url).netloc,
    )
    return page.with_headers(cookie, *surplus_flows(authority.site, request, len(sealed)))


async def way_back(config: Config, site: Site, accounts: Accounts, upstream: Upstream, flow_id: str) -> str:
    """The redirect URI of one flow.

    Raises:
        UpstreamLost: if it needs a port that cannot be had.
    """
    page, login = site.url(callback_path(upstream)), upstream.browser_login
    if accounts.returns is None or login is None or not comes_back_by_port(config, upstream):
        return page
    return await accounts.returns.expect(flow_id, login.callback_port, page)


def _clients_under_way(authority: Authority, upstream: Upstream, request: Request) -> frozenset[str]:
    """As whom this browser has gone to the upstream's authorization server and not come back."""
    clients: set[str] = set()
    for sealed in flow_cookies(authority.site, request).values():
        try:
            flow = open_connect(authority.keys, sealed, now=authority.clock())
        except Unsealable:
            continue  # a login of another kind, or one too old
        if flow.beginning.upstream == upstream.name and not flow.heard:
            clients.add(flow.beginning.client_id)
    return frozenset(clients)


def _forget(accounts: Accounts, flow_id: str) -> None:
    if accounts.returns is not None:
        accounts.returns.forget(flow_id)


def comes_back_by_port(config: Config, upstream: Upstream) -> bool:
    """Whether logins come back to ``http://127.0.0.1:<callbackPort>/callback``, and from there to our page.

    A client that was registered beforehand was so for that address. One that we register ourselves is registered for
    it if the operator names a port that no other upstream has: where several share one, only an answer that carries
    `iss` tells their authorization servers apart (RFC 9700 4.4.2), and our own pages do so without.
    """
    login = upstream.browser_login
    if login is None or upstream.account.callback_path is not None:
        return False
    if upstream.account.client_id is not None or login.client_id_command:
        return True
    return login.callback_port != 0 and not any(
        other.name != upstream.name
        and other.browser_login is not None
        and other.browser_login.callback_port == login.callback_port
        for other in personal_of(config)
    )


def not_connected(
    authority: Authority,
    session: BrowserSession | None,
    upstream: Upstream | None,
    request: Request,
    status: int,
    message: str,
    *,
    then: Iterable[str] = (),
) -> Response:
    """A page that says why an account was not connected, with the way to try again, and on to the next of `then`."""
    return authority.pages.render(
        "not_connected.html",
        status=status,
        viewer=session,
        title=f"{title_of(upstream)} was not connected" if upstream is not None else "Nothing was connected",
        message=message,
        name=None if upstream is None else upstream.name,
        upstream=None if upstream is None else title_of(upstream),
        lasting=status == 502,  # trying again may not be enough
        **following(authority, then if session is not None else ()),
        request_id=request.request_id,
    )


def following(authority: Authority, then: Iterable[str]) -> dict[str, Any]:
    """What a page needs for its button that leads on to the next of several upstreams."""
    known = {upstream.name: upstream for upstream in personal(authority)}
    names = [name for name in then if name in known]
    first = (names[0], title_of(known[names[0]])) if names else None
    return {"following": first, "then": ",".join(names[1:])}


async def unknown_upstream(authority: Authority, request: Request) -> Response:
    """The answer to any other path below ``/connect``: 404, and to those who are signed in, what there is.

    Raises:
        StoreUnavailable: when it is not known who asks.
    """
    session = await find_session(authority, request)
    return authority.pages.render(
        "no_such_upstream.html",
        status=404,
        viewer=session,
        known=[] if session is None else [(u.name, title_of(u)) for u in personal(authority)],
        request_id=request.request_id,
    )


def personal(authority: Authority) -> tuple[Upstream, ...]:
    """The upstreams at which people have accounts of their own."""
    return personal_of(authority.config)


def personal_of(config: Config) -> tuple[Upstream, ...]:
    """The same of a configuration."""
    configured = (u for u in config.upstreams if isinstance(u, Upstream))
    return tuple(u for u in configured if u.enabled and u.auth_type == "user")


def callback_path(upstream: Upstream) -> str:
    """Below the issuer's path. RFC 9700 4.4.2.2: a redirect URI per authorization server, unless it says who it is."""
    return upstream.account.callback_path or f"/upstream-auth/callback/{upstream.name}"


def failed_status(failure: UpstreamLost) -> int:
    """503 says that the same may succeed in a while, 502 that somebody has to change something."""
    return 503 if isinstance(failure, ConnectFailed) and failure.temporary else 502


def title_of(upstream: AnyUpstream) -> str:
    return upstream.display_name or upstream.name


def sentence(text: str, limit: int = 300) -> str:
    """What happened, in others' words, fit for a page."""
    text = display_name(text, limit)
    begin = text if "://" in text.split(" ", 1)[0] else text[:1].upper() + text[1:]  # an address stays as it is
    return begin + ("" if text.endswith((".", "!", "?")) else ".")


def web_url(url: str) -> str:
    """`url`, which is about to become a link: whatever was checked before, never one that runs as a script.

    Raises:
        Refusal: 502 for anything but http and https.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise Refusal(502, "server_error", "The upstream's authorization server named an address that is none.")
    return url
