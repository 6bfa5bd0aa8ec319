"""Broken upstreams among whole ones, on real sockets: nobody else waits for them, and what they do is told in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port
from tests.parts.servers import open_everything, open_older_python_server, open_python_server, open_ts_server

from .asking import LEGACY, MODERN, Asking, open_asking, text_of
from .deployment import Deployment, open_deployment
from .faulty import answer, babble, be_silent, be_stuck, hang_up, open_faulty

pytestmark = pytest.mark.live

NOBODY_LOGS_IN = "http://127.0.0.1:9"
DISCOVERY = 4.0  # seconds

FAULTS = {
    "silent": be_silent,
    "stuck": be_stuck,
    "hanging": hang_up,
    "babbling": babble,
    "page": answer("200 OK", "content-type: text/html", body="<h1>It works!</h1>"),
    "nonsense": answer("200 OK", "content-type: application/json", body='{"hello": "world"}'),
    "closed": answer("401 Unauthorized", 'www-authenticate: Bearer realm="elsewhere"'),
    "moved": answer("308 Permanent Redirect", "location: http://127.0.0.1:9/new"),
    "broken": answer("500 Internal Server Error", "content-type: text/plain", body="at line 7"),
    "busy": answer("503 Service Unavailable", "retry-after: 30"),
}
IN_STATUS = {
    "silent": "no list within 4 s",
    "stuck": "no list within 4 s",
    "dead": "Connection refused",
    "hanging": "broke off or does not speak HTTP",
    "babbling": "does not speak HTTP",
    "page": "content type 'text/html', not MCP",
    "nonsense": "not MCP",
    "closed": "HTTP 401 Unauthorized",
    "moved": "configure the final URL",
    "broken": "HTTP 500 Internal Server Error",
    "busy": "HTTP 503 Service Unavailable",
}


@dataclass(frozen=True)
class Village:
    """Eleven broken upstreams and five whole ones."""

    deployment: Deployment
    dead_port: int


@asynccontextmanager
async def open_village() -> AsyncIterator[Village]:
    dead_port = free_port()
    async with AsyncExitStack() as stack:
        upstreams = await stack.enter_async_context(open_faulty(FAULTS))
        upstreams["dead"] = f"http://127.0.0.1:{dead_port}/mcp"
        upstreams["everything"] = await stack.enter_async_context(open_everything())
        upstreams["newer"] = await stack.enter_async_context(open_python_server())
        upstreams["older"] = await stack.enter_async_context(open_older_python_server())
        upstreams["dual"] = await stack.enter_async_context(open_ts_server("dual"))
        upstreams["modern"] = await stack.enter_async_context(open_ts_server("modern"))
        fields = {"discovery_timeout": DISCOVERY, "tool_timeout": PATIENCE, "auth_type": "none"}
        deployment = await stack.enter_async_context(
            open_deployment(upstreams, issuer=NOBODY_LOGS_IN, upstream_fields=fields)
        )
        yield Village(deployment, dead_port)


async def timed_list(asking: Asking) -> tuple[float, set[str]]:
    started = trio.current_time()
    names = await asking.tools()
    return trio.current_time() - started, {name.partition("__")[0] for name in names}


@pytest.mark.requirement("AF1", "AF4")
async def test_broken_upstreams_delay_nobody_twice_and_are_named_with_their_causes() -> None:
    whole = {"everything", "newer", "older", "dual", "modern", "gateway"}
    async with open_village() as village, open_asking(village.deployment.url) as asking:
        seconds, upstreams = await timed_list(asking)
        assert upstreams == whole
        assert seconds < 2 * DISCOVERY, "two never answer, and are waited for together"
        async with open_asking(village.deployment.url, LEGACY, subject="bob") as another:
            for client in (asking, another):
                again = [await timed_list(client) for _ in range(3)]  # the best of three: others use this machine, too
                assert all(upstreams == whole for _, upstreams in again)
                assert min(again)[0] < DISCOVERY, "nobody waits for them a second time"

        rows = await asking.status()
        for name, words in IN_STATUS.items():
            assert words in rows[name]["lastError"], rows[name]
            assert rows[name]["state"] == "unreachable"
        for name in whole - {"gateway"}:
            assert (rows[name]["state"], rows[name]["lastError"]) == ("connected", None)

        for name in IN_STATUS:
            result = await asking.call(f"{name}__anything")
            assert result["isError"], result
            words = text_of(result)
            assert words.startswith(f"Error calling {name}__anything: upstream {name}: "), words
            assert IN_STATUS[name] in words
            assert "; its tools are not known yet, so nothing was run (after " in words

        async with open_python_server(village.dead_port):
            with trio.fail_after(PATIENCE):
                while "dead__echo" not in await asking.tools():  # noqa: ASYNC110 - it asks until it is answered
                    await trio.sleep(LOOK_AGAIN)
            assert text_of(await asking.call("dead__echo", message="alive")) == "Echo: alive"
            assert (await asking.status())["dead"]["state"] == "connected"


async def test_a_call_to_an_upstream_that_broke_after_it_was_listed_says_what_happened() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        async with open_python_server(port):
            deployment = await stack.enter_async_context(
                open_deployment({"gone": f"http://127.0.0.1:{port}/mcp"}, issuer=NOBODY_LOGS_IN)
            )
            asking = await stack.enter_async_context(open_asking(deployment.url))
            assert "gone__echo" in await asking.tools()
        result = await asking.call("gone__echo", message="hello")
        assert result["isError"]
        words = text_of(result)
        assert words.startswith(
            f"Error calling gone__echo: upstream gone: cannot connect (127.0.0.1:{port}: Connection refused)"
        )
        assert "; the tool was not run (after " in words
        assert "gone__echo" in await asking.tools()  # the last good listing


async def test_a_restarted_upstream_is_as_before_for_whoever_calls_it() -> None:
    """Its sessions are gone; the client sees nothing of it."""
    port = free_port()
    async with AsyncExitStack() as stack:
        for older in (True, False):
            open_server = open_everything if older else open_python_server
            async with open_server(port):
                deployment = await stack.enter_async_context(
                    open_deployment({"up": f"http://127.0.0.1:{port}/mcp"}, issuer=NOBODY_LOGS_IN)
                )
                clients = [
                    await stack.enter_async_context(open_asking(deployment.url, revision))
                    for revision in (MODERN, LEGACY)
                ]
                for client in clients:
                    assert text_of(await client.call("up__echo", message="before")) == "Echo: before"
            async with open_server(port):
                for client in clients:
                    assert text_of(await client.call("up__echo", message="after")) == "Echo: after"


async def test_an_upstream_that_changed_its_revision_is_noticed_by_the_next_call() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        async with open_older_python_server(port):
            deployment = await stack.enter_async_context(
                open_deployment({"up": f"http://127.0.0.1:{port}/mcp"}, issuer=NOBODY_LOGS_IN)
            )
            asking = await stack.enter_async_context(open_asking(deployment.url))
            assert text_of(await asking.call("up__echo", message="1.x")) == "Echo: 1.x"
            assert (await asking.status())["up"]["revision"] == LEGACY
        async with open_python_server(port):
            assert text_of(await asking.call("up__echo", message="2.x")) == "Echo: 2.x"
            assert (await asking.status())["up"]["revision"] == MODERN
        async with open_older_python_server(port):  # and back: somebody undid the upgrade
            assert text_of(await asking.call("up__echo", message="1.x")) == "Echo: 1.x"
            assert (await asking.status())["up"]["revision"] == LEGACY
