"""Whatever a server may hand to the whole application is answered as documented: A-P 2."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator import Config, open_aggregator
from aggregator.config.model import Auth, Secret, Upstream
from aggregator.config.secrets import derive_key
from aggregator.protocol.oauth.browser import BrowserSession, seal_session
from aggregator.protocol.oauth.pkce import challenge_of
from aggregator.protocol.oauth.sealed import AccessToken, Code, RefreshToken, seal_access, seal_code, seal_refresh
from aggregator.protocol.oauth.site import SCOPE
from aggregator.protocol.principal import Person, Principal
from aggregator.protocol.sealing import KeyRing

from .fakes.asgi import Ongoing

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there
ISSUER = "http://localhost:3000"
SECRET = Secret("3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8")
STATUSES = {200, 202, 204, 303, 400, 401, 403, 404, 405, 406, 413, 415, 421, 429}
# The identity provider is away, and a browser is told so (F7); so is the only upstream.
SIGNED_IN = ("/sign-in", "/connections", "/clients", "/tools")
AWAY = {path: {503} for path in ("/authorize", "/upstream-auth/callback/mail", *SIGNED_IN)} | {
    "/connect/mail": {502, 503}
}
REDIRECT = "http://127.0.0.1:50000/cb"
VERIFIER = "correct-horse-battery-staple-correct-horse-battery"

KEYS = KeyRing([derive_key(SECRET)])
NOW, DAY = time.time(), 86_400.0  # the whole run is shorter
MCP = f"{ISSUER}/mcp"
ACCESS = seal_access(
    KEYS, AccessToken("g1", "c1", Principal("https://idp", "anna"), SCOPE, MCP, ISSUER, NOW + DAY), now=NOW
)
REFRESH = seal_refresh(KEYS, RefreshToken("g1", 0, "c1", MCP, NOW + DAY), now=NOW)
CODE = seal_code(KEYS, Code("code", "g1", "c1", REDIRECT, challenge_of(VERIFIER), MCP, NOW + DAY), now=NOW)
ANNA = Person(Principal("https://idp", "anna"), "anna")
SESSION = seal_session(KEYS, BrowserSession("s1", ANNA, "form-of-anna"), now=NOW)
TOKENS = (ACCESS, REFRESH, CODE, SESSION)


class Application:
    """The whole application, open in a trio thread of its own."""

    def __init__(self) -> None:
        self._ready, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        assert self._ready.wait(120)
        registration = json.dumps({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}).encode()
        headers = [(b"host", b"localhost:3000"), (b"content-type", b"application/json")]
        self.client_id = json.loads(self.ask("POST", b"/register", b"", headers, [registration]).body)["client_id"]

    async def _main(self) -> None:
        config = Config(Auth(NOBODY), (Upstream("mail", f"{NOBODY}/mcp", "mail"),), ISSUER, secret=SECRET)
        async with open_aggregator(config) as self._app:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.to_thread.run_sync(self._done.wait)

    def close(self) -> None:
        self._done.set()
        self._thread.join(120)

    def ask(
        self, method: str, raw_path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], chunks: list[bytes]
    ) -> Ongoing:
        return trio.from_thread.run(self._ask, method, raw_path, query, headers, chunks, trio_token=self._token)

    async def _ask(
        self, method: str, raw_path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], chunks: list[bytes]
    ) -> Ongoing:
        ongoing = Ongoing(chunks)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 3000),
        }
        with trio.fail_after(120):
            await self._app(scope, ongoing.receive, ongoing.send)
        return ongoing


@contextmanager
def opened() -> Iterator[Application]:
    application = Application()
    try:
        yield application
    finally:
        application.close()


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    with opened() as found:
        yield found


PATHS = "mcp register token revoke authorize authorize/return callback consent healthz readyz".split()
# Signing out is left out: it would end the session for all that come after.
PATHS += "sign-in connections clients tools connect connect/mail connect/x upstream-auth/callback/mail".split()
PATHS += ["", ".well-known/oauth-authorization-server", ".well-known/oauth-protected-resource/mcp"]
ESCAPES = [
    b"%00",
    b"%2e%2e/",
    b"//",
    b"/../mcp",
    b"%ff",
    b"\\",
    b";x",
    b"/",
    b"?",
    b"#",
    b"*",
    b"http://evil.example/mcp",
]
raw_paths = st.sampled_from(PATHS).map(lambda path: b"/" + path.encode()) | st.one_of(
    st.tuples(st.sampled_from([b"/mcp", b"/token", b"/", b""]), st.sampled_from(ESCAPES)).map(b"".join),
    st.binary(max_size=20),
)
methods = st.sampled_from(["GET", "POST", "POST", "OPTIONS", "DELETE", "HEAD", "PUT", "get"]) | st.text(
    "AZaz-", max_size=9
)

ROUTES = [("POST", "/mcp"), ("POST", "/token"), ("POST", "/revoke"), ("POST", "/register"), ("GET", "/authorize")]
ROUTES += [("GET", "/callback"), ("GET", "/consent"), ("POST", "/consent"), ("POST", "/authorize/return")]
ROUTES += [("GET", path) for path in ("/sign-in", "/connections", "/clients", "/connect/mail", "/connect/x")]
ROUTES += [("GET", "/upstream-auth/callback/mail"), ("POST", "/connect/mail"), ("POST", "/clients/revoke")]
ROUTES += [("POST", "/connections/disconnect"), ("POST", "/connections/reconnect")]
routes = st.sampled_from([(method, path.encode()) for method, path in ROUTES])
targets = st.integers(0, 3).flatmap(lambda odd: st.tuples(methods, raw_paths) if odd == 0 else routes)

latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=20).map(
    lambda text: text.strip().encode("latin-1")
)
VALUES = {
    b"host": [b"localhost:3000", b"127.0.0.1:3000", b"evil.example", b""],
    b"origin": [ISSUER.encode(), b"null", b"https://evil.example"],
    b"authorization": [
        b"Bearer " + ACCESS.encode(),
        b"Bearer " + REFRESH.encode(),
        b"bearer x",
        b"Basic eDp5",
        b"Basic \xff",
    ],
    b"content-type": [
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"text/plain",
        b"application/json;charset=x",
    ],
    b"accept": [b"application/json, text/event-stream", b"text/html", b"*/*;q=0"],
    b"cookie": [b"mcp-session=" + SESSION.encode(), b"__Host-flow=x", b"flow=" + CODE.encode(), b"=;;=\xff"],
    b"content-length": [b"0", b"-1", b"99999999999"],
    b"mcp-protocol-version": [b"2026-07-28", b"2025-11-25", b"2024-11-05", b"9"],
    b"mcp-method": [b"tools/list", b"tools/call"],
    b"mcp-name": [b"up__t", b"=?base64?/w==?="],
    b"mcp-session-id": [b"x", ACCESS.encode()[:40]],
    b"x-forwarded-host": [b"evil.example"],
    b"sec-fetch-site": [b"cross-site", b"same-origin"],
}
headers = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name]) | latin)
    ),
    max_size=6,
)
FIELDS = {
    "grant_type": ["authorization_code", "refresh_token", "password"],
    "code": [CODE, "x"],
    "code_verifier": [VERIFIER, "x"],
    "refresh_token": [REFRESH, ACCESS],
    "token": [REFRESH, ACCESS, CODE, "mcpa_rt_x"],
    "client_id": ["@", "x", ""],
    "client_secret": ["x"],
    "redirect_uri": [REDIRECT, "https://evil.example", "javascript:alert(1)"],
    "response_type": ["code", "token"],
    "code_challenge": [challenge_of(VERIFIER), "x"],
    "code_challenge_method": ["S256", "plain"],
    "resource": [MCP, "https://evil.example", "x#y"],
    "scope": ["mcp", 'a"b'],
    "state": ["s", "\x00é\n"],
    "flow": ["x", CODE],
    "csrf": ["form-of-anna", "x"],
    "to": ["/clients", "https://evil.example"],
    "upstream": ["mail", "x"],
    "grant": ["g1"],
    "then": ["mail,x"],
    "iss": ["https://evil.example"],
    "error": ["access_denied"],
    "decision": ["allow"],
    "access_token": [ACCESS],
}
forms = st.lists(
    st.sampled_from(sorted(FIELDS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(FIELDS[name]) | st.text(max_size=9))
    ),
    max_size=8,
)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "jsonrpc id method params redirect_uris client_name scope grant_types response_types name arguments _meta".split()
)
json_bodies = st.dictionaries(st.sampled_from(NAMES), json_values | st.sampled_from(["2.0", "tools/list"]), max_size=6)
METHODS = ["tools/list", "tools/call", "initialize", "ping", "server/discover", "notifications/cancelled", "x"]
calls = st.builds(
    lambda method, params: json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode(),
    st.sampled_from(METHODS),
    st.dictionaries(
        st.sampled_from(["name", "arguments", "_meta", "cursor", "protocolVersion"]), json_values, max_size=3
    ),
)
bodies = calls | st.binary(max_size=40) | json_bodies.map(lambda value: json.dumps(value).encode())


# The application's thread takes the jitter of its retries from `random`; Hypothesis cannot know that it is not ours.
@pytest.mark.requirement("AP2")
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@settings(max_examples=600, deadline=None)
@given(targets, headers, forms, bodies | st.none(), st.lists(st.integers(0, 60), max_size=3), st.integers(0, 4))
@example(
    ("POST", b"/token"),
    [],
    [("grant_type", "refresh_token"), ("refresh_token", REFRESH), ("client_id", "@")],
    None,
    [3],
    0,
)
@example(
    ("POST", b"/connect/mail"),
    [(b"cookie", b"mcp-session=" + SESSION.encode())],
    [("csrf", "form-of-anna")],
    None,
    [],
    0,
)
@example(("GET", b"/connections"), [(b"cookie", b"mcp-session=" + SESSION.encode())], [], None, [], 0)
@example(("GET", b"/authorize"), [], [("client_id", "@"), ("redirect_uri", REDIRECT)], b"", [], 0)
def test_any_request_is_answered_as_documented_and_without_a_token(
    application: Application,
    target: tuple[str, bytes],
    given_headers: list[tuple[bytes, bytes]],
    form: list[tuple[str, str]],
    body: bytes | None,
    cuts: list[int],
    odd: int,
) -> None:
    """The form stands in the query where there is another body; all but the `odd` have what every good request has."""
    method, raw_path = target
    encoded = urlencode([(name, application.client_id if value == "@" else value) for name, value in form]).encode()
    sent = list(given_headers)
    if odd != 4:
        sent = [pair for pair in sent if pair[0] not in (b"host", b"origin")]
        kind = b"application/x-www-form-urlencoded" if body is None else b"application/json"
        good = {b"host": b"localhost:3000", b"content-type": kind, b"authorization": b"Bearer " + ACCESS.encode()}
        if raw_path in (b"/token", b"/revoke"):
            del good[b"authorization"]
        sent += [(name, value) for name, value in good.items() if name not in dict(given_headers)]
    whole = encoded if body is None else body
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    chunks = [whole[start:end] for start, end in pairwise(edges)]
    answer = application.ask(method, raw_path, b"" if body is None and method != "GET" else encoded, sent, chunks)
    assert answer.ended
    assert answer.status in STATUSES | AWAY.get(raw_path.decode("latin-1"), set())
    told = answer.body + b"".join(value for _, value in answer.raw_headers)
    assert not [token for token in TOKENS if token.encode() in told]
    assert b"mcpa_" not in told
    assert b"Traceback" not in told
