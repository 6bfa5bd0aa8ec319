"""Sending a browser to the identity provider, whoever wants to know who the person is.

This file must not know what happens when it comes back.
"""

from __future__ import annotations

import logging

from ...errors import IdentityProviderUnavailable
from ...protocol.oauth.browser import SignIn
from ...protocol.oauth.sealed import Flow
from ..cookies import surplus_flows
from ..http import Request, Response, see_other
from .authority import Authority

log = logging.getLogger(__name__)


async def depart(
    authority: Authority, request: Request, flow: Flow | SignIn, cookie: tuple[str, str], *, otherwise: str
) -> Response:
    """303 to the provider's login page, with the `cookie` that holds the flow; a page if nobody can log in now.

    `otherwise` is what helps if waiting does not.
    """
    try:
        login = await authority.identity_provider.authorization_url(
            state=flow.id, nonce=flow.nonce, code_verifier=flow.verifier
        )
    except IdentityProviderUnavailable as exc:
        log.warning("nobody can log in: %s", exc)
        return authority.pages.error(
            503,
            "Sign-in is not available right now",
            f"The identity provider {authority.config.auth.issuer} cannot be reached.",
            f"Wait half a minute and reload this page. If that does not help: {otherwise}",
            request.request_id,
        ).with_headers(("retry-after", "30"))
    surplus = surplus_flows(authority.site, request, len(cookie[1]))
    return see_other(login, cookie, *surplus, ("referrer-policy", "no-referrer"))
