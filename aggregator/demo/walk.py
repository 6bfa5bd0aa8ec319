"""The whole way from a refused request to tools of both servers, without a browser and without knowing the pages.

This file plays three parts: an MCP client, its person's browser, and the
person. It must not know the aggregator's insides: it follows what the answers
say, as strangers do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2
import trio

from .forms import Form, parse_forms

REDIRECT_URI = "http://127.0.0.1:33418/callback"  # nobody listens: the walk stops before following it
NEW, OLD = "2026-07-28", "2025-11-25"
MAX_REDIRECTS = 8
TOOLS = {f"demo__{name}" for name in ("echo", "add", "now", "slow", "fail")} | {"notes__add_note", "notes__list_notes"}

_IDENTITY: Final = {"name": "demo-check", "version": "1"}
_FAILURES: Final = (httpx2.HTTPError, httpx2.InvalidURL, LookupError, ValueError, TypeError)


class StepFailed(Exception):
    """A step did not go as it should; the text names the step and says what came instead."""


class Walk:
    """One client and one browser on their way. The steps are called in the order of `steps`."""

    def __init__(self, url: str, program: httpx2.AsyncClient, browser: httpx2.AsyncClient) -> None:
        self._resource = f"{url}/mcp"
        self._program = program
        self._browser = browser
        self._verifier = secrets.token_urlsafe(48)
        self._state = secrets.token_urlsafe(16)
        self._server: dict[str, Any] = {}
        self._tokens: dict[str, Any] = {}
        self._metadata_url = self._client_id = self._session = ""
        self._page: httpx2.Response | None = None
        self._code = ""
        self._note = f"written by the check, {secrets.token_hex(4)}"

    @property
    def steps(self) -> tuple[tuple[str, Callable[[], Awaitable[str]]], ...]:
        return (
            ("a request without a token is refused", self._be_refused),
            ("the refusal leads to the resource's metadata", self._find_resource),
            ("which leads to the authorization server's", self._find_server),
            ("the client registers itself", self._register),
            ("the browser is sent to the sign-in page", self._authorize),
            ("Alice signs in", self._sign_in),
            ("she allows the client", self._consent),
            ("the code becomes tokens", self._redeem),
            ("and the refresh token new ones", self._refresh),
            (f"tools/list, {NEW}", self._list_new),
            (f"demo__add, {NEW}", self._add_new),
            (f"demo__slow, {NEW}, with progress", self._progress_new),
            (f"notes__add_note, {NEW} to an older server", self._note_new),
            (f"initialize, {OLD}", self._initialize_old),
            (f"tools/list, {OLD}", self._list_old),
            (f"demo__echo, {OLD} to a newer server", self._echo_old),
            (f"notes__list_notes, {OLD}", self._notes_old),
        )

    # Finding the way in

    async def _be_refused(self) -> str:
        answer = await self._program.post(self._resource, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        _expect(answer, 401)
        found = re.search(r'resource_metadata="([^"]+)"', answer.headers.get("www-authenticate", ""))
        if found is None:
            raise LookupError("WWW-Authenticate names no resource_metadata")
        self._metadata_url = found[1]
        return "401"

    async def _find_resource(self) -> str:
        metadata = await self._json(self._metadata_url)
        _same("resource", metadata["resource"], self._resource)
        issuer = metadata["authorization_servers"][0]
        parts = urlsplit(issuer)
        # RFC 8414 3.1: the well-known string stands between host and path
        path = f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
        self._metadata_url = f"{parts.scheme}://{parts.netloc}{path}"
        self._server = {"issuer": issuer}
        return self._resource

    async def _find_server(self) -> str:
        metadata = await self._json(self._metadata_url)
        _same("issuer", metadata["issuer"], self._server["issuer"])
        if "S256" not in metadata["code_challenge_methods_supported"]:
            raise LookupError("no PKCE with S256")
        self._server = metadata
        return str(metadata["issuer"])

    async def _register(self) -> str:
        asked = {
            "client_name": "mcp-aggregator demo --check",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
        answer = await self._program.post(self._server["registration_endpoint"], json=asked)
        _expect(answer, 201)
        self._client_id = answer.json()["client_id"]
        return "201"

    # The person's browser

    async def _authorize(self) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": REDIRECT_URI,
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": self._resource,
        }
        self._page = await self._follow(
            await self._browser.get(f"{self._server['authorization_endpoint']}?{urlencode(asked)}")
        )
        return str(self._page.url.path)

    async def _sign_in(self) -> str:
        self._page = await self._press("Sign in as Alice")
        return str(self._page.url.path)

    async def _consent(self) -> str:
        answer = await self._press("Allow")
        returned = dict(parse_qsl(urlsplit(answer.headers.get("location", "")).query))
        _same("state", returned.get("state"), self._state)
        _same("iss", returned.get("iss"), self._server["issuer"])
        self._code = returned["code"]
        return "back to the client with a code"

    async def _press(self, label: str) -> httpx2.Response:
        if self._page is None:
            raise LookupError("there is no page")
        form: Form = parse_forms(self._page.text)[0]
        origin = str(self._page.url.join("/")).rstrip("/")
        answer = await self._browser.request(
            form.method.upper(),
            urljoin(str(self._page.url), form.action),
            data=form.press(label),
            headers={"origin": origin},
        )
        return await self._follow(answer)

    async def _follow(self, answer: httpx2.Response) -> httpx2.Response:
        """Behind the redirects: a page, or the redirect that leads back to the client."""
        for _ in range(MAX_REDIRECTS):
            location = answer.headers.get("location", "")
            if location.startswith(f"{REDIRECT_URI}?"):
                return answer
            if answer.status_code not in (302, 303):
                _expect(answer, 200)
                return answer
            answer = await self._browser.get(urljoin(str(answer.url), location))
        raise LookupError("the redirects do not end")

    # Tokens

    async def _redeem(self) -> str:
        grant = {"grant_type": "authorization_code", "code": self._code, "redirect_uri": REDIRECT_URI}
        return await self._ask_tokens({**grant, "code_verifier": self._verifier})

    async def _refresh(self) -> str:
        return await self._ask_tokens({"grant_type": "refresh_token", "refresh_token": self._tokens["refresh_token"]})

    async def _ask_tokens(self, grant: Mapping[str, str]) -> str:
        form = {**grant, "client_id": self._client_id, "resource": self._resource}
        answer = await self._program.post(self._server["token_endpoint"], data=form)
        _expect(answer, 200)
        self._tokens = answer.json()
        return f"{self._tokens['token_type']}, {self._tokens['expires_in']} s"

    # MCP, 2026-07-28: every request says everything

    async def _list_new(self) -> str:
        return _all_there((await self._new("tools/list", {}))["tools"])

    async def _add_new(self) -> str:
        result = await self._new("tools/call", {"name": "demo__add", "arguments": {"a": 40, "b": 2}})
        return _says(result, "42.0")

    async def _progress_new(self) -> str:
        asked = {"name": "demo__slow", "arguments": {"seconds": 0.1, "steps": 2}, "_meta": {"progressToken": "p"}}
        messages = await self._messages("tools/call", asked, NEW)
        _says(messages[-1]["result"], "done after 0.1 s")
        steps = sum(message.get("method") == "notifications/progress" for message in messages)
        _same("number of progress messages", steps, 2)
        return f"{steps} steps seen"

    async def _note_new(self) -> str:
        asked = {"name": "notes__add_note", "arguments": {"text": self._note}}
        return _says(await self._new("tools/call", asked), "1 notes")

    async def _new(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return _result((await self._messages(method, params, NEW))[-1])

    # MCP, 2025-11-25: a session

    async def _initialize_old(self) -> str:
        asked = {"protocolVersion": OLD, "capabilities": {}, "clientInfo": _IDENTITY}
        answer = await self._post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}, {})
        _same("protocolVersion", _result(_read(answer)[-1])["protocolVersion"], OLD)
        self._session = answer.headers["mcp-session-id"]
        told = await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, self._old_headers())
        _expect(told, 202)
        return "a session"

    async def _list_old(self) -> str:
        return _all_there((await self._old("tools/list", {}))["tools"])

    async def _echo_old(self) -> str:
        return _says(await self._old("tools/call", {"name": "demo__echo", "arguments": {"text": "héllo"}}), "héllo")

    async def _notes_old(self) -> str:
        return _says(await self._old("tools/call", {"name": "notes__list_notes", "arguments": {}}), self._note)

    async def _old(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return _result((await self._messages(method, params, OLD))[-1])

    def _old_headers(self) -> dict[str, str]:
        return {"mcp-protocol-version": OLD, "mcp-session-id": self._session}

    # HTTP

    async def _messages(self, method: str, params: dict[str, Any], revision: str) -> list[dict[str, Any]]:
        headers = self._old_headers()
        if revision == NEW:
            meta = {
                "io.modelcontextprotocol/protocolVersion": NEW,
                "io.modelcontextprotocol/clientInfo": _IDENTITY,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": {**meta, **params.get("_meta", {})}}
            headers = {"mcp-protocol-version": NEW, "mcp-method": method}
            if "name" in params:
                headers["mcp-name"] = params["name"]
        answer = await self._post({"jsonrpc": "2.0", "id": "x", "method": method, "params": params}, headers)
        _expect(answer, 200)
        return _read(answer)

    async def _post(self, message: dict[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
        accepted = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        bearer = {"authorization": f"Bearer {self._tokens['access_token']}"}
        body = json.dumps(message)
        return await self._program.post(self._resource, content=body, headers={**accepted, **bearer, **headers})

    async def _json(self, url: str) -> dict[str, Any]:
        answer = await self._program.get(url)
        _expect(answer, 200)
        found = answer.json()
        if not isinstance(found, dict):
            raise TypeError(f"{url} is not a JSON object")
        return found


def _read(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The messages of an answer, the response last, whether it came alone or as a stream."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        lines = (line[5:] for line in answer.text.splitlines() if line.startswith("data:"))
        return [json.loads(data) for data in lines if data.strip()]  # a stream may begin with an event of empty data
    return [answer.json()]


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    if "result" not in message:
        raise LookupError(f"no result but {message.get('error')}")
    result: dict[str, Any] = message["result"]
    return result


def _says(result: Mapping[str, Any], expected: str) -> str:
    texts = [part.get("text", "") for part in result["content"]]
    if result.get("isError") or not any(expected in text for text in texts):
        raise LookupError(f"expected '{expected}', got {texts}")
    return expected


def _all_there(tools: list[dict[str, Any]]) -> str:
    names = {tool["name"] for tool in tools}
    if missing := TOOLS - names:
        raise LookupError(f"missing: {', '.join(sorted(missing))}")
    return f"{len(names)} tools"


def _expect(answer: httpx2.Response, status: int) -> None:
    if answer.status_code != status:
        raise LookupError(f"{answer.url.path} answered {answer.status_code} instead of {status}: {answer.text[:300]}")


def _same(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise LookupError(f"{name} is {found!r}, expected {expected!r}")


@asynccontextmanager
async def open_walk(url: str) -> AsyncIterator[Walk]:
    """A walk that begins at the aggregator of `url`; its connections end with the block."""
    async with (
        httpx2.AsyncClient(trust_env=False, verify=False) as program,
        httpx2.AsyncClient(trust_env=False, verify=False) as browser,
    ):
        yield Walk(url, program, browser)


async def walk_all(url: str, tell: Callable[[str], None]) -> None:
    """Go every step and tell each with its time.

    Raises:
        StepFailed: at the first step that does not go as it should.
    """
    async with open_walk(url) as walk:
        for number, (name, step) in enumerate(walk.steps, 1):
            begun = trio.current_time()
            try:
                seen = await step()
            except _FAILURES as error:
                raise StepFailed(f"step {number}, {name}: {error or type(error).__name__}") from error
            tell(f"{number:>3}  {name:<46} {(trio.current_time() - begun) * 1000:>6.0f} ms   {seen}")
