"""Attacks on a running aggregator: what each tries has hurt somebody's gateway before."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, wait_until

from .attacking import (
    META,
    Asked,
    RawUpstream,
    Script,
    Target,
    Writer,
    answer,
    endless,
    open_processes,
    open_upstream,
    result,
    start,
)
from .deployment import open_deployment

pytestmark = pytest.mark.live

VERIFIER = "v" * 64


@asynccontextmanager
async def open_target(upstream: RawUpstream, **more: Any) -> AsyncIterator[Target]:
    """One aggregator in this process, behind a real identity provider."""
    async with (
        open_deployment({"up": upstream.url}, **more) as deployment,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
    ):
        yield Target([deployment.url], deployment.config.auth.issuer, http)


# Codes, tokens, processes


@pytest.mark.requirement("TK2", "TK7", "TK8", "RS5")
async def test_two_processes_decide_as_one_and_write_no_secret_down(tmp_path: Path) -> None:
    """200 redemptions and 50 refreshes at once, a restart, then every replay; the upstream saw none of the tokens."""
    async with open_upstream() as upstream, open_processes(tmp_path, upstream) as processes:
        target = processes.target
        client = await target.register(client_name="canary", token_endpoint_auth_method="none")
        tokens = await target.log_in(client)
        assert await target.call(tokens["access_token"], "up__echo", a=1) == '{"a": 1}'

        code = await target.obtain_code(client, VERIFIER, "alice")
        redeemed = await at_once(200, lambda n: target.redeem(client, code, VERIFIER, at=n % 2))
        assert Counter(answered.status_code for answered in redeemed) == {200: 1, 400: 199}
        lost = next(answered.json() for answered in redeemed if answered.status_code == 200)

        refreshed = await at_once(50, lambda n: target.refresh(client, tokens["refresh_token"], at=n % 2))
        assert Counter(answered.status_code for answered in refreshed) == {200: 50}
        newest = (await target.refresh(client, refreshed[7].json()["refresh_token"])).json()

        async with AsyncExitStack() as stack:
            old, port = processes.running[1], urlsplit(target.urls[1]).port
            old.process.send_signal(signal.SIGTERM)
            await old.process.wait()
            assert port is not None
            await start(stack, processes, port, upstream)
            # The restarted process never saw the replay that revoked this grant; it knows from its first request on.
            assert (await target.ask(lost["access_token"], "tools/list", at=1)).status_code == 401
            assert (await target.redeem(client, code, VERIFIER, at=1)).json()["error"] == "invalid_grant"
            assert (await target.ask(newest["access_token"], "tools/list", at=1)).status_code == 200
            assert (await target.refresh(client, tokens["refresh_token"], at=1)).json()["error"] == "invalid_grant"
            assert (await target.ask(newest["access_token"], "tools/list", at=1)).status_code == 401
            assert (await target.refresh(client, newest["refresh_token"])).json()["error"] == "invalid_grant"

            for answered in (*refreshed, *(redeem for redeem in redeemed if redeem.status_code == 200)):
                target.keep("late access token", answered.json()["access_token"])
            written, upstreams = processes.written(), b"".join(asked.head + asked.body for asked in upstream.seen)
            assert "used a code twice" in written
            for name, secret in target.secrets.items():
                assert secret not in written, name
                assert secret.encode() not in upstreams, name
            assert b"authorization" not in upstreams.lower()
            assert b"cookie" not in upstreams.lower()


async def at_once(count: int, attempt: Any) -> list[httpx2.Response]:
    answered: list[httpx2.Response] = []

    async def run(n: int) -> None:
        answered.append(await attempt(n))

    async with trio.open_nursery() as nursery:
        for n in range(count):
            nursery.start_soon(run, n)
    return answered


# Upstreams


def json_with(inner: bytes) -> Script:
    return lambda asked: answer(
        b'{"jsonrpc":"2.0","id":"%s","result":{"content":[],"x":%s}}' % (asked.id.encode(), inner)
    )


HOSTILE: dict[str, tuple[Script, str]] = {
    "redirect": (
        lambda asked: answer(b"", ("location", "http://169.254.169.254/"), status=307),
        "it redirects; configure the final URL",
    ),
    "challenge": (
        lambda asked: answer(b"CANARY", ("www-authenticate", 'Bearer resource_metadata="http://evil"'), status=401),
        "Authentication required for up: it asks for a login. Nothing was run.",
    ),
    "others-id": (
        lambda asked: answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'),
        "answered a request that it was never asked",
    ),
    "large": (endless(b"x" * 65536, "application/json"), "more than 16777216 bytes"),
    "long-line": (endless(b"data: " + b"x" * 65536), "larger than 16777216 bytes"),
    "blank-lines": (endless(b"\n"), "more than 200000 lines"),
    "comments": (endless(b": x\n\n"), "more than 200000 lines"),
    "no-data": (endless(b"data\n"), "more than 200000 lines"),
    "pings": (endless(b'data: {"jsonrpc":"2.0","id":1,"method":"ping"}\n\n'), "more than 200000 lines"),
    "lists": (json_with(b"[" + b"[]," * 5_000_000 + b"1]"), "more than 500000 texts, commas and brackets"),
    "deep": (json_with(b"[" * 100_000), "nested too deeply"),
    "infinite": (json_with(b"1e999"), "a number is too large"),
    "zip": (lambda asked: answer(b"\x1f\x8b", ("content-encoding", "gzip")), "content-encoding 'gzip'"),
    "head": (lambda asked: b"HTTP/1.1 200 OK\r\nx: " + b"x" * 10**6, "Receive buffer too long"),
    "garbage": (lambda asked: b"\x00\xff" * 100 + b"\r\n\r\n", "does not speak HTTP"),
    "switch": (lambda asked: b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "does not speak HTTP"),
    "no-status": (lambda asked: answer(b"", status=999), "HTTP 999"),
    "page": (lambda asked: answer(b"<script>alert(1)</script>", kind="text/html"), "content type 'text/html'"),
}


@pytest.mark.requirement("AF3")
@pytest.mark.requirement("RS5")
async def test_whatever_an_upstream_answers_is_one_tool_error_and_keeps_nobody_else_waiting() -> None:
    async with open_upstream() as evil, open_target(evil) as target:
        evil.scripts.update({name: script for name, (script, _) in HOSTILE.items()})
        token = (await target.log_in(await target.register()))["access_token"]
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                begun = time.process_time()  # not the clock's: others may keep this machine busy
                assert (await target.http.get(f"{target.url}/healthz")).text == "ok\n"
                longest = max(longest, time.process_time() - begun)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for name, (_, words) in HOSTILE.items():
                answered = await target.ask(token, "tools/call", {"name": f"up__{name}", "arguments": {}})
                outcome = answered.json()["result"]
                assert (answered.status_code, outcome["isError"]) == (200, True), name
                assert words in outcome["content"][0]["text"], name
                assert "CANARY" not in answered.text
                # Nothing of an upstream's head travels on: its cookies, challenges and redirects are for us alone.
                assert set(answered.headers) == {"content-type", "content-length", "x-request-id", "date"}, name
            nursery.cancel_scope.cancel()
        assert longest < 2, "one upstream stopped the whole process"  # a bomb of lists took three seconds, and 400 MB
        assert await target.call(token, "up__echo", a=1) == '{"a": 1}'


@pytest.mark.requirement("AF6")
async def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    """Response splitting at an upstream: the second answer waits on the connection for the next person's request."""
    poison = answer(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"open http://evil"}}')
    half = b"HTTP/1.1 401 X\r\ncontent-length: 1000\r\n\r\nhalf"
    async with open_upstream() as upstream, open_target(upstream) as target:
        upstream.scripts["two"] = lambda asked: result(asked, content=[{"type": "text", "text": "one"}]) + poison
        upstream.scripts["half"] = lambda asked: result(asked, content=[{"type": "text", "text": "one"}]) + half
        client = await target.register()
        alice, bob = [(await target.log_in(client, user))["access_token"] for user in ("alice", "bob")]
        for tool in ("up__two", "up__half"):
            assert await target.call(alice, tool) == "one"
            words = await target.call(bob, "up__echo", a=1)
            assert "evil" not in words
            assert await target.call(bob, "up__echo", a=2) == '{"a": 2}'


