"""The organisation's identity provider: where people log in, reached over HTTP.

Here the pure steps of `protocol.oidc` meet the network. The provider's two
documents, metadata and keys, are kept and renewed in the background; a provider
that is down at start is waited for, and nobody else is. This file knows nothing
of browsers, cookies or our own tokens: whoever calls it made `state`, `nonce`
and verifier, and bound them to a browser.
"""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx2
import trio

from ...config.model import Auth
from ...errors import IdentityProviderUnavailable, LoginRefused
from ...protocol import oidc
from ...protocol.principal import Login, Principal, principal_of
from ..network.proxy import Proxy, proxied_transport
from ..network.sockets import reason
from .kept_document import KeptDocument

MAX_BODY = 256 * 1024  # bytes; the largest key sets of this world have 30
CONNECTIONS = 100  # at once
DEADLINE = 10.0  # seconds for one exchange, from connecting to the last byte
LIFETIME = 3600.0  # seconds a document is fresh when it does not say (the seed's value)
MIN_LIFETIME, MAX_LIFETIME = 300.0, 86400.0  # what we believe of Cache-Control: max-age
FIRST_RETRY, LAST_RETRY = 1.0, 30.0  # seconds
OFFLINE = "offline_access"  # OIDC Core 11: the scope that asks for a refresh token

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])", re.ASCII | re.IGNORECASE)
_SILENT = "it has not answered yet"
_FAILURES: Final = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """For readiness and people who look: can somebody log in now, and if not, why."""

    issuer: str
    available: bool
    detail: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class IdentityProvider:
    """One provider, as long as the block of `open_identity_provider` is open."""

    def __init__(
        self,
        auth: Auth,
        redirect_uri: str,
        client: httpx2.AsyncClient,
        nursery: trio.Nursery,
        clock: Callable[[], float],
    ) -> None:
        self._auth = auth
        self._redirect_uri = redirect_uri
        self._client = client
        self._clock = clock
        self._metadata = KeptDocument(nursery, self._read_metadata)
        self._keys = KeptDocument(nursery, self._read_keys)
        self._trouble: str | None = _SILENT

    def __repr__(self) -> str:
        return f"<IdentityProvider {self._auth.issuer} [{self._trouble or 'available'}]>"

    def status(self) -> ProviderStatus:
        """What is known without asking."""
        known = self._metadata.known is not None and self._keys.known is not None
        return ProviderStatus(self._auth.issuer, known, self._trouble or "available")

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        """Where to send the browser.

        Raises:
            IdentityProviderUnavailable: naming the provider and the reason, within seconds.
        """
        with self._named():
            return oidc.authorization_request(
                await self._metadata.get(),
                client_id=self._auth.client_id,
                redirect_uri=self._redirect_uri,
                scopes=self._auth.scopes,
                state=state,
                nonce=nonce,
                code_verifier=code_verifier,
            )

    async def finish(self, *, code: str, nonce: str, code_verifier: str, issuer: str | None) -> Login:
        """Exchange the code the browser brought for the person who logged in; `issuer` is the response's ``iss``.

        The provider's tokens are dropped once they said who it is, but for a refresh token that `auth.scopes` asked
        for. A wrong `issuer` is refused before the code is sent anywhere.

        Raises:
            LoginRefused: if the provider, its ID token or `auth.allow` says no.
            IdentityProviderUnavailable: if the provider cannot be asked, or refuses us as its client.
        """
        with self._named():
            metadata = await self._metadata.get()
            oidc.check_response_issuer(metadata, issuer)
            secret = self._auth.client_secret
            headers, form = oidc.token_request(
                metadata,
                client_id=self._auth.client_id,
                client_secret=secret.reveal() if secret else None,
                code=code,
                redirect_uri=self._redirect_uri,
                code_verifier=code_verifier,
            )
            answer = await self._exchange("POST", metadata.token_endpoint, headers, form)
            tokens = oidc.process_token_response(answer.status, answer.headers, answer.body)
            claims = await self._validate(tokens.id_token, metadata, nonce)
            claims = await self._complete(claims, tokens, metadata)
            person = oidc.person_from_claims(claims, metadata.issuer, self._auth.user_claim, self._auth.allow)
            # Without the scope a refresh token ends with the session in the browser, and would take logins with it.
            return Login(person, tokens.refresh_token if OFFLINE in self._auth.scopes else None)

    async def refresh(self, refresh_token: str, principal: Principal) -> oidc.Refreshed | oidc.Withdrawn:
        """Ask the provider whether it still vouches for the login of `principal` of which this refresh token came.

        A token it gives in exchange must be kept before anything else is awaited: the one sent may be void now.

        Raises:
            IdentityProviderUnavailable: if it does not say; nothing is known of the person then.
        """
        with self._named():
            metadata = await self._metadata.get()
            if principal_of(metadata.issuer, principal.subject) != principal:  # its token is nobody else's to see
                return oidc.Withdrawn(f"the login was at {principal.issuer}, and auth.issuer is another by now")
            secret = self._auth.client_secret
            headers, form = oidc.refresh_request(
                metadata,
                client_id=self._auth.client_id,
                client_secret=secret.reveal() if secret else None,
                refresh_token=refresh_token,
            )
            answer = await self._exchange("POST", metadata.token_endpoint, headers, form)
            return oidc.process_refresh_response(answer.status, answer.headers, answer.body)

    async def readmit(self, refreshed: oidc.Refreshed, principal: Principal) -> None:
        """Return if what the provider now says of the person is no reason to keep them out.

        Raises:
            LoginRefused: if `auth.allow` no longer lets them in, or they are somebody else by now.
            IdentityProviderUnavailable: if it cannot be told.
        """
        if refreshed.id_token is None:  # Core 12.2: the answer "might not contain an id_token"
            return
        tokens = oidc.ProviderTokens(refreshed.id_token, refreshed.access_token)
        with self._named():
            metadata = await self._metadata.get()
            try:
                claims = await self._validate(refreshed.id_token, metadata, None)
                claims = await self._complete(claims, tokens, metadata)
            except LoginRefused as exc:  # a token that is not valid says nothing
                raise IdentityProviderUnavailable(str(exc)) from exc
            if missing := oidc.missing_claims(claims, self._auth.user_claim, self._auth.allow):
                raise IdentityProviderUnavailable(f"its refreshed ID token lacks the claim '{missing[0]}'")
            person = oidc.person_from_claims(claims, metadata.issuer, self._auth.user_claim, self._auth.allow)
        if person.principal != principal:
            raise LoginRefused(f"the claim '{self._auth.user_claim}' names another person than at the login")

    async def _validate(self, id_token: str, metadata: oidc.ProviderMetadata, nonce: str | None) -> Mapping[str, Any]:
        """The claims of an ID token that is valid now.

        Raises:
            LoginRefused: if it is not.
        """
        keys = await self._keys.get()
        if not oidc.is_signed_by(id_token, keys):
            keys = await self._keys.get_newer()  # the provider may have rotated; at most once in 30 s
        client_id = self._auth.client_id
        return oidc.validate_id_token(id_token, keys, metadata, client_id=client_id, nonce=nonce, now=self._clock())

    async def _complete(
        self, claims: Mapping[str, Any], tokens: oidc.ProviderTokens, metadata: oidc.ProviderMetadata
    ) -> Mapping[str, Any]:
        """The claims, asked for at the userinfo endpoint if those of a valid ID token cannot decide the login."""
        if not oidc.missing_claims(claims, self._auth.user_claim, self._auth.allow):
            return claims
        asked = oidc.userinfo_request(metadata, tokens)
        if asked is None:
            return claims
        url, headers = asked
        answer = await self._exchange("GET", url, headers, None)
        return oidc.process_userinfo_response(answer.status, answer.headers, answer.body, claims)

    async def keep_current(self) -> None:
        """Read both documents, renew them when they age, and say once when that fails and once when it works again."""
        delay = FIRST_RETRY
        while True:
            try:
                if self._metadata.fresh_until <= trio.current_time():
                    await self._metadata.refresh()
                if self._keys.fresh_until <= trio.current_time():
                    await self._keys.refresh()
            except IdentityProviderUnavailable as exc:
                self._note(str(exc))
                await trio.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - spreads retries, hides nothing
                delay = min(delay * 2, LAST_RETRY)
            else:
                self._note(None)
                delay = FIRST_RETRY
                await trio.sleep_until(min(self._metadata.fresh_until, self._keys.fresh_until))

    def _note(self, trouble: str | None) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble == before:
            return
        if trouble is None:
            log.info("identity provider %s is available%s", self._auth.issuer, "" if before == _SILENT else " again")
        elif self.status().available:
            log.warning(
                "identity provider %s cannot be read anew: %s. Logins go on with what it said last; trying again",
                self._auth.issuer,
                trouble,
            )
        else:
            log.warning(
                "identity provider %s is not available: %s. Nobody can log in until it is; tokens already issued keep "
                "working; trying again",
                self._auth.issuer,
                trouble,
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that leave this file say which provider they speak of."""
        try:
            yield
        except IdentityProviderUnavailable as exc:
            raise IdentityProviderUnavailable(f"identity provider {self._auth.issuer}: {exc}") from exc

    async def _read_metadata(self) -> tuple[oidc.ProviderMetadata, float]:
        answer = await self._get(oidc.discovery_url(self._auth.issuer))
        metadata = oidc.parse_discovery(answer.body, self._auth.issuer, allow_http=self._auth.allow_http_issuer)
        known = self._metadata.known
        if known is not None and known.jwks_uri != metadata.jwks_uri:
            self._keys.forget()
        return metadata, _lifetime(answer)

    async def _read_keys(self) -> tuple[tuple[oidc.VerificationKey, ...], float]:
        answer = await self._get((await self._metadata.get()).jwks_uri)
        return oidc.parse_jwks(answer.body), _lifetime(answer)

    async def _get(self, url: str) -> _Answer:
        answer = await self._exchange("GET", url, {"accept": "application/json"}, None)
        if answer.status != 200:
            hint = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
            raise IdentityProviderUnavailable(f"{url} answered {answer.status}{hint}")
        return answer

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> _Answer:
        """One request and its whole answer, bounded in time and size."""
        try:
            with trio.fail_after(DEADLINE):
                # A compressed body could be small on the wire and huge here; we ask for none and take none.
                asked = {**headers, "accept-encoding": "identity"}
                async with self._client.stream(method, url, headers=asked, data=form) as response:
                    if response.headers.get("content-encoding", "identity") != "identity":
                        raise IdentityProviderUnavailable(f"{url} sent a compressed answer, which we did not ask for")
                    body = await _read_body(response)
                    if body is None:
                        raise IdentityProviderUnavailable(f"{url} sent more than {MAX_BODY // 1024} KiB")
                    return _Answer(response.status_code, response.headers, body)
        except trio.TooSlowError:
            raise IdentityProviderUnavailable(f"{url} did not answer within {DEADLINE:g} seconds") from None
        except _FAILURES as exc:
            raise IdentityProviderUnavailable(f"{url} cannot be reached: {reason(exc)}") from exc


async def _read_body(response: httpx2.Response) -> bytes | None:
    """The whole body, or None if it is larger than `MAX_BODY`."""
    body = bytearray()
    try:
        async with aclosing(response.aiter_raw()) as chunks:
            async for chunk in chunks:
                if len(body) > MAX_BODY:
                    break
                body += chunk
                if len(body) > MAX_BODY:
                    # The next read then fails, which unwinds the generators inside httpx2; leaving the loop here
                    # would leave them to the garbage collector.
                    await response.aclose()
    except httpx2.HTTPError:
        if len(body) <= MAX_BODY:
            raise
    return bytes(body) if len(body) <= MAX_BODY else None


def _lifetime(answer: _Answer) -> float:
    found = _MAX_AGE.search(answer.headers.get("cache-control", ""))
    return min(max(float(found[1]), MIN_LIFETIME), MAX_LIFETIME) if found else LIFETIME


@asynccontextmanager
async def open_identity_provider(
    auth: Auth,
    redirect_uri: str,
    *,
    clock: Callable[[], float] = time.time,
    ssl_context: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[IdentityProvider]:
    """The provider of `auth`; it opens at once, whether or not the provider answers.

    `ssl_context` is one to share (making one costs 40 ms); the default trusts the system's authorities and those of
    ``SSL_CERT_FILE``. `transport` replaces the network.
    """
    verify: ssl.SSLContext | bool = False
    if transport is None:
        verify = context = ssl_context or httpx2.create_ssl_context()
        transport = None if proxy is None else proxied_transport(proxy, context, CONNECTIONS)
    client = httpx2.AsyncClient(
        verify=verify,
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(DEADLINE, connect=5.0),
        # No connection is used twice: one that the other side closes meanwhile would eat a code that works once.
        limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # keeps nothing (LemonLDAP refuses its own cookie)
    )
    async with client, trio.open_nursery() as nursery:
        provider = IdentityProvider(auth, redirect_uri, client, nursery, clock)
        nursery.start_soon(provider.keep_current)
        yield provider
        nursery.cancel_scope.cancel("identity provider closed")
