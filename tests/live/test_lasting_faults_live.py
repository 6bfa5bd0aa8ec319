"""What goes on being wrong with others, over a whole deployment on real sockets: each test ends with the oracle.

The times that these faults may take are shown in virtual time, beside the code that keeps them.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio

from aggregator.server import open_aggregator
from aggregator.serving import serve_application
from tests.fakes.https import NAMES, make_authority, open_https_server
from tests.parts.browser import LoginStuck
from tests.parts.processes import PATIENCE, free_port

from .asking import bearer_for, open_asking, text_of
from .attacking import Asked, RawUpstream, Target, Writer, answer, open_upstream
from .deployment import SECRET, config_of, open_deployment
from .faulty import be_silent, be_stuck, open_faulty
from .oracle import Balance, assert_healthy, assert_tells_no_secret, kept_log
from .own_process import configuration, open_own_process
from .test_attacks import HOSTILE
from .turning_keys import open_turning_keys

pytestmark = pytest.mark.live

NOBODY_LOGS_IN = "http://127.0.0.1:9"
SAID_AT_MOST_ONCE_IN = (
    30.0  # seconds: between two readings of keys that strangers cause, and what Retry-After says here
)


@asynccontextmanager
async def open_target(*upstreams: RawUpstream, issuer: str = NOBODY_LOGS_IN, **fields: object) -> AsyncIterator[Target]:
    """One aggregator in front of these upstreams, called up0, up1 and so on."""
    urls = {f"up{number}": upstream.url for number, upstream in enumerate(upstreams)}
    async with (
        open_deployment(urls, issuer=issuer, upstream_fields={"auth_type": "none", **fields}) as deployment,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
    ):
        yield Target([deployment.url], issuer, http)


# Upstreams


def slowly(head: bytes, piece: bytes, every: float = 0.05) -> Writer:
    """`head` at once, then `piece` again and again for ever, `every` so many seconds."""

    async def write(stream: trio.SocketStream) -> None:
        await stream.send_all(head)
        while True:
            await stream.send_all(piece)
            await trio.sleep(every)

    return write


OK = b"HTTP/1.1 200 OK\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\nconnection: close\r\n\r\n"
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":1}}\n\n'
SLOW = {
    "head": slowly(OK, b"x"),
    "headers": slowly(OK, b"x: y\r\n"),
    "body": slowly(OK + b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n", b" "),
    "comments": slowly(EVENTS, b": still here\n\n"),
    "line": slowly(EVENTS + b"data: ", b"x"),
}


@pytest.mark.requirement("AF2")
async def test_an_upstream_that_never_quite_answers_is_left_at_the_deadline_and_delays_nobody() -> None:
    def progress(asked: Asked) -> Writer:
        token = str(asked.message["params"]["_meta"]["progressToken"])
        return slowly(EVENTS, PROGRESS % f'"{token}"'.encode(), every=0.7)  # none while the deadline comes

    async with open_upstream() as slow, open_upstream() as quick:
        slow.scripts = {name: lambda asked, writer=writer: writer for name, writer in SLOW.items()}  # type: ignore[misc]
        slow.scripts["progress"] = progress
        async with open_target(slow, quick, tool_timeout=4.0) as target:
            alice, bob = (bearer_for(target.url, subject=name) for name in ("alice", "bob"))
            left: list[str] = []

            async def call(name: str) -> None:
                params = {"name": f"up0__{name}", "arguments": {}, "_meta": {"progressToken": name}}
                begun = trio.current_time()
                with trio.fail_after(PATIENCE):
                    answered = await target.ask(alice, "tools/call", params)
                assert trio.current_time() - begun > 3.9
                assert "upstream up0: no answer within toolTimeout (4 s)" in answered.text, name
                left.append(name)

            async with trio.open_nursery() as nursery:
                for name in slow.scripts:
                    nursery.start_soon(call, name)
                while len(left) < len(slow.scripts):
                    assert await target.call(bob, "up1__echo", a=1) == '{"a": 1}'
                    await trio.sleep(0.1)


@pytest.mark.requirement("AF5")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_upstream_is_left_alone_by_a_hundred_people_for_as_long_as_it_asked(status: int) -> None:
    people = 100
    async with open_upstream() as busy, open_upstream() as calm:
        busy.scripts["run"] = lambda asked: answer(b"", ("retry-after", f"{SAID_AT_MOST_ONCE_IN:.0f}"), status=status)
        async with open_target(busy, calm) as target:
            begun = trio.current_time()
            assert "asks to wait" in await target.call(bearer_for(target.url), "up0__run")

            async def person(number: int) -> None:
                token = bearer_for(target.url, subject=f"p{number}")
                assert "asks to wait" in await target.call(token, "up0__run")
                assert await target.call(token, "up1__echo", n=number) == f'{{"n": {number}}}'

            async with trio.open_nursery() as nursery:
                for number in range(people):
                    nursery.start_soon(person, number)
            asked = [one for one in busy.seen if b"tools/call" in one.body]
            assert len(asked) <= 1 + (trio.current_time() - begun) // SAID_AT_MOST_ONCE_IN * people


@pytest.mark.requirement("AF3")
async def test_nothing_that_an_upstream_answers_in_the_place_of_mcp_takes_much_memory() -> None:
    port = free_port()
    async with open_upstream() as evil:
        evil.scripts.update({name: script for name, (script, _) in HOSTILE.items()})
        config = configuration(NOBODY_LOGS_IN, port, {})
        config["upstreams"] = [{"name": "up", "url": evil.url, "auth": {"type": "none"}}]
        async with (
            open_own_process("serve", config) as process,
            open_asking(f"http://127.0.0.1:{port}") as asking,
        ):
            assert text_of(await asking.call("up__echo", a=1)) == '{"a": 1}'
            before = peak_memory(process.process.pid)
            for name in HOSTILE:
                assert (await asking.call(f"up__{name}"))["isError"], name
            assert peak_memory(process.process.pid) - before < 120 * 1024


def peak_memory(pid: int) -> int:
    """The most that a process has held so far, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


