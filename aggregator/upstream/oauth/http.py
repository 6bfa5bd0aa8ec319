"""Requests to where an upstream leads us for OAuth: each by the way that its URL may go, or not at all.

There are two ways (`protocol.brokering.reach`): over the public internet as to
any stranger, and over the operator's own network. Redirects are followed on
neither. The true cause of a failure goes to the log; what is raised is the same
for every host that cannot be had, so that nobody scans networks through us. This
file must not know what is asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import urlencode

from ...config.model import Upstream
from ...errors import ConnectFailed, Unfetchable
from ...protocol.brokering.reach import Reach
from ...protocol.learned_url import NotPlainUrl
from ...protocol.oidc.documents import quotable_url
from ..network.learned_http import Answer, LearnedHttp, open_inside_http, open_learned_http
from ..network.proxy import Proxy
from ..network.public_network import Resolve

MAX_DOCUMENT = 64 * 1024  # bytes; metadata of real servers have 1 to 5 KB
MAX_ANSWER = 256 * 1024  # bytes; token answers with large ID tokens in them have 40 KB

_FORM = (b"content-type", b"application/x-www-form-urlencoded")
_JSON = (b"content-type", b"application/json")

log = logging.getLogger(__name__)


class OAuthHttp:
    """`outside` for strangers, `inside` for what the operator configured."""

    def __init__(self, outside: LearnedHttp, inside: LearnedHttp) -> None:
        self._outside = outside
        self._inside = inside

    async def get(self, reach: Reach, url: str, headers: Mapping[str, str], *, limit: int = MAX_DOCUMENT) -> Answer:
        """Raises:
        ConnectFailed: if the URL may not be used, or there is no answer.
        """
        return await self._exchange("GET", reach, url, _fields(headers), b"", limit)

    async def post_form(self, reach: Reach, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
        """Raises:
        ConnectFailed: as `get`.
        """
        return await self._exchange(
            "POST", reach, url, [_FORM, *_fields(headers)], urlencode(form).encode(), MAX_ANSWER
        )

    async def post_json(self, reach: Reach, url: str, content: Mapping[str, Any]) -> Answer:
        """Raises:
        ConnectFailed: as `get`.
        """
        fields = [_JSON, (b"accept", b"application/json")]
        return await self._exchange("POST", reach, url, fields, json.dumps(content).encode(), MAX_ANSWER)

    async def _exchange(
        self, method: str, reach: Reach, url: str, fields: list[tuple[bytes, bytes]], content: bytes, limit: int
    ) -> Answer:
        try:
            destination = reach.destination(url)
        except NotPlainUrl as exc:
            log.warning("%s is not asked: it %s", quotable_url(url), exc)
            raise ConnectFailed("it leads to an address that the aggregator does not go to") from exc
        http = self._inside if destination.is_inside else self._outside
        try:
            return await http.exchange(method, destination.url, limit=limit, headers=fields, content=content)
        except Unfetchable as exc:
            log.warning("%s %s: %s", method, quotable_url(url), exc)
            raise ConnectFailed("its authorization server cannot be reached now", temporary=True) from exc


def reach_of(upstream: Upstream) -> Reach:
    """What the operator said of this upstream's addresses."""
    account = upstream.account
    configured = [upstream.url, account.authorization_server]
    return Reach(tuple(url for url in configured if url), account.allow_private_network)


@asynccontextmanager
async def open_oauth_http(
    public: SSLContext, own: SSLContext, *, proxy: Proxy | None = None, resolve: Resolve | None = None
) -> AsyncIterator[OAuthHttp]:
    """`public` trusts the system's authorities, `own` what upstreams may have. For `resolve` see `PublicNetwork`."""
    async with (
        open_learned_http(public, proxy=proxy, resolve=resolve) as outside,
        open_inside_http(own, proxy=proxy) as inside,
    ):
        yield OAuthHttp(outside, inside)


def _fields(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode()) for name, value in headers.items()]