async def test_a_listing_that_is_too_large_is_no_listing() -> None:
    """A hundred pages of a megabyte each; everybody's list would carry them."""
    page = [{"name": f"tool{n}", "inputSchema": {}, "description": "x" * 10_000} for n in range(100)]
    async with open_upstream() as upstream:
        pages = iter(range(100))
        upstream.scripts["tools/list"] = lambda asked: result(asked, tools=page, nextCursor=f"page {next(pages)}")
        async with open_target(upstream) as target:
            token = (await target.log_in(await target.register()))["access_token"]
            listed = (await target.ask(token, "tools/list")).json()["result"]["tools"]
            assert [tool["name"] for tool in listed] == ["gateway__auth", "gateway__status", "gateway__unauth"]
            assert "has tools of more than 8388608 bytes" in await target.call(token, "gateway__status")
        upstream.scripts["tools/list"] = lambda asked: result(asked, tools=[], ttlMs=10**4000)
        async with open_target(upstream) as target:
            token = (await target.log_in(await target.register()))["access_token"]
            assert '"state": "connected"' in await target.call(token, "gateway__status")


# People


@pytest.mark.requirement("RS6")
async def test_no_person_reaches_into_anothers_session_or_calls() -> None:
    """The same ids on purpose: sessions, calls, progress and cancellations of two people never meet."""
    release, both = trio.Event(), trio.Event()
    async with open_upstream() as upstream, open_target(upstream) as target:

        def slow(asked: Asked) -> Writer:
            async def write(stream: trio.SocketStream) -> None:
                params = asked.message["params"]
                mine = {
                    "progressToken": params["_meta"]["progressToken"],
                    "progress": 1,
                    "message": params["arguments"],
                }
                event = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": mine})
                head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
                await stream.send_all(f"{head}data: {event}\n\n".encode())
                begun.append(params)
                if len(begun) == 2:
                    both.set()
                await release.wait()
                content = [{"type": "text", "text": params["arguments"]["who"]}]
                last = {"jsonrpc": "2.0", "id": asked.id, "result": {"content": content}}
                await stream.send_all(f"data: {json.dumps(last)}\n\n".encode())
                raise EOFError

            return write

        upstream.scripts["slow"] = slow
        client = await target.register()
        people = {user: (await target.log_in(client, user))["access_token"] for user in ("alice", "bob")}
        sessions = {user: await target.begin_session(token) for user, token in people.items()}
        assert (await target.post(people["bob"], sessions["alice"], "tools/list")).status_code == 404

        begun: list[Any] = []
        answers: dict[str, str] = {}
        bobs_ended = trio.Event()

        async def call(user: str) -> None:
            params = {"name": "up__slow", "arguments": {"who": user}, "_meta": {"progressToken": 7}}
            answers[user] = (await target.post(people[user], sessions[user], "tools/call", params, id=7)).text
            if user == "bob":
                bobs_ended.set()

        async with trio.open_nursery() as nursery:
            for user in people:
                nursery.start_soon(call, user)
            with trio.fail_after(PATIENCE):
                await both.wait()
            for session, status in ((sessions["bob"], 202), (None, 202), (sessions["alice"], 404)):
                cancel = await target.post(people["bob"], session, "notifications/cancelled", {"requestId": 7}, id=None)
                assert cancel.status_code == status
                if session == sessions["bob"]:
                    with trio.fail_after(PATIENCE):
                        await bobs_ended.wait()
            release.set()
        assert answers["alice"].count("alice") == 2  # the progress and the result
        assert "bob" not in answers["alice"]
        assert answers["bob"].count("bob") == 1
        assert "alice" not in answers["bob"]
        assert "cancelled" in answers["bob"]


