"""Where upstreams' authorization servers send people back: the answer, in the browser and for the person of the flow.

The code goes to the recorded token endpoint, once, after everything else was
found equal: browser, path, issuer, person (reference 3.6; MCP "Authorization
Response Validation"). Until then it goes nowhere, and nothing of the answer is
believed or shown. This file must not know what the tokens are for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import trio

from ...config.model import Upstream
from ...errors import ConnectFailed, Refusal, StoreUnavailable, Unsealable, UpstreamLost
from ...protocol.brokering import Beginning, IssuedTokens
from ...protocol.brokering.flow import ConnectFlow, open_connect, seal_connect
from ...protocol.oauth.browser import BrowserSession
from ...protocol.oauth.sealed import FLOW_LIFETIME
from ...protocol.principal import Principal
from ..cookies import ended_flow_cookie, flow_cookie, flow_cookies
from ..http import Request, Response, see_other
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session
from .accounts import Accounts
from .connecting import (
    callback_path,
    comes_back_by_port,
    connected_path,
    failed_status,
    not_connected,
    personal,
    sentence,
)
from .loopback_return import is_loopback_return
from .sign_in import begin_sign_in

REDEEM_TIMEOUT = 30.0  # seconds for the token endpoint; a person waits, and what it gave then is lost
# Seconds until what the code was spent for is offered to the store again: a restart of a database takes that long.
SAVE_AGAIN = (0.5, 1.5, 3.0)

_KEPT = ("code", "iss", "error")  # of an answer, while the person signs in
_DECLINED = frozenset({"access_denied", "consent_required", "interaction_required", "login_required"})

log = logging.getLogger(__name__)


async def connect_callback(authority: Authority, accounts: Accounts, path: str, request: Request) -> Response:
    """End a connect flow at `path`, one of our redirect URIs.

    Raises:
        StoreUnavailable: when it is not known who is signed in, or the flow cannot be spent; nothing was sent anywhere.
    """
    here = [upstream for upstream in personal(authority) if callback_path(upstream) == path]
    parameters = request.query_parameters()
    flow = None
    try:
        flow = _flow_of(authority, request, parameters.get("state"))
        parameters = dict(flow.answer) or parameters
        upstream = _checked(authority, accounts, flow, here, authority.site.url(path), parameters)
    except Refusal as exc:
        session = await find_session(authority, request)
        log.warning("request %s: an answer at %s is refused: %s", request.request_id, path, exc.description)
        only = here[0] if len(here) == 1 else None
        response = not_connected(authority, session, only, request, exc.status, exc.description)
        return response if flow is None else response.with_headers(*_noted(authority, flow))
    session = await find_session(authority, request)
    if session is None:
        return await _sign_in_first(authority, flow, path, parameters, request)
    ended = ended_flow_cookie(authority.site, flow.id)
    if session.person.principal != flow.principal:
        log.warning(
            "request %s: %s came back from a login at %s that %s began",
            request.request_id, session.person.principal.key, upstream.name, flow.principal.key,
        )  # fmt: skip
        words = "Another person began this in the same browser, so nothing was connected to your login."
        return not_connected(authority, session, upstream, request, 403, words).with_headers(ended)
    # From here on the flow is spent, and then tokens exist that nobody else has: neither is lost because the browser
    # leaves, or by a drain.
    with trio.CancelScope(shield=True):
        if accounts.returns is not None:
            accounts.returns.forget(flow.id)
        if not await authority.store.consume(f"connect:{flow.id}", expires_at=flow.started_at + 2 * FLOW_LIFETIME):
            words = "This was already answered once."
            response = not_connected(authority, session, upstream, request, 400, words)
        elif "error" in parameters or "code" not in parameters:
            response = _declined(authority, session, flow, upstream, parameters.get("error", ""), request)
        else:
            response = await _connect(authority, accounts, session, flow, upstream, parameters["code"], request)
    return response.with_headers(ended)


def _flow_of(authority: Authority, request: Request, state: str | None) -> ConnectFlow:
    sealed = flow_cookies(authority.site, request).get(state or "")
    if state is None or sealed is None:
        raise _other_browser()
    try:
        flow = open_connect(authority.keys, sealed, now=authority.clock())
    except Unsealable:
        raise _other_browser() from None
    if flow.id != state:
        raise _other_browser()
    return flow


def _noted(authority: Authority, flow: ConnectFlow) -> tuple[tuple[str, str], ...]:
    """The header that remembers that an answer came to the flow, which goes on."""
    sealed = seal_connect(authority.keys, replace(flow, heard=True), now=authority.clock())
    cookie = flow_cookie(authority.site, flow.id, sealed)
    return () if cookie is None else (cookie,)


def _checked(
    authority: Authority,
    accounts: Accounts,
    flow: ConnectFlow,
    here: list[Upstream],
    redirect_uri: str,
    parameters: Mapping[str, str],
) -> Upstream:
    """The upstream of the flow, if the answer came to its redirect URI from its authorization server.

    Raises:
        Refusal: if not.
    """
    upstream = next((upstream for upstream in here if upstream.name == flow.beginning.upstream), None)
    asked_for = flow.beginning.redirect_uri
    if upstream is None or not (
        redirect_uri == asked_for or (comes_back_by_port(authority.config, upstream) and is_loopback_return(asked_for))
    ):
        raise Refusal(403, "access_denied", "The answer arrived at another address than the one it was asked for at.")
    # RFC 9700 4.4.2: where the path does not tell authorization servers apart, only `iss` can.
    if len(here) > 1 and "iss" not in parameters:
        words = "The answer does not say which authorization server gave it, and several answer at this address."
        raise Refusal(403, "access_denied", words)
    accounts.oauth.check_answer(flow.beginning, parameters)
    if "code" not in parameters and "error" not in parameters:
        raise Refusal(400, "invalid_request", "The answer has neither a code nor an error.")
    return upstream


async def _sign_in_first(
    authority: Authority, flow: ConnectFlow, path: str, parameters: Mapping[str, str], request: Request
) -> Response:
    """The session ended on the way. The answer waits, sealed, until it is known who is there; nobody is adopted."""
    response = await begin_sign_in(authority, request, path, resume=flow.id)
    if flow.answer:
        return response
    waiting = replace(flow, answer={name: parameters[name] for name in _KEPT if name in parameters})
    sealed = seal_connect(authority.keys, waiting, now=authority.clock())
    cookie = flow_cookie(authority.site, flow.id, sealed)
    if cookie is None:
        words = "You were signed out on the way, and the answer is too long to be kept until you are back."
        return not_connected(authority, None, None, request, 400, words)
    return response.with_headers(cookie)


async def _connect(
    authority: Authority,
    accounts: Accounts,
    session: BrowserSession,
    flow: ConnectFlow,
    upstream: Upstream,
    code: str,
    request: Request,
) -> Response:
    who = flow.principal
    try:
        await redeem_and_save(accounts, who, upstream, flow.beginning, code)
    except UpstreamLost as exc:
        log.warning("request %s: %s: no tokens for %s: %s", request.request_id, upstream.name, who, exc)
        words = sentence(str(exc))
        return not_connected(authority, session, upstream, request, failed_status(exc), words, then=flow.then)
    # To a page of its own, which may be loaded again: this address has been answered, and holds the code.
    return see_other(authority.site.url(connected_path(upstream, flow.then)), ("referrer-policy", "no-referrer"))


async def redeem_and_save(
    accounts: Accounts, principal: Principal, upstream: Upstream, beginning: Beginning, code: str
) -> IssuedTokens:
    """Exchange the code of an answer that was checked, and remember what it was for. Nothing may cancel this.

    Raises:
        UpstreamLost: if there are no tokens.
        StoreUnavailable: if they cannot be remembered; they are lost then.
    """
    try:
        with trio.fail_after(REDEEM_TIMEOUT):
            issued = await accounts.oauth.redeem(beginning, code)
    except trio.TooSlowError as exc:
        told = f"its authorization server did not answer within {REDEEM_TIMEOUT:g} s"
        raise ConnectFailed(told, temporary=True) from exc
    for pause in (*SAVE_AGAIN, None):
        try:
            await accounts.connections.save(principal, upstream.name, beginning, issued)
            break
        except StoreUnavailable:
            if pause is None:
                raise
        await trio.sleep(pause)
    log.info("%s connected an account at %s", principal, upstream.name)
    return issued


def _declined(
    authority: Authority, session: BrowserSession, flow: ConnectFlow, upstream: Upstream, error: str, request: Request
) -> Response:
    """The authorization server says no. What it says is its own; here stand our words."""
    log.warning("request %s: %s answered with the error %r", request.request_id, upstream.name, error[:80])
    if error in _DECLINED:
        words = "Access was not allowed there, so nothing was connected."
    elif error == "temporarily_unavailable":
        words = "Its authorization server has no time right now. Wait a minute before the next try."
    else:
        words = "Its authorization server did not complete the login."
    status = 403 if error in _DECLINED else 502
    return not_connected(authority, session, upstream, request, status, words, then=flow.then)


def _other_browser() -> Refusal:
    return Refusal(
        403,
        "access_denied",
        "This was begun in another browser, was already completed, or is older than ten minutes. Nothing was "
        "connected, and what came along was passed to nobody.",
    )
