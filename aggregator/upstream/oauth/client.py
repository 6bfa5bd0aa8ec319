"""Being an OAuth client of upstreams' authorization servers: begin a login, redeem its code, refresh, revoke.

Here the pure steps of `protocol.brokering` meet the network. Nothing is kept but
registrations, and servers' metadata for minutes: a login travels in the browser's
cookie, and tokens belong to `connections`. This file must not know cookies, pages
or whose tokens they are.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ssl import SSLContext

import trio

from ...config.model import Config, Upstream
from ...errors import ConnectFailed, StoreUnavailable
from ...protocol.brokering import Beginning, Ended, IssuedTokens, Postponed
from ...protocol.brokering.account import label_of_token_response, label_of_userinfo, userinfo_request
from ...protocol.brokering.answers import error_of
from ...protocol.brokering.authorization import (
    allowed_of,
    authorization_url,
    check_answer,
    scope_to_ask,
    scope_to_register,
)
from ...protocol.brokering.challenge import parse_challenge
from ...protocol.brokering.reach import is_public_https
from ...protocol.brokering.registration import Client
from ...protocol.brokering.server import OtherIssuer, ServerMetadata, is_same_issuer
from ...protocol.brokering.tokens import (
    ClientRefused,
    Exchange,
    code_request,
    process_token_response,
    refresh_request,
    revocation_request,
)
from ...protocol.oauth.site import site_of
from ...protocol.oidc.documents import quotable_url
from ...store import Store
from ..network.learned_http import Answer
from ..network.proxy import Proxy
from ..network.public_network import Resolve
from .client_programs import ClientPrograms
from .discovery import Discovery
from .http import OAuthHttp, open_oauth_http, reach_of
from .registrations import Registrations

DOCUMENT_PATH = "/.well-known/oauth-client"  # below the issuer URL: our Client ID Metadata Document
BEGIN_WITHIN = 25.0  # seconds for all of discovery and registration; a person looks at a waiting browser
LABEL_WITHIN = 3.0  # seconds that a connection may take longer so that the page can name the account
REVOKE_WITHIN = 10.0

log = logging.getLogger(__name__)


class OAuthClient:
    """Opened by `open_oauth_client`."""

    def __init__(
        self,
        config: Config,
        http: OAuthHttp,
        store: Store,
        clock: Callable[[], float],
        programs: ClientPrograms | None = None,
    ) -> None:
        self.know(each for each in config.upstreams if isinstance(each, Upstream))
        self._http = http
        self._clock = clock
        self._programs = ClientPrograms() if programs is None else programs
        self._discovery = Discovery(http)
        url = client_document_url(config.issuer_url)
        self._registrations = Registrations(
            http,
            self._discovery,
            store,
            clock,
            issuer_url=config.issuer_url,
            document_url=url if is_public_https(url) else None,
        )

    def know(self, upstreams: Iterable[Upstream]) -> None:
        """These are the upstreams of the configuration."""
        self._upstreams = {upstream.name: upstream for upstream in upstreams}

    def __repr__(self) -> str:
        return f"<OAuthClient of {len(self._upstreams)} upstreams, {self._discovery!r}>"

    async def begin(
        self,
        upstream: Upstream,
        *,
        challenge: str,
        wanted_scope: str | None,
        state: str,
        redirect_uri: str,
        unanswered: Collection[str] = (),
    ) -> Beginning:
        """Where a person connects their account at `upstream`.

        `challenge` is the upstream's WWW-Authenticate, empty if it said nothing. `wanted_scope` is what the login must
        bring, besides what is asked for anyway. `unanswered` are the client ids of logins that were begun a moment ago
        and from which the person did not come back: perhaps the server does not know us any more.

        Raises:
            ConnectFailed: if the way there cannot be had.
            StoreUnavailable: if our registration cannot be remembered.
        """
        with trio.move_on_after(BEGIN_WITHIN):
            filled = await self._programs.filled(upstream)
            return await self._begin(filled, challenge, wanted_scope, state, redirect_uri, unanswered)
        raise ConnectFailed(f"its authorization server took longer than {BEGIN_WITHIN:g} seconds", temporary=True)

    async def _begin(
        self,
        upstream: Upstream,
        challenge: str,
        wanted_scope: str | None,
        state: str,
        redirect_uri: str,
        unanswered: Collection[str],
    ) -> Beginning:
        account, challenged = upstream.account, parse_challenge(challenge)
        allowed = () if upstream.browser_login is None else upstream.browser_login.scope_filter
        found = await self._discovery.discover(upstream, challenged)
        scope = scope_to_ask(
            found.server,
            configured=account.scopes,
            challenged=challenged.scope,
            of_resource=found.scopes,
            wanted=wanted_scope,
            allowed=allowed,
        )
        client = await self._registrations.client_for(
            upstream,
            found.server,
            redirect_uri=redirect_uri,
            scope=scope_to_register(scope, allowed_of(found.scopes, allowed), account.scopes),
            unanswered=unanswered,
        )
        resource = found.resource if account.send_resource else None
        verifier = secrets.token_urlsafe(48)  # RFC 7636 4.1: 64 characters of 384 bits
        url = authorization_url(
            found.server,
            client_id=client.client_id,
            redirect_uri=redirect_uri,
            scope=scope,
            resource=resource,
            state=state,
            verifier=verifier,
            further=account.authorization_params,
        )
        return Beginning(
            url=url,
            upstream=upstream.name,
            issuer=found.server.issuer,
            token_endpoint=found.server.token_endpoint,
            iss_promised=found.server.iss_promised,
            client_id=client.client_id,
            resource=resource,
            scope=scope,
            redirect_uri=redirect_uri,
            verifier=verifier,
            answers_as=found.server.answers_as,
        )

    def check_answer(self, beginning: Beginning, parameters: Mapping[str, str]) -> None:
        """Return if the answer comes from the server asked, before anything in it is believed.

        Raises:
            Refusal: if it does not.
        """
        check_answer(beginning, parameters)

    async def redeem(self, beginning: Beginning, code: str) -> IssuedTokens:
        """The tokens for `code`, which goes to the recorded token endpoint alone, whatever the metadata says by now.

        The answer must have passed `check_answer`. A caller that is cancelled loses tokens that exist already.

        Raises:
            ConnectFailed: if there are none.
            StoreUnavailable: if it is not known who we are there; the code was sent nowhere.
        """
        upstream = self._upstreams.get(beginning.upstream)
        if upstream is None:
            raise ConnectFailed(f"there is no upstream {beginning.upstream} any more")
        upstream = await self._programs.filled(upstream)
        client = await self._registrations.known(upstream, beginning.issuer, beginning.client_id)
        request = code_request(
            client,
            code=code,
            redirect_uri=beginning.redirect_uri,
            verifier=beginning.verifier,
            resource=beginning.resource,
        )
        answer, outcome = await self._ask(upstream, beginning.token_endpoint, request, beginning.scope)
        match outcome:
            case IssuedTokens():
                label = await self._label(upstream, beginning.issuer, outcome, answer)
                return replace(outcome, account=label)
            case Ended():  # of a code: spent, too old, or not ours
                raise ConnectFailed("its authorization server does not accept this login; begin again")
            case Postponed(reason):
                raise ConnectFailed(reason, temporary=True)
            case ClientRefused(reason):
                if self._registrations.is_ours_to_mend(upstream, beginning.client_id):
                    await self._registrations.forget(upstream, beginning.issuer, beginning.client_id)
                    raise ConnectFailed(f"{reason}; begin again, and the aggregator registers anew", temporary=True)
                self._programs.forget(upstream)
                raise ConnectFailed(f"{reason}; the operator checks the upstream's 'clientId' and 'clientSecret'")

    async def refresh(
        self,
        upstream: Upstream,
        *,
        issuer: str,
        client_id: str,
        resource: str | None,
        scope: str | None,
        refresh_token: str,
        patient: bool = False,
    ) -> IssuedTokens | Ended | Postponed:
        """Exchange a refresh token at the server that gave it, and at no other.

        `scope` is what is granted so far: an answer that names none grants the same. A server that says not to know us
        may be mistaken for a moment: `patient` takes it for that, else the connection is at its end with the client.
        What the answer rotated is lost if the caller is cancelled meanwhile; after the answer nothing more is waited
        for.

        Raises:
            StoreUnavailable: if it is not known who we are there; nothing was sent.
        """
        if reason := _no_longer_configured(upstream, issuer):
            return Ended(reason)
        try:
            upstream = await self._programs.filled(upstream)
            server = await self._discovery.server(upstream, issuer)
            client = await self._registrations.known(upstream, server.issuer, client_id)
            named = resource if upstream.account.send_resource else None  # whatever was sent at the login
            request = refresh_request(client, refresh_token=refresh_token, resource=named)
            _, outcome = await self._ask(upstream, server.token_endpoint, request, scope)
        except OtherIssuer as exc:  # MCP, "Authorization Server Binding": nothing of the old one goes to the new one
            return Ended(str(exc))
        except ConnectFailed as exc:
            return Postponed(str(exc))
        if not isinstance(outcome, ClientRefused):
            return outcome
        if patient:
            return Postponed(outcome.reason)
        return await self._end_client(upstream, server, client, outcome)

    async def revoke(self, upstream: Upstream, *, issuer: str, client_id: str, token: str, hint: str) -> bool:
        """Have the server forget a token (RFC 7009), if it can; `hint` is ``refresh_token`` or ``access_token``.

        True if it said so. Takes `REVOKE_WITHIN` at most, and raises nothing.
        """
        if _no_longer_configured(upstream, issuer):
            return False
        with trio.move_on_after(REVOKE_WITHIN):
            try:
                upstream = await self._programs.filled(upstream)
                server = await self._discovery.server(upstream, issuer)
                if server.revocation_endpoint is None:
                    return False
                client = await self._registrations.known(upstream, server.issuer, client_id)
                headers, form = revocation_request(client, token=token, hint=hint)
                answer = await self._http.post_form(reach_of(upstream), server.revocation_endpoint, headers, form)
            except (ConnectFailed, StoreUnavailable) as exc:
                log.warning("%s: a token could not be revoked: %s", upstream.name, exc)
                return False
            return answer.status == 200
        return False

    async def _ask(
        self, upstream: Upstream, endpoint: str, request: Exchange, scope: str | None
    ) -> tuple[Answer, IssuedTokens | Ended | Postponed | ClientRefused]:
        answer = await self._http.post_form(reach_of(upstream), endpoint, *request)
        if answer.status < 500 and (error := error_of(answer.body)):
            log.warning("%s: %s answered %d (%s)", upstream.name, quotable_url(endpoint), answer.status, error.told)
        now = self._clock()
        return answer, process_token_response(answer.status, answer.headers, answer.body, scope=scope, now=now)

    async def _end_client(
        self, upstream: Upstream, server: ServerMetadata, client: Client, refused: ClientRefused
    ) -> Ended | Postponed:
        """A refresh token is bound to its client (RFC 6749 6): where that is gone, so is the connection."""
        if not self._registrations.is_ours_to_mend(upstream, client.client_id):
            self._programs.forget(upstream)
            return Postponed(refused.reason)
        try:
            await self._registrations.forget(upstream, server.issuer, client.client_id)
        except StoreUnavailable as exc:
            return Postponed(str(exc))
        return Ended(refused.reason)

    async def _label(self, upstream: Upstream, issuer: str, issued: IssuedTokens, answer: Answer) -> str | None:
        """How the person is called there, as far as it can be learned quickly."""
        label = label_of_token_response(answer.body)
        if label is not None:
            return label
        with trio.move_on_after(LABEL_WITHIN):
            try:
                server = await self._discovery.server(upstream, issuer)
                asked = userinfo_request(server, issued.scope, issued.access_token)
                if asked is not None:
                    told = await self._http.get(reach_of(upstream), *asked)
                    return label_of_userinfo(told.status, told.body)
            except ConnectFailed as exc:
                log.info("%s: the account's name is not known: %s", upstream.name, exc)
        return None


def client_document_url(issuer_url: str) -> str:
    """Where our Client ID Metadata Document stands: our client id, wherever such are taken."""
    return site_of(issuer_url).url(DOCUMENT_PATH)


def _no_longer_configured(upstream: Upstream, issuer: str) -> str | None:
    """Why a token of `issuer` is of no use for the upstream as it is configured now."""
    if not issuer:
        return "it is not known which authorization server it came from"
    configured = upstream.account.authorization_server
    if configured is not None and not is_same_issuer(configured, issuer):
        return "the upstream's authorization server is another one by now"
    return None


@asynccontextmanager
async def open_oauth_client(
    config: Config,
    store: Store,
    *,
    public: SSLContext,
    own: SSLContext,
    proxy: Proxy | None = None,
    resolve: Resolve | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[OAuthClient]:
    """As `open_oauth_http`. Requests under way end with the block."""
    async with open_oauth_http(public, own, proxy=proxy, resolve=resolve) as http:
        yield OAuthClient(config, http, store, clock)