IN_WORDS = {
    "expired": "TLS certificate refused: certificate has expired",
    "foreign": "TLS certificate refused: Hostname mismatch",
    "untrusted": "TLS certificate refused: ",
    "stalled": "no list within 4 s",
    "plain": "TLS handshake failed: ",
}


@pytest.mark.requirement("AF4")
async def test_an_upstream_that_cannot_prove_itself_is_named_with_the_reason_and_not_asked_again_and_again(
    tmp_path: Path,
) -> None:
    """Nothing is sent to it; the handshake of each was the last that it saw of us."""
    async with AsyncExitStack() as stack:
        authorities = {}
        for name, names, days in (("expired", NAMES, -1), ("foreign", ("other.example",), 1), ("untrusted", NAMES, 1)):
            (tmp_path / name).mkdir()
            authorities[name] = make_authority(tmp_path / name, names, valid_for=timedelta(days=days))
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(b"".join(authorities[name].authority.read_bytes() for name in ("expired", "foreign")))
        servers = {
            name: await stack.enter_async_context(open_https_server(authority))
            for name, authority in authorities.items()
        }
        faulty = await stack.enter_async_context(open_faulty({"stalled": be_silent, "plain": be_stuck}))
        urls = {name: f"https://localhost:{server.port}/mcp" for name, server in servers.items()}
        urls |= {name: url.replace("http://", "https://") for name, url in faulty.items()}
        fields = {"discovery_timeout": 4.0, "tool_timeout": 4.0, "auth_type": "none"}
        deployment = await stack.enter_async_context(
            open_deployment(urls, issuer=NOBODY_LOGS_IN, upstream_fields=fields, ca_file=str(trusted))
        )
        asking = await stack.enter_async_context(open_asking(deployment.url))
        await asking.tools()
        rows = await asking.status()
        for name, words in IN_WORDS.items():
            assert words in rows[name]["lastError"], rows[name]
            told = text_of(await asking.call(f"{name}__anything"))
            assert told.startswith(f"Error calling {name}__anything: upstream {name}: ")
            assert words in told
            assert "Traceback" not in told
        for name, server in servers.items():
            assert server.requests == [], name
            assert server.connections < 10, name


# The identity provider


async def log_in(target: Target) -> None:
    tokens = await target.log_in(await target.register())
    assert await target.call(tokens["access_token"], "up0__echo", a=1) == '{"a": 1}'


async def fail_to_log_in(target: Target) -> None:
    with pytest.raises(LoginStuck, match="its signature is by none of the identity provider"):
        await target.log_in(await target.register())