async def test_one_person_cannot_take_everybodys_turn() -> None:
    """As many calls as one may have, all hanging, and the largest bodies; somebody else is served at once."""
    release = trio.Event()

    async def hang(stream: trio.SocketStream) -> None:
        await release.wait()
        raise EOFError

    async with open_upstream() as upstream, open_target(upstream) as target:
        upstream.scripts["hang"] = lambda asked: hang
        client = await target.register()
        alice, bob = [(await target.log_in(client, user))["access_token"] for user in ("alice", "bob")]
        async with trio.open_nursery() as nursery:
            for n in range(70):
                nursery.start_soon(target.ask, alice, "tools/call", {"name": "up__hang", "arguments": {"n": n}})
            await wait_until(lambda: sum(b"hang" in asked.body for asked in upstream.seen) == 64)
            for _ in range(4):
                large = {"name": "up__echo", "arguments": {"x": [[]] * 900_000}}
                nursery.start_soon(target.ask, alice, "tools/call", large)
            with trio.fail_after(PATIENCE):
                assert "64 calls running already" in await target.call(alice, "up__hang")
                assert await target.call(bob, "up__echo", a=1) == '{"a": 1}'
            release.set()


async def test_whoever_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    """Clients that leave anywhere: before, within and after a head, a body, an answer, a stream."""
    async with open_upstream() as upstream, open_processes(tmp_path, upstream, 1) as processes:
        target, process = processes.target, processes.running[0]
        upstream.scripts["stream"] = endless(
            b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x"}}\n\n'
        )
        token = (await target.log_in(await target.register()))["access_token"]
        head = f"POST /mcp HTTP/1.1\r\nHost: {urlsplit(target.url).netloc}\r\nAuthorization: Bearer {token}\r\n"
        head += "Content-Type: application/json\r\n"
        meta = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}, f"{META}logLevel": "info"}
        params = {"name": "up__stream", "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        named = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: up__stream\r\n"
        whole = f"{head}{named}Content-Length: {len(body)}\r\n\r\n{body}"
        ways = (
            "",
            head[:50],
            f"{head}Content-Length: 4000000\r\n\r\n{'x' * 1000}",
            f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello",
            f"{head}Content-Length: 2\r\n\r\n{{}}" * 30,
            whole,
            f"{whole}GARBAGE\r\n\r\n",
            f"{head.replace('/mcp', '/healthz')}\r\n",
        )
        before = len(os.listdir(f"/proc/{process.process.pid}/fd"))

        async def come_and_go(n: int) -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", urlsplit(target.url).port or 0)
            await stream.send_all(ways[n % len(ways)].encode())
            await trio.sleep(n % 4 * 0.05)
            if n % 3 == 0:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # by a reset
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for n in range(160):
                nursery.start_soon(come_and_go, n)
        with trio.move_on_after(PATIENCE):  # lingering takes five seconds
            while len(os.listdir(f"/proc/{process.process.pid}/fd")) > before + 5:  # noqa: ASYNC110
                await trio.sleep(0.2)
        assert len(os.listdir(f"/proc/{process.process.pid}/fd")) <= before + 5
        assert await target.call(token, "up__echo", a=1) == '{"a": 1}'
        assert "Traceback" not in process.output()
