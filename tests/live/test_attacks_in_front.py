"""Attacks on what anybody can reach: sockets, headers, tokens, and the way through the login."""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest
import trio

from aggregator.config.model import Tokens
from tests.parts.browser import Page, open_browser, walk_login
from tests.parts.processes import PATIENCE

from .attacking import LOOPBACK, Target, ask, statuses
from .deployment import open_deployment

pytestmark = pytest.mark.live

VERIFIER = "v" * 64
NOBODY = "http://127.0.0.1:9/mcp"
FORM = "application/x-www-form-urlencoded"


@asynccontextmanager
async def open_target() -> AsyncIterator[Target]:
    tokens = Tokens(access=3600, code=3600)  # a thousand requests may take their time
    async with (
        open_deployment({"up": NOBODY}, tokens=tokens) as deployment,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
    ):
        yield Target([deployment.url], deployment.config.auth.issuer, http)


# Bytes

# What follows the head, by name: a body that two parsers could end in two places, and then a request of its own.
FRAMINGS = {
    "both": ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    "both-reversed": ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
    "two-lengths": ("Content-Length: 0\r\nContent-Length: 50", ""),
    "plus": ("Content-Length: +0", ""),
    "minus": ("Content-Length: -1", ""),
    "hexadecimal": ("Content-Length: 0x0", ""),
    "underscore": ("Content-Length: 1_0", ""),
    "too-long": ("Content-Length: 99999999999999999999999", ""),
    "not-chunked": ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    "chunked-first": ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    "twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
    "space-before-colon": ("Transfer-Encoding : chunked", "0\r\n\r\n"),
    "vertical-tab": ("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
    "bare-line-feeds": ("Transfer-Encoding: chunked", "0\n\n"),
    "chunk-without-end": ("Transfer-Encoding: chunked", "1\r\naXX0\r\n\r\n"),
    "negative-chunk": ("Transfer-Encoding: chunked", "-1\r\n\r\n"),
    "chunk-too-long": ("Transfer-Encoding: chunked", "f" * 21 + "\r\n\r\n"),
    "line-feed-in-extension": ("Transfer-Encoding: chunked", '0;a="\n"\r\n\r\n'),
}


async def test_no_body_smuggles_a_second_request() -> None:
    async with open_target() as target:
        host = f"Host: {urlsplit(target.url).netloc}\r\n"
        smuggled = f"GET /healthz HTTP/1.1\r\n{host}\r\n"
        found = {}

        async def attempt(name: str, head: str, body: str) -> None:
            raw = f"POST /token HTTP/1.1\r\n{host}{head}\r\n\r\n{body}{smuggled}".encode()
            found[name] = statuses(await trio.to_thread.run_sync(ask, target.url, raw))

        async with trio.open_nursery() as nursery:
            for name, (head, body) in FRAMINGS.items():
                nursery.start_soon(attempt, name, head, body)
        # One answer, a refusal, and the end of the connection: what came behind was never read as a request.
        assert {name for name, answered in found.items() if answered not in ([400], [501])} == set()


FORGED = (
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-for", "127.0.0.1"),
    ("forwarded", "host=evil.example;proto=https"),
    ("x-original-url", "/mcp"),
    ("x-rewrite-url", "/mcp"),
    ("x-http-method-override", "POST"),
    ("x-forwarded-user", "alice"),
    ("x_forwarded_user", "alice"),
    ("x-forwarded-authorization", "Bearer x"),
)
HOSTS = ("evil.example", "{}@evil.example", "evil.example/{}", "{}/x", "{}?x", "{}#x", "{}.", "{},evil", "a/../?x#", "")


async def test_no_header_says_who_we_are_or_who_asks() -> None:
    async with open_target() as target:
        netloc = urlsplit(target.url).netloc
        client = await target.register()
        documents = ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp")
        for path in documents:
            plain = await target.http.get(target.url + path)
            forged = await target.http.get(target.url + path, headers=dict(FORGED))
            assert forged.content == plain.content
        for method in ("GET", "POST", "DELETE"):
            refused = await target.http.request(method, f"{target.url}/mcp", headers=dict(FORGED))
            assert refused.status_code == 401
            assert "evil" not in str(refused.headers) + refused.text
        begun = await target.http.get(target.authorize_url(client, VERIFIER), headers=dict(FORGED))
        assert "evil" not in str(begun.headers)
        for host in HOSTS:
            for path in (*documents, "/mcp", "/authorize", "/"):
                raw = f"GET {path} HTTP/1.1\r\nHost: {host.format(netloc)}\r\nConnection: close\r\n\r\n".encode()
                received = await trio.to_thread.run_sync(ask, target.url, raw)
                assert statuses(received) == [421], (host, path)
                assert b"evil" not in received


# Tokens


def damaged(token: str, chance: random.Random) -> str:
    """Another text that a careless reader might take for the token, or stumble over."""
    prefix, text = (token[:8], token[8:]) if token.startswith("mcpa_") else ("", token)
    parts, place = text.split("."), chance.randrange(len(text))
    header = json.loads(base64.urlsafe_b64decode(parts[0] + "=="))
    kids: list[Any] = [1, None, [], "AAAAAAAA.1", header["kid"] + "0", "../../x", {"a": 1}]
    changes: list[tuple[str, Any]] = [
        *(("typ", purpose) for purpose in ("access", "refresh", "code", "client", "flow", "question", "session", None)),
        *(("kid", kid) for kid in kids),
        *(("alg", name) for name in ("none", None, ["dir"], "PBES2-HS256+A128KW", "RSA1_5")),
        *(("enc", name) for name in ("A128GCM", ["A256GCM"], None)),
        *((name, value) for name, value in (("zip", "DEF"), ("crit", ["x"]), ("jku", "http://127.0.0.1:9/"))),
    ]
    heads = [b"[]", b"null", b"{", b"\xff\xfe", b"[" * 3000, b'{"a":' * 800, b'{"kid":"\\ud800"}', b"{}"]
    match chance.randrange(10):
        case 0:
            return prefix + text[:place] + chance.choice("AZaz09-_.=+/ ~%") + text[place + 1 :] + "A"
        case 1:
            return prefix + text[:place]
        case 2:
            return prefix + text + "A" * chance.choice((1, 7000, 20_000))
        case 3:
            return chance.choice(("", "mcpa_at_", "mcpa_rt_", "mcpa_ac_", "MCPA_AT_")) + text + "A"
        case 4:
            parts[0] = _base64(json.dumps({**header, **dict([chance.choice(changes)])}).encode())
        case 5:
            parts[0] = _base64(chance.choice(heads))
        case 6:
            parts[chance.choice((2, 3, 4))] = ""
        case 7:
            parts[1] = _base64(secrets.token_bytes(32))
        case 8:
            parts[4] = parts[4][: chance.randrange(21)]
        case _:
            parts.reverse()
    return prefix + ".".join(parts)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.requirement("RS4", "TK3", "AZ1", "CO5")
async def test_no_damaged_or_misplaced_token_opens_anything() -> None:
    """Every kind of sealed value, whole where it does not belong and damaged everywhere, at every endpoint."""
    chance = random.Random(20261121)
    async with open_target() as target, open_browser() as browser:
        client = await target.register()
        tokens = await target.log_in(client)
        begun = await browser.get(target.authorize_url(client, VERIFIER))
        name, flow = begun.headers["set-cookie"].partition(";")[0].split("=", 1)
        flow_id = name.removeprefix("mcp-flow-")
        page = await target.http.get(target.authorize_url(client, VERIFIER, resource="http://nope.example"))
        assert page.status_code == 303  # a loopback client is told at once
        kinds = {
            "access": tokens["access_token"],
            "refresh": tokens["refresh_token"],
            "code": await target.obtain_code(client, VERIFIER, "alice"),
            "client": client["client_id"],
            "session": await target.begin_session(tokens["access_token"]),
            "flow": flow,
        }
        redeem = {"grant_type": "authorization_code", "code_verifier": VERIFIER, "client_id": client["client_id"]}
        refresh = {"grant_type": "refresh_token", "refresh_token": "x"}
        bearer = {"authorization": f"Bearer {tokens['access_token']}", "mcp-protocol-version": "2025-11-25"}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        endpoints: dict[str, tuple[str, set[int], Callable[[str], dict[str, Any]]]] = {
            "access": ("POST /mcp", {401}, lambda t: {"json": ping, "headers": {"authorization": f"Bearer {t}"}}),
            "session": ("POST /mcp", {404}, lambda t: {"json": ping, "headers": {**bearer, "mcp-session-id": t}}),
            "code": ("POST /token", {400}, lambda t: {"data": {**redeem, "code": t}}),
            "refresh": ("POST /token", {400}, lambda t: {"data": {**redeem, **refresh, "refresh_token": t}}),
            "client": ("POST /token", {401}, lambda t: {"data": {**refresh, "client_id": t}}),
            "client at authorize": ("GET /authorize", {400}, lambda t: {"params": {"client_id": t}}),
            "flow": (
                "GET /callback",
                {400, 403},
                lambda t: {"params": {"state": flow_id, "code": "x"}, "headers": {"cookie": f"{name}={t}"}},
            ),
            "question": (
                "POST /consent",
                {403},
                lambda t: {
                    "data": {"flow": flow_id, "csrf": t, "decision": "allow"},
                    "headers": {"cookie": f"{name}={t}"},
                },
            ),
            "answer": ("POST /authorize/return", {400}, lambda t: {"data": {"answer": t}}),
        }
        tried = 0
        for endpoint, (target_line, expected, request) in endpoints.items():
            method, path = target_line.split()
            for kind, token in kinds.items():
                for text in (token, *(damaged(token, chance) for _ in range(24))):
                    if text == token and endpoint.split()[0] == kind:
                        continue
                    answered = await target.http.request(method, target.url + path, **request(text))
                    assert answered.status_code in expected, (endpoint, kind, text, answered.text)
                    tried += 1
        assert tried > 1300
        assert (await target.redeem(client, kinds["code"], VERIFIER)).status_code == 200  # nobody has spent it


# The login


@pytest.mark.requirement("CO5", "OI6")
async def test_a_login_captured_on_its_way_is_worth_nothing_elsewhere() -> None:
    """CVE-2026-27124: the attacker begins, the victim finishes where they are signed in."""
    async with open_target() as target, open_browser() as attacker, open_browser() as victim:
        client = await target.register("https://attacker.example/cb")
        begun = await attacker.get(target.authorize_url(client, VERIFIER))
        landed = await walk_login(begun.headers["location"], f"{target.url}/callback", "bob", browser=victim)
        refused = await victim.get(landed)
        assert (refused.status_code, "another browser" in refused.text) == (403, True)
        assert "attacker.example" not in refused.text
        # Nor does an answer of anybody's invention end a login in a browser that did not begin it.
        state = dict(parse_qsl(urlsplit(landed).query))["state"]
        for code in ("", "&code=guess", "&error=access_denied&iss=https://evil.example"):
            answered = await victim.get(f"{target.url}/callback?state={state}{code}")
            assert answered.status_code in (400, 403)


@pytest.mark.requirement("TK13", "CO2", "CO3")
async def test_two_people_in_one_browser_are_each_asked_by_name_and_answer_for_themselves() -> None:
    async with open_target() as target, open_browser() as shared:
        client = await target.register()
        pages: dict[str, str] = {}
        for user in ("alice", "bob"):
            url = await walk_login(
                target.authorize_url(client, VERIFIER),
                f"{target.url}/consent",
                user,
                browser=shared,
            )
            pages[user] = (await shared.get(url)).text
            for cookie in list(shared.cookies.jar):
                if not cookie.name.startswith("mcp-flow-"):
                    shared.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)  # logs out at the provider
        forms = {user: {name: value for _, name, value in Page(page).forms[0].fields} for user, page in pages.items()}
        assert "alice" in pages["alice"]
        assert "bob" in pages["bob"]
        mixed = {**forms["alice"], "flow": forms["bob"]["flow"], "decision": "allow"}
        cross = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        for form, headers in ((mixed, {}), (forms["alice"] | {"decision": "allow"}, cross)):
            refused = await shared.post(f"{target.url}/consent", data=form, headers=headers)
            assert (refused.status_code, "location" in refused.headers) == (403, False)
        grants = {}
        for user, form in forms.items():
            allowed = await shared.post(f"{target.url}/consent", data={**form, "decision": "allow"})
            code = dict(parse_qsl(urlsplit(allowed.headers["location"]).query))["code"]
            grants[user] = (await target.redeem(client, code, VERIFIER)).json()["access_token"]
        session = await target.begin_session(grants["alice"])
        assert (await target.post(grants["bob"], session, "ping")).status_code == 404
        assert (await target.post(grants["alice"], session, "ping")).status_code == 200


