"""``/clients``: the MCP clients that a person let in, and how to show one the door.

This file must not know tokens: a client's access is its grant (OAuth 2.1 7.9).
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass

from ...errors import Refusal, Unsealable
from ...protocol.oauth.client_document import parse_client_url
from ...protocol.oauth.redirects import parse_proven_redirect_uri
from ...store import Grant
from ..http import Request, Response, see_other
from ..oauth.authority import Authority
from ..oauth.browser_session import find_session, session_of_form
from .sign_in import begin_sign_in

PAGE = "/clients"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time for people, in words, and for programs."""

    text: str
    iso: str


@dataclass(frozen=True, slots=True)
class SignedInClient:
    """One grant as the person sees it. The name is the client's own claim; `where` is what was proven of it."""

    grant_id: str
    name: str
    where: str
    since: Moment
    last_used: Moment | None


async def show_clients(authority: Authority, request: Request) -> Response:
    session = await find_session(authority, request)
    if session is None:
        return await begin_sign_in(authority, request, PAGE)
    grants = await authority.store.grants_of(session.person.principal)
    return authority.pages.render(
        "clients.html",
        viewer=session,
        place=PAGE,
        clients=[signed_in_client(grant) for grant in grants],
        mcp_url=authority.site.resource,
    )


async def revoke_client(authority: Authority, request: Request) -> Response:
    """End one of the person's own grants: its codes, refresh and access tokens.

    Raises:
        Refusal: 404 for a grant that is not theirs, as for one that does not exist; else see `session_of_form`.
        StoreUnavailable: then it goes on.
    """
    session, form = await session_of_form(authority, request)
    principal = session.person.principal
    grant = await authority.store.find_grant(form.get("grant", ""))
    if grant is None or grant.principal != principal:
        raise Refusal(404, "not_found", "This client has no access any more.")
    if await authority.store.revoke_grant(grant.id, now=authority.clock()):
        log.info("%s revoked client %s (%r): grant %s", principal.key, grant.client, grant.client_name, grant.id)
    authority.revocations.add(grant.id)
    return see_other(authority.site.url(PAGE))


def signed_in_client(grant: Grant) -> SignedInClient:
    last_used = grant.last_used_at or grant.rotated_at
    return SignedInClient(
        grant.id,
        grant.client_name,
        _where(grant),
        moment(grant.created_at),
        None if last_used is None else moment(last_used),
    )


def moment(at: float) -> Moment:
    when = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return Moment(when.strftime("%-d %b %Y, %H:%M UTC"), when.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _where(grant: Grant) -> str:
    try:
        return parse_client_url(grant.client).netloc
    except Unsealable:
        redirect = parse_proven_redirect_uri(grant.redirect_uri)
    if redirect.is_loopback or redirect.is_private_use:
        return f"an app on a computer ({redirect.netloc})"
    return redirect.netloc
