"""Finding the authorization server of an upstream, and what it says of itself (RFC 9728, RFC 8414, MCP "Discovery").

A resource's metadata is read for each login, a server's kept for minutes, for the
upstream that led there and for nobody else. Whether an upstream wants a login is
not decided here: an upstream that publishes metadata may be public. This file
must not know clients, people or tokens.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import trio

from ...config.model import Upstream
from ...errors import ConnectFailed
from ...protocol.brokering.challenge import Challenge
from ...protocol.brokering.resource import (
    ResourceMetadata,
    parse_resource_metadata,
    resource_metadata_urls,
    resource_of,
)
from ...protocol.brokering.server import (
    OtherIssuer,
    ServerMetadata,
    default_server,
    is_same_issuer,
    metadata_urls,
    parse_server_metadata,
)
from ...protocol.oidc.documents import quotable_url
from ..network.learned_http import Answer
from .http import OAuthHttp, reach_of

KEPT_FOR = 300.0  # seconds a server's metadata is believed
PAUSE = 5.0  # seconds after a failure in which others are told the same instead of trying again
MAX_KEPT = 500  # servers' metadata
_ACCEPT = {"accept": "application/json", "mcp-protocol-version": "2025-11-25"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Discovered:
    """Where to log in for an upstream. `resource` is its own name, as it publishes it; `scopes` are those it lists."""

    server: ServerMetadata
    resource: str
    scopes: tuple[str, ...] = ()


class Discovery:
    """Needs no task of its own: the first who asks for a server's metadata reads it, the others wait for that."""

    def __init__(self, http: OAuthHttp) -> None:
        self._http = http
        self._kept: OrderedDict[tuple[str, str], tuple[ServerMetadata | ConnectFailed, float]] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, str], trio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Discovery [{len(self._kept)} kept]>"

    async def discover(self, upstream: Upstream, challenge: Challenge) -> Discovered:
        """Follow the upstream's words, or the operator's, to an authorization server.

        Raises:
            ConnectFailed: if there is none that can be used now.
        """
        configured = upstream.account.authorization_server
        if configured is not None:
            try:
                resource = await self._resource(upstream, challenge)
            except ConnectFailed as exc:
                log.info("%s: its metadata is not used, since authorizationServer is set: %s", upstream.name, exc)
                resource = None
            server = await self.server(upstream, configured)
        else:
            resource = await self._resource(upstream, challenge)
            issuers = (resource.authorization_servers if resource else ()) or (_origin(upstream.url),)
            server = await self._first_usable(upstream, issuers)
        if resource is None:
            return Discovered(server, resource_of(upstream.url))
        return Discovered(server, resource.resource, resource.scopes)

    async def server(self, upstream: Upstream, issuer: str) -> ServerMetadata:
        """What the server `issuer` says of itself, as far as this upstream is concerned.

        Raises:
            ConnectFailed: if it cannot be told now. `OtherIssuer`: if somebody else answers in its place.
        """
        key = (upstream.name, issuer)
        lock = self._locks.setdefault(key, trio.Lock())
        async with lock:
            kept, until = self._kept.get(key, (None, 0.0))
            if kept is None or until <= trio.current_time():
                kept = await self._read_and_keep(upstream, issuer)
        if isinstance(kept, ConnectFailed):
            raise kept.with_traceback(None)
        return kept

    async def _read_and_keep(self, upstream: Upstream, issuer: str) -> ServerMetadata | ConnectFailed:
        outcome: ServerMetadata | ConnectFailed
        try:
            outcome, lifetime = await self._read_server(upstream, issuer), KEPT_FOR
        except ConnectFailed as exc:
            known, _ = self._kept.get((upstream.name, issuer), (None, 0.0))
            # What was good stays good while nobody says otherwise: refreshes do not depend on a second host's health.
            outcome = known if exc.temporary and isinstance(known, ServerMetadata) else exc
            lifetime = PAUSE
        self._kept[upstream.name, issuer] = outcome, trio.current_time() + lifetime
        self._kept.move_to_end((upstream.name, issuer))
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return outcome

    async def _resource(self, upstream: Upstream, challenge: Challenge) -> ResourceMetadata | None:
        """The upstream's own metadata; None where it publishes none anywhere."""
        reach, failure = reach_of(upstream), None
        for url in resource_metadata_urls(upstream.url, challenge.resource_metadata):
            try:
                answer = await self._http.get(reach, url, _ACCEPT)
                if _is_document(answer):
                    return parse_resource_metadata(answer.body, url, upstream.url)
                _raise_if_broken(answer)
            except ConnectFailed as exc:
                failure = failure or exc
        if failure is not None:
            raise failure
        return None

    async def _first_usable(self, upstream: Upstream, issuers: Iterable[str]) -> ServerMetadata:
        failure = None
        for issuer in issuers:
            try:
                return await self.server(upstream, issuer)
            except ConnectFailed as exc:
                if exc.temporary:  # it is the one to use; another would be another account for the same person
                    raise
                failure = failure or exc
        assert failure is not None
        raise failure

    async def _read_server(self, upstream: Upstream, issuer: str) -> ServerMetadata:
        reach, failure = reach_of(upstream), None
        if not reach.is_allowed(issuer):
            raise ConnectFailed("it names an authorization server that the aggregator does not go to")
        vouched = upstream.account.authorization_server
        is_vouched_for = vouched is not None and is_same_issuer(vouched, issuer)
        login = upstream.browser_login
        by_any_name = login is not None and login.allow_issuer_mismatch
        for url in metadata_urls(issuer):
            answer = await self._http.get(reach, url, _ACCEPT)  # a server that is not there has no second place either
            try:
                if _is_document(answer):
                    return parse_server_metadata(
                        answer.body, issuer, reach, is_vouched_for=is_vouched_for, by_any_name=by_any_name
                    )
                _raise_if_broken(answer)
            except ConnectFailed as exc:
                if failure is None or isinstance(failure, OtherIssuer):
                    failure = exc
        if failure is not None:
            raise failure
        if not is_vouched_for and is_same_issuer(issuer, _origin(upstream.url)):
            return default_server(_origin(upstream.url))
        raise ConnectFailed(f"{quotable_url(issuer)} publishes no metadata of an authorization server")


def _is_document(answer: Answer) -> bool:
    # Pages that answer every path with 200 are common, and so are documents served as text or octets.
    return answer.status == 200 and "html" not in answer.media_type


def _raise_if_broken(answer: Answer) -> None:
    if answer.status in (408, 429) or answer.status >= 500:
        raise ConnectFailed(f"its metadata cannot be had now (the answer was {answer.status})", temporary=True)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