STRANGE = "\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>\x00\u202e\ud7ff\U000e0041\"'&<>"


@pytest.mark.requirement("AZ1", "AZ2", "AZ10", "AZ16", "CO2")
async def test_no_text_of_a_client_breaks_out_of_headers_pages_or_redirects() -> None:
    async with open_target() as target:
        client = await target.register(client_name=STRANGE)
        pages: list[str] = []
        url = await walk_login(
            target.authorize_url(client, VERIFIER, state=STRANGE, scope=STRANGE),
            LOOPBACK,
            on_page=lambda at, html: pages.append(html) if at.startswith(target.url) else None,
        )
        assert dict(parse_qsl(urlsplit(url).query))["state"] == STRANGE
        assert len(pages) == 1
        assert "<script" not in pages[0]
        assert "\u202e" not in pages[0]
        for redirect in (
            "https://evil.example/cb",
            LOOPBACK + "/",
            LOOPBACK + "?x",
            LOOPBACK + "#x",
            LOOPBACK.replace("127.0.0.1", "127.0.0.1@evil.example"),
            LOOPBACK.replace("127.0.0.1", "127.0.0.1.evil.example"),
            LOOPBACK + STRANGE,
            "javascript:alert(1)",
            "//evil.example",
        ):
            asked = target.authorize_url(client, VERIFIER, redirect_uri=redirect)
            refused = await target.http.get(asked)
            assert refused.status_code == 400, redirect
            assert "location" not in refused.headers
            assert not re.search(r"""(?:href|action)=["'](?!/(?!/)|data:,)""", refused.text)  # our own paths only
            assert "<script" not in refused.text
            assert set(refused.cookies) == set()
        for name, text in (("resource", STRANGE), ("response_type", STRANGE), ("code_challenge", STRANGE)):
            answered = await target.http.get(target.authorize_url(client, VERIFIER, **{name: text}))
            back = dict(parse_qsl(urlsplit(answered.headers["location"]).query))
            assert answered.headers["location"].startswith(LOOPBACK + "?")
            assert re.fullmatch(r"[ !#-\[\]-~]+", back["error_description"])
        twice = await target.http.get(target.authorize_url(client, VERIFIER) + "&" + urlencode({"state": "b"}))
        assert (twice.status_code, "location" in twice.headers) == (400, False)
