"""Bearer authentication: from the headers of a request to the person behind it.

This is the hot path of every call, so an opened token is remembered; expiry and
revocation are looked at each time. Query and body are not looked at: a token in
the query string is no credential (OAuth 2.1 5.1). This file must not know what
the person wants.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from ...config.model import Config
from ...errors import Unsealable
from ...protocol.oauth.challenge import (
    bearer_token,
    insufficient_scope,
    invalid_token,
    no_credentials,
    token_in_two_places,
)
from ...protocol.oauth.sealed import open_access
from ...protocol.oauth.site import SCOPE, site_of
from ...protocol.principal import Principal
from ...protocol.sealing import KeyRing
from .revocations import Revocations

MAX_OPENED = 4096  # tokens remembered; about 1.5 KB each
# Seconds for one stream of somebody who only listens, and so never has to show a token that is still good: a login that
# ends by age, or at the identity provider, is noticed at a refresh, which such a client need not make.
LISTENING_LIFETIME = 86400.0


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who sends the request, by which client and on which grant. `client` is the registration's id."""

    principal: Principal
    grant_id: str
    client: str
    scope: str
    expires_at: float


class BearerAuthentication:
    """Accepts exactly the access tokens issued by this deployment for its one resource."""

    def __init__(
        self, config: Config, keys: KeyRing, revocations: Revocations, clock: Callable[[], float] = time.time
    ) -> None:
        self._site = site_of(config.issuer_url)
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._opened: OrderedDict[bytes, Authenticated] = OrderedDict()
        self._edition = keys.edition

    def __repr__(self) -> str:
        return f"<BearerAuthentication {self._site.resource} [{len(self._opened)} tokens known]>"

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Authenticated:
        """The sender of a request with these headers (names in lower case).

        Raises:
            Refusal: 401 with ``WWW-Authenticate`` for no token or any token that is not good, 400 for two,
                403 for one without our scope, 503 when revocations have not been readable for a minute.
        """
        authorization = None
        for name, value in headers:
            if name == b"authorization":
                if authorization is not None:
                    raise token_in_two_places(self._site)
                authorization = value
        if authorization is None:
            raise no_credentials(self._site)
        now = self._clock()
        if self._edition is not self._keys.edition:  # what a dropped key sealed must not live on in here
            self._edition = self._keys.edition
            self._opened.clear()
        known = self._opened.get(authorization)
        if known is None:
            known = self._open(authorization, now)
        else:
            self._opened.move_to_end(authorization)
        if known.expires_at <= now or known.grant_id in self._revocations:
            self._opened.pop(authorization, None)
            raise invalid_token(self._site)
        self._revocations.require_fresh()
        return known

    async def wait_withdrawn(self, grant_id: str) -> None:
        """Return when the grant is revoked, as far as this process knows; after `LISTENING_LIFETIME` in any case."""
        with trio.move_on_after(LISTENING_LIFETIME):
            await self._revocations.wait_for(grant_id)

    def _open(self, authorization: bytes, now: float) -> Authenticated:
        text = bearer_token(authorization, self._site)
        try:
            token = open_access(self._keys, text, now=now)
        except Unsealable:
            raise invalid_token(self._site) from None
        # MCP, "Token Handling": servers "MUST validate that access tokens were issued specifically for them".
        if token.issuer != self._site.issuer or token.resource != self._site.resource:
            raise invalid_token(self._site)
        if SCOPE not in token.scope.split():
            raise insufficient_scope(self._site)
        opened = Authenticated(token.principal, token.grant_id, token.client, token.scope, token.expires_at)
        # RFC 6750 2.1 allows any number of spaces before the token: padded to 60 KB, 4096 spellings of it are 250 MB.
        if len(authorization) == len("Bearer ") + len(text):
            self._opened[authorization] = opened
        if len(self._opened) > MAX_OPENED:
            self._opened.popitem(last=False)
        return opened
