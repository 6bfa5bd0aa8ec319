"""Two processes with one secret and one SQLite file behind a round-robin: no step has to come back to where the one
before it was."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import trio

from aggregator.web.oauth.revocations import PROMISED_WITHIN
from tests.parts.login import LoggedIn, log_in
from tests.parts.processes import LOOK_AGAIN, PATIENCE, free_port
from tests.parts.servers import open_oidc_provider, open_python_server

from .asking import LEGACY, MODERN, Asking, text_of
from .own_process import configuration, open_own_process

pytestmark = pytest.mark.live


class RoundRobin(httpx2.AsyncBaseTransport):
    """Each request to the public address goes to the next process, over a connection of its own."""

    def __init__(self, public: int, ports: list[int]) -> None:
        self._public = public
        self.ports: Iterator[int] = itertools.cycle(ports)
        self._network = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))
        self.way: list[tuple[int, str]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.port == self._public:
            port = next(self.ports)
            self.way.append((port, request.url.path))
            request.url = request.url.copy_with(port=port)  # the Host header stays: that of the public address
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()


class Insistent(RoundRobin):
    """Every request for tokens is made many times at once; the caller gets a success, if there is one."""

    def __init__(self, public: int, ports: list[int], times: int) -> None:
        super().__init__(public, ports)
        self._times = times
        self.answers: list[httpx2.Response] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path != "/token":
            return await super().handle_async_request(request)
        body, self.answers = await request.aread(), []

        async def ask() -> None:
            again = httpx2.Request(request.method, request.url, headers=request.headers, content=body)
            answer = await super(Insistent, self).handle_async_request(again)
            await answer.aread()
            self.answers.append(answer)

        async with trio.open_nursery() as nursery:
            for _ in range(self._times):
                nursery.start_soon(ask)
        return min(self.answers, key=lambda answer: answer.status_code)


@asynccontextmanager
async def open_pair(tmp_path: Path) -> AsyncIterator[tuple[str, list[int]]]:
    """The public URL, at which nobody listens, and the ports of the two processes."""
    public, ports = free_port(), [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(open_oidc_provider(f"http://127.0.0.1:{public}/callback"))
        python = await stack.enter_async_context(open_python_server())
        for port in ports:
            config = configuration(issuer, port, {"python": python}, storage=str(tmp_path / "store.sqlite"))
            config["issuerUrl"] = f"http://127.0.0.1:{public}"
            await stack.enter_async_context(open_own_process("serve", config))
        yield f"http://127.0.0.1:{public}", ports


@asynccontextmanager
async def open_visitor(url: str, ports: list[int]) -> AsyncIterator[tuple[httpx2.AsyncClient, RoundRobin]]:
    transport = RoundRobin(httpx2.URL(url).port or 0, ports)
    async with httpx2.AsyncClient(transport=transport, timeout=PATIENCE) as http:
        yield http, transport


@pytest.mark.requirement("AF25")
async def test_every_step_may_come_to_the_other_process(tmp_path: Path) -> None:
    async with (
        open_pair(tmp_path) as (url, ports),
        open_visitor(url, ports) as (program, _),
        open_visitor(url, ports) as (browser, steps),
    ):
        for order in (ports, ports[::-1]):  # each step on each process
            steps.ports = itertools.cycle(order)
            logged_in = await log_in(program, f"{url}/mcp", browser=browser)
        paths = {path for _, path in steps.way}
        assert {"/authorize", "/callback", "/consent"} <= paths
        for path in ("/authorize", "/callback"):
            assert {port for port, asked in steps.way if asked == path} == set(ports), steps.way

        token = logged_in.tokens["access_token"]
        newer = Asking(f"{url}/mcp", token, program, MODERN)
        older = Asking(f"{url}/mcp", token, program, LEGACY)
        await older.initialize()
        for _ in range(3):  # an odd number of requests each: both clients meet both processes
            assert text_of(await newer.call("python__echo", message="new")) == "Echo: new"
            assert text_of(await older.call("python__echo", message="old")) == "Echo: old"
            assert "python__echo" in await older.tools()

        again = await refresh(program, logged_in)
        assert again["refresh_token"] != logged_in.tokens["refresh_token"]
        repeated = await refresh(program, logged_in)  # on the other process, within the 30 s of grace
        assert repeated["access_token"]


async def end_by_the_client(http: httpx2.AsyncClient, logged_in: LoggedIn) -> None:
    form = {"token": logged_in.tokens["refresh_token"], "client_id": logged_in.client_id}
    assert (await http.post(logged_in.server["revocation_endpoint"], data=form)).status_code == 200


async def end_by_the_person(http: httpx2.AsyncClient, logged_in: LoggedIn) -> None:
    """In the browser of the login, by the button under "Sign out everywhere"."""
    issuer = logged_in.server["issuer"]
    page = (await http.get(f"{issuer}/clients")).text
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page
    gone = await http.post(f"{issuer}/sign-out-everywhere", data={"csrf": found[1]}, headers={"origin": issuer})
    assert gone.status_code == 303


@pytest.mark.requirement("TK8", "TK11")
@pytest.mark.parametrize("end", [end_by_the_client, end_by_the_person])
async def test_what_ends_on_one_is_refused_by_the_other_within_ten_seconds(
    tmp_path: Path, end: Callable[[httpx2.AsyncClient, LoggedIn], Awaitable[None]]
) -> None:
    async with open_pair(tmp_path) as (url, ports), open_visitor(url, ports) as (http, balancer):
        logged_in = await log_in(http, f"{url}/mcp", browser=http)
        session = http.cookies["mcp-session"]  # as a copy of the browser has it, which nobody tells of the end
        client = Asking(f"{url}/mcp", logged_in.tokens["access_token"], http)
        for port in ports:
            balancer.ports = itertools.repeat(port)
            assert "gateway__status" in await client.tools()
        older = replace(client, revision=LEGACY)
        await older.initialize()  # on the other
        listens = {**older.headers({}), "accept": "text/event-stream"}
        async with http.stream("GET", f"{url}/mcp", headers=listens) as stream:
            assert stream.status_code == 200
            balancer.ports = itertools.repeat(ports[0])
            await end(http, logged_in)
            bearer = {"authorization": f"Bearer {client.token}"}
            assert (await http.post(f"{url}/mcp", json={}, headers=bearer)).status_code == 401  # at once, here
            balancer.ports = itertools.repeat(ports[1])
            with trio.fail_after(3 * PROMISED_WITHIN):  # test_revocations counts the seconds
                while (await http.post(f"{url}/mcp", json={}, headers=bearer)).status_code != 401:  # noqa: ASYNC110
                    await trio.sleep(LOOK_AGAIN)
                await stream.aread()  # to its end: whoever listened already hears no more, either
        with pytest.raises(AssertionError, match="400"):  # and nothing comes of the refresh token, on either
            await refresh(http, logged_in)
        if end is end_by_the_person:
            answered = await http.get(f"{url}/clients", headers={"cookie": f"mcp-session={session}"})
            assert answered.status_code == 303, "the copy has to log in again"


@pytest.mark.requirement("TK2")
async def test_a_code_that_is_redeemed_two_hundred_times_at_once_gives_tokens_once_and_they_end(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as (url, ports), open_visitor(url, ports) as (browser, _):
        insistent = Insistent(httpx2.URL(url).port or 0, ports, 200)
        async with httpx2.AsyncClient(transport=insistent, timeout=PATIENCE) as http:
            logged_in = await log_in(http, f"{url}/mcp", browser=browser)
            assert Counter(answer.status_code for answer in insistent.answers) == {200: 1, 400: 199}
            told = {answer.json()["error"] for answer in insistent.answers if answer.status_code == 400}
            assert told == {"invalid_grant"}
        form = {"grant_type": "refresh_token", "client_id": logged_in.client_id, "resource": logged_in.resource}
        form["refresh_token"] = logged_in.tokens["refresh_token"]
        answer = await browser.post(logged_in.server["token_endpoint"], data=form)
        assert answer.json()["error"] == "invalid_grant", "whoever replayed it may be the one who got the tokens"


@pytest.mark.requirement("TK7")
async def test_twenty_refreshes_at_once_leave_one_lineage(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as (url, ports), open_visitor(url, ports) as (http, _):
        logged_in = await log_in(http, f"{url}/mcp", browser=http)
        insistent = Insistent(httpx2.URL(url).port or 0, ports, 20)
        async with httpx2.AsyncClient(transport=insistent, timeout=PATIENCE) as many:
            await refresh(many, logged_in)
        assert {answer.status_code for answer in insistent.answers} == {200}
        heirs = [replace(logged_in, tokens=answer.json()) for answer in insistent.answers]
        third = replace(logged_in, tokens=await refresh(http, heirs[0]))
        for heir in heirs[1:]:  # all of them are one generation, which has one successor
            await refresh(http, heir)
        fourth = replace(logged_in, tokens=await refresh(http, third))
        await refresh(http, fourth)


async def refresh(http: httpx2.AsyncClient, logged_in: LoggedIn) -> dict[str, str]:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": logged_in.tokens["refresh_token"],
        "client_id": logged_in.client_id,
        "resource": logged_in.resource,
    }
    answer = await http.post(logged_in.server["token_endpoint"], data=form)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens
