"""``/connections``: how a person stands with every upstream, and one thing to do for each.

This file must not know how a connection is made or ended.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from ...config.model import AnyUpstream
from ...errors import Refusal
from ...upstream.listings import UpstreamStatus
from ..http import Request, Response, see_other
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session, session_of_form
from .accounts import Accounts
from .connecting import go_and_connect, personal, sentence, title_of
from .sign_in import HOME, begin_sign_in

Action = Literal["Connect", "Reconnect", "Disconnect", "Forget"]


@dataclass(frozen=True, slots=True)
class Row:
    """One upstream as the person sees it. `tone` is good, wait, bad or nothing; `detail` may be empty.

    `action` is what there is to do, `also` what may be done besides: forget what is left of an ended connection, or
    connect again where an upstream wants to be allowed more.
    """

    name: str
    title: str
    host: str
    state: str
    tone: str
    detail: str
    tools: int
    action: Action | None
    also: Action | None = None


async def show_connections(authority: Authority, accounts: Accounts, request: Request) -> Response:
    session = await find_session(authority, request)
    if session is None:
        return await begin_sign_in(authority, request, HOME)
    configured = {upstream.name: upstream for upstream in authority.config.upstreams}
    rows = [row_of(configured[each.name], each) for each in await accounts.statuses(session.person.principal)]
    return authority.pages.render(
        "connections.html",
        viewer=session,
        place=HOME,
        rows=rows,
        expired=sum(row.action == "Reconnect" for row in rows),
    )


async def disconnect(authority: Authority, accounts: Accounts, request: Request) -> Response:
    """End the person's own connection at the upstream that the form names.

    Raises:
        Refusal: 404 for an upstream that people do not connect; else see `session_of_form`.
        StoreUnavailable: then it goes on.
    """
    session, form = await session_of_form(authority, request)
    name = form.get("upstream", "")
    if name not in {upstream.name for upstream in personal(authority)}:
        raise Refusal(404, "not_found", "There is no such upstream; nothing was changed.")
    await accounts.connections.disconnect(session.person.principal, name)
    return see_other(authority.site.url(HOME))


async def reconnect_all(authority: Authority, accounts: Accounts, request: Request) -> Response:
    """Begin with the first connection that needs a login; each one's page leads on to the next.

    Raises:
        Refusal: see `session_of_form`.
        StoreUnavailable: when it is not known how the person stands.
    """
    session, _ = await session_of_form(authority, request)
    own = {upstream.name: upstream for upstream in personal(authority)}
    statuses = await accounts.statuses(session.person.principal)
    ended = [own[each.name] for each in statuses if each.name in own and _has_ended(each)]
    if not ended:
        return see_other(authority.site.url(HOME))
    then = ",".join(upstream.name for upstream in ended[1:])
    return await go_and_connect(authority, accounts, session, ended[0], then, request)


def row_of(upstream: AnyUpstream, status: UpstreamStatus) -> Row:
    """What one status means for the person, and what they can do about it."""
    standing, own = status.standing, upstream.auth_type == "user"
    detail = ""
    action: Action | None = None
    if own:
        action = "Reconnect" if _has_ended(status) else "Connect" if standing.state == "shared" else "Disconnect"
    if status.state == "needs_login" and own:
        if action == "Reconnect":
            state, tone, detail = "Login needed", "bad", standing.reason or ""
        else:
            state, tone = "Not connected", "wait"
    elif status.state == "needs_login":
        state, tone, detail = "Refused", "bad", status.error or ""
    elif status.state == "unreachable":
        state, tone, detail = "Unreachable", "bad", status.error or ""
    elif status.state == "retrying":
        state, tone = "Trying again", "wait"
        when = "" if standing.next_try_at is None else f"; next try at {clock_time(standing.next_try_at)}"
        detail = f"{standing.reason or 'The login could not be renewed'}{when}"
    elif status.state == "connecting":
        state, tone = "Being looked at", "wait"
    elif status.state == "not_started":
        state, tone, detail = "Not started", "wait", "starts when it is first used"
    elif standing.state == "shared":
        state, tone, detail = "Shared", "good", "the same for everyone" if not own else "works without your account"
    else:
        state, tone, detail = "Connected", "good", standing.reason or ""
    also: Action | None = None
    if action == "Reconnect":
        also = "Forget"
    elif action == "Disconnect" and standing.state == "connected" and standing.reason is not None:
        also = "Reconnect"
    if standing.account and action == "Disconnect":
        detail = f"as {standing.account}" + (f". {sentence(detail)}" if detail else "")
    return Row(
        upstream.name,
        title_of(upstream),
        urlsplit(upstream.url).netloc if upstream.url else "runs here",
        state,
        tone,
        sentence(detail) if detail else "",
        status.tools,
        action,
        also,
    )


def clock_time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M:%S UTC")


def _has_ended(status: UpstreamStatus) -> bool:
    """The person had connected an account, and has to log in there again."""
    return status.standing.state == "needs_login"
