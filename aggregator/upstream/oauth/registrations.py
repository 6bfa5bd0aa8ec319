"""What we are called at each authorization server: configured, by our document, or registered once and remembered.

A registration belongs to one upstream and one issuer, to one redirect URI and to
the scope it was made for; where one of them no longer fits, there is a new one,
and the secret of the old one stays for the connections that were made with it.
This file must not know people or tokens.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from weakref import WeakValueDictionary

import trio

from ...config.model import Upstream
from ...errors import ConnectFailed
from ...protocol.brokering.answers import error_of
from ...protocol.brokering.registration import (
    CLIENT_NAME,
    Client,
    RegistrationNeeded,
    choose_client,
    client_metadata,
    fits,
    process_registration_response,
    secret_method,
)
from ...protocol.brokering.server import ServerMetadata
from ...protocol.brokering.tokens import ClientRefused, probe_request, process_token_response
from ...protocol.oidc.documents import quotable_url
from ...store import Store, UpstreamRegistration
from .discovery import Discovery
from .http import OAuthHttp, reach_of

CONFIGURED = "configured"  # no issuer, but where it is remembered at which one the configured client is known
MARGIN = 600.0  # seconds a secret must last still: as long as a login may take

log = logging.getLogger(__name__)


class Registrations:
    """`document_url` is where our own metadata document stands, None if nobody outside could fetch it."""

    def __init__(
        self,
        http: OAuthHttp,
        discovery: Discovery,
        store: Store,
        clock: Callable[[], float],
        *,
        issuer_url: str,
        document_url: str | None,
    ) -> None:
        self._http = http
        self._discovery = discovery
        self._store = store
        self._clock = clock
        self._issuer_url = issuer_url
        self._document_url = document_url
        self._locks: WeakValueDictionary[tuple[str, str], trio.Lock] = WeakValueDictionary()

    async def client_for(
        self,
        upstream: Upstream,
        server: ServerMetadata,
        *,
        redirect_uri: str,
        scope: str | None,
        unanswered: Collection[str] = (),
    ) -> Client:
        """Who we are in a new login at `server`; we register if we must, once for all who ask.

        `unanswered` are the client ids of logins from which nobody came back: a registration among them is used only
        if the server still knows it.

        Raises:
            ConnectFailed: if we cannot become a client there.
            StoreUnavailable: if the registration cannot be remembered.
        """
        account = upstream.account
        secret = account.client_secret.reveal() if account.client_secret else None
        chosen = choose_client(
            server, client_id=account.client_id, client_secret=secret, document_url=self._document_url
        )
        if not isinstance(chosen, RegistrationNeeded):
            if account.client_id is not None and account.authorization_server is None:
                await self._bind(upstream, account.client_id, server)
            return chosen
        lock = self._locks.setdefault((upstream.name, server.issuer), trio.Lock())
        async with lock:
            known = await self._store.find_registration(upstream.name, server.issuer)
            now = self._clock() + MARGIN
            if known is not None and fits(
                known.redirect_uri, known.scope, known.expires_at, redirect_uri=redirect_uri, scope=scope, now=now
            ):
                client = _client(known)
                if client.client_id not in unanswered or await self._is_known(upstream, server, client, redirect_uri):
                    return client
                await self.forget(upstream, server.issuer, client.client_id)
                known = None
            return await self._register(upstream, server, chosen.endpoint, redirect_uri, scope, before=known)

    async def known(self, upstream: Upstream, issuer: str, client_id: str) -> Client:
        """The client that began a login or was given a refresh token; one without a secret if we know no more of it.

        Raises:
            StoreUnavailable: if it is not known now.
        """
        account = upstream.account
        if client_id == account.client_id:
            if account.client_secret is None:
                return Client(client_id)
            try:
                method = secret_method((await self._discovery.server(upstream, issuer)).auth_methods)
            except ConnectFailed:
                method = "client_secret_basic"  # RFC 6749 2.3.1: what every server has to take
            return Client(client_id, account.client_secret.reveal(), method)
        for place in (issuer, _former(issuer, client_id)):
            known = await self._store.find_registration(upstream.name, place)
            if known is not None and known.client_id == client_id:
                return _client(known)
        return Client(client_id)

    def is_ours_to_mend(self, upstream: Upstream, client_id: str) -> bool:
        """Whether a server that does not know this client would know another one that we register."""
        return client_id not in (upstream.account.client_id, self._document_url)

    async def forget(self, upstream: Upstream, issuer: str, client_id: str) -> None:
        """The server does not know this client any more: the next login registers anew.

        Raises:
            StoreUnavailable: if it cannot be forgotten.
        """
        await self._store.forget_registration(upstream.name, _former(issuer, client_id), client_id)
        if await self._store.forget_registration(upstream.name, issuer, client_id):
            log.warning("%s: %s no longer knows our registration; the next login registers anew", upstream.name, issuer)

    async def _is_known(self, upstream: Upstream, server: ServerMetadata, client: Client, redirect_uri: str) -> bool:
        """Whether the server still takes us for its client, unless it says otherwise.

        RFC 6749 4.1.2.1: to whom an unknown client sends, the server speaks itself and "MUST NOT automatically
        redirect". So we never hear of it, and everybody's logins would end there. Its token endpoint tells.
        """
        headers, form = probe_request(client, redirect_uri=redirect_uri, nonce=secrets.token_urlsafe(48))
        try:
            answer = await self._http.post_form(reach_of(upstream), server.token_endpoint, headers, form)
        except ConnectFailed:
            return True
        told = process_token_response(answer.status, answer.headers, answer.body, scope=None, now=self._clock())
        return not isinstance(told, ClientRefused)

    async def _bind(self, upstream: Upstream, client_id: str, server: ServerMetadata) -> None:
        """Let the configured client be that of one authorization server: the first that the upstream names.

        The operator registered it at one, and did not say at which. MCP, "Authorization Server Binding": credentials
        of one are not used at another; else an upstream could have the secret sent wherever it likes. What is
        remembered is a row of its own, under no issuer, with the issuer in the place of the redirect URI.
        """
        lock = self._locks.setdefault((upstream.name, CONFIGURED), trio.Lock())
        async with lock:
            known = await self._store.find_registration(upstream.name, CONFIGURED)
            if known is None or known.client_id != client_id:
                row = UpstreamRegistration(upstream.name, CONFIGURED, client_id, None, redirect_uri=server.issuer)
                await self._store.save_registration(row)
            elif known.redirect_uri != server.issuer:
                raise ConnectFailed(
                    f"it names the authorization server {quotable_url(server.issuer)} now, and its 'clientId' was used "
                    f"at {quotable_url(known.redirect_uri)}; the operator sets 'authorizationServer' to the right one"
                )

    async def _register(
        self,
        upstream: Upstream,
        server: ServerMetadata,
        endpoint: str,
        redirect_uri: str,
        scope: str | None,
        before: UpstreamRegistration | None,
    ) -> Client:
        """Register, in the place of what we were `before`: the secret of that is kept for the refresh tokens it got."""
        metadata = client_metadata(
            server,
            redirect_uri=redirect_uri,
            issuer_url=self._issuer_url,
            scope=scope,
            name=CLIENT_NAME if upstream.browser_login is None else upstream.browser_login.client_name,
        )
        answer = await self._http.post_json(reach_of(upstream), endpoint, metadata)
        if answer.status < 500 and (error := error_of(answer.body)):
            log.warning("%s: %s answered %d (%s)", upstream.name, quotable_url(endpoint), answer.status, error.told)
        method = metadata["token_endpoint_auth_method"]
        client = process_registration_response(
            server, answer.status, answer.headers, answer.body, method=method, now=self._clock()
        )
        made = UpstreamRegistration(
            upstream=upstream.name,
            issuer=server.issuer,
            client_id=client.client_id,
            client_secret=client.client_secret,
            auth_method=client.auth_method,
            redirect_uri=redirect_uri,
            scope=scope,
            expires_at=client.secret_until,
        )
        if before is not None and before.client_secret is not None:
            await self._store.save_registration(replace(before, issuer=_former(server.issuer, before.client_id)))
        await self._store.save_registration(made)
        log.info("%s: registered at %s", upstream.name, server.issuer)
        # Another process may have registered at the same moment; the one that is kept is the one whose secret lasts.
        kept = await self._store.find_registration(upstream.name, server.issuer)
        return _client(made if kept is None or kept.redirect_uri != redirect_uri else kept)


def _former(issuer: str, client_id: str) -> str:
    """Where a registration is kept that another one has taken the place of: no issuer holds a blank."""
    return f"{issuer} {client_id}"


def _client(registration: UpstreamRegistration) -> Client:
    return Client(registration.client_id, registration.client_secret, registration.auth_method, registration.expires_at)