@pytest.mark.requirement("AF8", "OI8")
async def test_keys_that_turn_or_cannot_be_read_keep_nobody_out_who_is_signed_for_by_a_known_one() -> None:
    async with (
        open_upstream() as upstream,
        open_turning_keys() as provider,
        open_target(upstream, issuer=provider.issuer) as target,
    ):
        begun = trio.current_time()
        await log_in(target)
        assert provider.read == 1
        provider.turn("k2", 1)
        await log_in(target)
        assert provider.read == 2

        known, provider.is_ill = provider.signer, True
        provider.turn("k3", 2)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(fail_to_log_in, target)
        provider.signer = known
        await log_in(target)
        assert provider.read <= 2 + (trio.current_time() - begun) // SAID_AT_MOST_ONCE_IN


# Clocks


class Clock:
    """Wall time that is wrong by `ahead` seconds."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def open_clocks(folder: Path, issuer: str, upstream: RawUpstream, *clocks: Clock) -> AsyncIterator[Target]:
    """As many instances on one SQLite file, each with a clock of its own, and the oracle at the end."""
    ports = [free_port() for _ in clocks]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    hosts = tuple(f"127.0.0.1:{port}" for port in ports)
    balance = await Balance.take()
    async with AsyncExitStack() as stack:
        log = stack.enter_context(kept_log())
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=PATIENCE))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for clock, port in zip(clocks, ports, strict=True):
            config = config_of(
                issuer,
                ports[0],
                {"up0": upstream.url},
                upstream_fields={"auth_type": "none"},
                storage=str(folder / "store.sqlite"),
                allowed_hosts=hosts,
            )
            aggregator = await stack.enter_async_context(open_aggregator(config, clock=clock))
            await nursery.start(partial(serve_application, aggregator, host="127.0.0.1", port=port, drain=1.0))
        target = Target(urls, issuer, http)
        yield target
        for url in urls:
            await assert_healthy(url)
        assert_tells_no_secret(log(), (SECRET, *target.secrets.values()))
        nursery.cancel_scope.cancel()
    await balance.assert_even()


@pytest.mark.requirement("AF9")
@pytest.mark.parametrize("skew", [-600.0, -60.0, 60.0, 600.0])
async def test_two_instances_with_different_clocks_take_each_others_tokens(tmp_path: Path, skew: float) -> None:
    async with (
        open_upstream() as upstream,
        open_turning_keys() as provider,
        open_clocks(tmp_path, provider.issuer, upstream, Clock(), Clock(skew)) as target,
    ):
        client = await target.register()
        tokens = await target.log_in(client)
        for at in (1, 0, 1):
            answered = await target.refresh(client, tokens["refresh_token"], at=at)
            assert answered.status_code == 200, answered.text
            tokens = answered.json()
            target.keep("access token", tokens["access_token"])
            assert 0 < tokens["expires_in"] <= 900
            for instance in (0, 1):
                called = await target.ask(
                    tokens["access_token"], "tools/call", {"name": "up0__echo", "arguments": {}}, at=instance
                )
                assert called.status_code == 200, called.text


@pytest.mark.requirement("AF9")
async def test_a_clock_that_jumps_back_an_hour_under_load_moves_no_deadline(tmp_path: Path) -> None:
    clock, release = Clock(), trio.Event()

    async def hang(stream: trio.SocketStream) -> None:
        await release.wait()
        raise EOFError

    async with open_upstream() as upstream, open_turning_keys() as provider:
        upstream.scripts["hang"] = lambda asked: hang
        async with open_clocks(tmp_path, provider.issuer, upstream, clock) as target:
            client = await target.register()
            tokens = await target.log_in(client)
            token = tokens["access_token"]
            ended: list[str] = []

            async def wait_in_vain() -> None:
                ended.append(await target.call(token, "up0__hang"))

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(wait_in_vain)
                while sum(b'"hang"' in one.body for one in upstream.seen) < 10:  # noqa: ASYNC110 - it tells nobody
                    await trio.sleep(0.02)
                clock.ahead = -3600.0
                assert await target.call(token, "up0__echo", a=1) == '{"a": 1}'
                assert not ended, "their time has not come"
                release.set()
            assert all("connection lost" in words or "broke off" in words for words in ended), ended
            renewed = (await target.refresh(client, tokens["refresh_token"])).json()
            assert 0 < renewed["expires_in"] <= 900
