"""HTTP with hosts that nobody configured: a client's metadata document, an authorization server that an upstream names.

One request, one answer, bounded in time and size, over `PublicNetwork`. There is
no redirect, no cookie, no proxy from the environment, no connection used twice
and no decompression: the pool below does none of these, and nothing here adds
them. This file must not know what is fetched, nor who asked for it.

`Unfetchable` carries the true cause for the log. Whoever answers a stranger
says one and the same thing for every cause: else we would scan ports for them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpcore2
import trio

from ... import __version__
from ...errors import Unfetchable
from ...protocol.learned_url import HTTPS_PORT, LearnedUrl
from .proxy import ProxiedNetwork, Proxy
from .public_network import PublicNetwork, Resolve
from .sockets import TrioNetwork

DEADLINE = 10.0  # seconds for one exchange, from resolving to the last byte
CONNECTIONS = 100  # at once, to all such hosts together; more than the rates of those who ask let hang at once

_USER_AGENT = (b"user-agent", f"mcp-aggregator/{__version__}".encode())
_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    ssl.SSLError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are lower case; of several fields of one name the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class LearnedHttp:
    """Opened by `open_learned_http` or `open_inside_http`.

    `ports` are the ones that may be connected to, None for all; loopback's are free.
    """

    def __init__(
        self, pool: httpcore2.AsyncConnectionPool, ports: Collection[int] | None, *, allow_loopback: bool
    ) -> None:
        self._pool = pool
        self._ports = ports
        self._allow_loopback = allow_loopback

    async def fetch_json(self, url: LearnedUrl, *, limit: int) -> Answer:
        """GET a JSON document: status 200 and a JSON media type, or nothing.

        Raises:
            Unfetchable: see `exchange`.
        """
        answer = await self.exchange("GET", url, limit=limit, headers=[(b"accept", b"application/json")])
        if answer.status != 200:
            hint = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
            raise Unfetchable(f"{url.text} answered {answer.status}{hint}")
        if not is_json(answer.media_type):
            raise Unfetchable(f"{url.text} answered with content type {answer.media_type[:60]!r}, not JSON")
        return answer

    async def exchange(
        self,
        method: str,
        url: LearnedUrl,
        *,
        limit: int,
        headers: Collection[tuple[bytes, bytes]] = (),
        content: bytes = b"",
    ) -> Answer:
        """One request and its answer, of whatever status. Reading stops at `limit` bytes.

        Raises:
            Unfetchable: if the port or an address is not allowed, the host cannot be reached or proven, the answer is
                too large or compressed, or does not come within `DEADLINE`.
        """
        if self._ports is not None and url.port not in self._ports and not (self._allow_loopback and url.is_loopback):
            raise Unfetchable(f"{url.text} is at port {url.port}; allowed: {', '.join(map(str, sorted(self._ports)))}")
        length = [(b"content-length", b"%d" % len(content))] if content else []
        fields = [(b"host", url.netloc.encode()), (b"accept-encoding", b"identity"), _USER_AGENT, *length, *headers]
        target = httpcore2.URL(
            scheme=url.scheme.encode(),
            host=url.host.strip("[]").encode(),
            port=url.port,
            target=url.target.encode(),
        )
        request = httpcore2.Request(method, target, headers=fields, content=content)
        try:
            with trio.fail_after(DEADLINE):
                response = await self._pool.handle_async_request(request)
                try:
                    received = {
                        key.lower().decode("latin-1"): value.decode("latin-1") for key, value in response.headers
                    }
                    # A compressed body could be small on the wire and huge here; we ask for none and take none.
                    if received.get("content-encoding", "identity").lower() != "identity":
                        raise Unfetchable(f"{url.text} sent a compressed answer, which we did not ask for")
                    return Answer(response.status, received, await _read(url, response, limit))
                finally:
                    await response.aclose()
        except trio.TooSlowError:
            raise Unfetchable(f"{url.text} did not answer within {DEADLINE:g} seconds") from None
        except _FAILURES as exc:
            raise Unfetchable(f"{url.text} cannot be fetched: {str(exc) or type(exc).__name__}") from exc


def is_json(media_type: str) -> bool:
    """RFC 6839 3.1: application/json, or one that ends in +json."""
    kind, _, subtype = media_type.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


async def _read(url: LearnedUrl, response: httpcore2.Response, limit: int) -> bytes:
    body = bytearray()
    async with aclosing(response.aiter_stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise Unfetchable(f"{url.text} sent more than {limit} bytes")
    return bytes(body)


@asynccontextmanager
async def open_learned_http(
    context: ssl.SSLContext,
    *,
    allow_loopback: bool = False,
    ports: Collection[int] = (HTTPS_PORT,),
    resolve: Resolve | None = None,
    proxy: Proxy | None = None,
) -> AsyncIterator[LearnedHttp]:
    """For `allow_loopback`, `resolve` and `proxy` see `PublicNetwork`. Open requests end with the block."""
    async with httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=CONNECTIONS,
        max_keepalive_connections=0,  # RFC 9110 7.4: a connection proven for one name is not used for another
        http2=False,
        network_backend=PublicNetwork(allow_loopback=allow_loopback, resolve=resolve, proxy=proxy),
    ) as pool:
        yield LearnedHttp(pool, ports, allow_loopback=allow_loopback)


@asynccontextmanager
async def open_inside_http(context: ssl.SSLContext, *, proxy: Proxy | None = None) -> AsyncIterator[LearnedHttp]:
    """The same towards hosts of which the operator said that they may be reached, wherever they are and over plain http
    as well. Whoever uses this has compared the URL with the configuration first (`protocol.brokering.reach`)."""
    async with httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=CONNECTIONS,
        max_keepalive_connections=0,
        http2=False,
        network_backend=TrioNetwork() if proxy is None else ProxiedNetwork(proxy),
    ) as pool:
        yield LearnedHttp(pool, None, allow_loopback=True)
