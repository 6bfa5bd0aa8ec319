"""The ASGI application: from a scope to the one who answers, and the boundary where every failure becomes an answer.

Path, method, Host, Origin, body bounds and the request id are settled here. An
exception that nobody expected is logged once, with its traceback and the
request id, and answered 500 without detail. This file knows no OAuth and no MCP.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from ..errors import Refusal, StoreUnavailable
from .body import ClientGoneError, read_body
from .body_budget import BodyBudget
from .cors import cors_headers, preflight
from .gate import Gate
from .http import Endpoint, Request, Response, Route, see_other
from .refusals import ErrorPages, render_refusal, store_is_away, unexpected
from .reply import RawHeaders, Receive, Send, send_whole

_CORS: tuple[tuple[str, str], ...] = (("access-control-allow-origin", "*"),)
_PREFLIGHT = (
    *_CORS,
    ("access-control-allow-headers", "authorization, content-type, mcp-protocol-version"),
    ("access-control-max-age", "600"),
)

log = logging.getLogger(__name__)

McpHandler = Callable[[MutableMapping[str, Any], Receive, Send, RawHeaders], Awaitable[None]]


class Application:
    """Routes requests. `probes` are answered for any Host: a kubelet calls pods by address."""

    def __init__(
        self,
        gate: Gate,
        mcp_path: str,
        mcp: McpHandler,
        routes: Iterable[Route],
        probes: Iterable[Route],
        pages: ErrorPages,
        bodies: BodyBudget | None = None,
    ) -> None:
        self._gate = gate
        self._mcp_path = mcp_path
        self._home = mcp_path.removesuffix("mcp") if mcp_path.endswith("/mcp") else "/"
        self._mcp = mcp
        self.replace_routes(routes)
        self._probes = {route.path: route for route in probes}
        self._pages = pages
        self._bodies = bodies or BodyBudget()

    def replace_routes(self, routes: Iterable[Route]) -> None:
        """From now on there are these."""
        self._routes = {route.path: route for route in routes}
        self._trees = tuple((route.path + "/", route) for route in self._routes.values() if route.below)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Lifespan and WebSocket scopes are the caller's affair."""
        request_id = secrets.token_hex(8)
        begun = _Begun(send)
        try:
            with self._bodies.counting(scope["headers"], receive) as counted:
                await self._dispatch(scope, counted, begun, request_id)
        except ClientGoneError:
            pass
        except Refusal as exc:
            await self._refuse(scope, begun, exc, request_id)
        except StoreUnavailable as exc:
            log.error(
                "request %s: %s %s: the store is not available: %s", request_id, scope["method"], scope["path"], exc
            )
            await self._refuse(scope, begun, store_is_away(), request_id)
        except Exception:  # the request boundary; tests/test_imports.py lists the few places that catch everything
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            await self._refuse(scope, begun, unexpected(request_id), request_id)

    async def _dispatch(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, request_id: str) -> None:
        path: str = scope["path"]
        probe = self._probes.get(path)
        if probe is None:
            self._gate.check_host(_single(scope["headers"], b"host"))
        if path == self._mcp_path:
            await self._call_mcp(scope, receive, send, request_id)
            return
        route = probe or self._route_of(path)
        if route is None:
            raise Refusal(404, "not_found", f"Nothing is here; the MCP endpoint is {self._mcp_path}.")
        method = scope["method"]
        if method == "OPTIONS" and route.cors:
            allowed = ("access-control-allow-methods", ", ".join(route.methods))
            await _send(send, Response(204, b"", (*_PREFLIGHT, allowed)), request_id)
            return
        query, peer = scope["query_string"].decode("latin-1"), scope.get("client") or ("", 0)
        if (moved := self._home_of(scope, route, query)) is not None:
            await _send(send, see_other(moved), request_id)
            return
        body = await read_body(receive, route.body_limit)
        request = Request(method, path, query, tuple(scope["headers"]), body, request_id, str(peer[0]))
        response = await _endpoint(route, method)(request)
        if route.cors:
            response = response.with_headers(*_CORS)
        await _send(send, response, request_id, head_only=method == "HEAD")

    def _home_of(self, scope: MutableMapping[str, Any], route: Route, query: str) -> str | None:
        """The same page under the name of `issuerUrl`, for a person's browser that came by another of this computer."""
        if not route.page or scope["method"] != "GET" or "text/html" not in (_first(scope["headers"], b"accept") or ""):
            return None
        home = self._gate.home_of_pages(_first(scope["headers"], b"host") or "")
        return None if home is None else home + quote(scope["path"]) + (f"?{query}" if query else "")

    def _route_of(self, path: str) -> Route | None:
        return self._routes.get(path) or next((route for tree, route in self._trees if path.startswith(tree)), None)

    async def _call_mcp(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, request_id: str) -> None:
        origin = _single(scope["headers"], b"origin")
        self._gate.check_origin(origin)
        if scope["method"] == "GET" and "text/html" in (_first(scope["headers"], b"accept") or ""):
            # Somebody pasted the URL into a browser; an event stream is asked for in other words.
            await _send(send, see_other(self._home), request_id)
            return
        extra: RawHeaders = [(b"x-request-id", request_id.encode())]
        if origin is not None:
            if scope["method"] == "OPTIONS":
                requested = _first(scope["headers"], b"access-control-request-headers") or ""
                await _send(send, preflight(origin, requested), request_id)
                return
            extra.extend((key.encode(), value.encode()) for key, value in cors_headers(origin))
        await self._mcp(scope, receive, send, extra)

    async def _refuse(self, scope: MutableMapping[str, Any], begun: _Begun, refusal: Refusal, request_id: str) -> None:
        if begun.started:
            return  # the status is on the wire; ending the stream without an answer is all that can be said
        route = self._route_of(scope["path"])
        # At the MCP endpoint stand programs, whatever they accept.
        accept = "" if scope["path"] == self._mcp_path else _first(scope["headers"], b"accept") or ""
        response = render_refusal(refusal, route, self._pages, request_id, accept=accept)
        origin = _first(scope["headers"], b"origin")
        if route is not None and route.cors:
            response = response.with_headers(*_CORS)
        elif origin is not None and scope["path"] == self._mcp_path and self._gate.is_known_origin(origin):
            response = response.with_headers(*cors_headers(origin))
        await _send(begun, response, request_id, head_only=scope["method"] == "HEAD")


class _Begun:
    """`send`, remembering whether a response has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.started = True
        await self._send(message)


async def _send(send: Send, response: Response, request_id: str, *, head_only: bool = False) -> None:
    headers: RawHeaders = [(key.encode(), value.encode("latin-1", "replace")) for key, value in response.headers]
    headers.append((b"x-request-id", request_id.encode()))
    if all(key != b"x-content-type-options" for key, _ in headers):
        headers.append((b"x-content-type-options", b"nosniff"))
    await send_whole(send, response.status, headers, b"" if head_only else response.body)


def _endpoint(route: Route, method: str) -> Endpoint:
    endpoint = route.methods.get(method)
    if endpoint is None and method == "HEAD":
        endpoint = route.methods.get("GET")
    if endpoint is None:
        allowed = ", ".join(route.methods)
        raise Refusal(
            405, "invalid_request", f"{route.path} answers {allowed}, not {method[:20]}.", headers=(("allow", allowed),)
        )
    return endpoint


def _single(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise Refusal(400, "invalid_request", f"The header {name.decode()} stands more than once; send it once.")
    return values[0].decode("latin-1") if values else None


def _first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
