"""A running server as the bridge's endpoint: over TCP, or through a Unix socket.

This file must not know what is sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from .endpoint import Answer, EndpointLost

CONNECT_WITHIN = 5.0  # seconds
# Seconds of silence. Servers send a sign of life more often; ours every 15 s.
SILENCE = 300.0


@dataclass(frozen=True, slots=True)
class _HttpAnswer:
    response: httpx2.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self.response.headers.items()}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self.response.aiter_bytes():
                yield chunk
        except httpx2.HTTPError as exc:
            raise EndpointLost(f"the answer broke off: {_words(exc)}", sent=True) from exc


class HttpEndpoint:
    """Opened by `open_http_endpoint`."""

    def __init__(self, http: httpx2.AsyncClient, url: str, shown: str) -> None:
        self._http = http
        self._url = url
        self._shown = shown

    def __repr__(self) -> str:
        return f"<HttpEndpoint {self._shown}>"

    @asynccontextmanager
    async def send(self, method: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        """See `Endpoint.send`."""
        request = self._http.build_request(method, self._url, headers=dict(headers), content=body or None)
        try:
            response = await self._http.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
            told = f"nobody answers at {self._shown} ({_words(exc)}); start it: mcp-aggregator serve"
            raise EndpointLost(told, sent=False) from exc
        except httpx2.HTTPError as exc:
            raise EndpointLost(f"{self._shown} did not answer: {_words(exc)}", sent=True) from exc
        try:
            yield _HttpAnswer(response)
        finally:
            await response.aclose()


@asynccontextmanager
async def open_http_endpoint(url: str, *, socket: str | None, token: str | None) -> AsyncIterator[HttpEndpoint]:
    """The endpoint at `url`, reached through the Unix socket at the path `socket` if there is one.

    No proxy of the environment is used, and no redirect followed: a token may go along.
    """
    transport = httpx2.AsyncHTTPTransport(uds=socket) if socket is not None else None
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=16)
    timeout = httpx2.Timeout(SILENCE, connect=CONNECT_WITHIN)
    async with httpx2.AsyncClient(
        transport=transport, headers=headers, limits=limits, timeout=timeout, trust_env=False
    ) as http:
        yield HttpEndpoint(http, url, url if socket is None else socket)


def _words(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
