"""A credential that a program prints: how often it runs, and what becomes of everything it can do wrong."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from aggregator.config.model import Upstream
from aggregator.errors import UpstreamLost
from aggregator.protocol.jsonrpc import Success
from aggregator.protocol.principal import Principal
from aggregator.protocol.translate import Envelope
from aggregator.upstream.authorized import AuthorizedUpstream
from aggregator.upstream.commands.child import Command
from aggregator.upstream.commands.credential_helper import PAUSE, RERUN_PAUSE, HelperCredentials, life_of
from aggregator.upstream.commands.program_output import HELPER_DEADLINE, MAX_OUTPUT, checked
from aggregator.upstream.credentials import Credential
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.peers import drop

from ...fakes.child import FakeChild, FakeStarts
from ...fakes.mcp_server import FakeServer

NOW = 1_800_000_000.0
ALICE = Principal("https://idp.example.com", "alice")


@dataclass
class Clock:
    """Wall time that follows trio's, and can be wrong."""

    offset: float = NOW

    def __call__(self) -> float:
        return self.offset + trio.current_time()


@dataclass
class Printer:
    """A program that prints the next of `texts` after a second, the last one from then on."""

    texts: list[bytes]
    code: int = 0
    running: int = 0
    at_once: int = 0
    printed: list[bytes] = field(default_factory=list)

    async def __call__(self, child: FakeChild) -> None:
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            await trio.sleep(1)
            text = self.texts[min(len(self.printed), len(self.texts) - 1)]
            self.printed.append(text)
            await child.write(text)
            child.exit(self.code)
        finally:
            self.running -= 1


@asynccontextmanager
async def helping(
    printer: Printer | None, *, ttl: float = 300.0, start: Any = None
) -> AsyncIterator[tuple[HelperCredentials, Clock]]:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        command = Command(("/opt/bin/tokens", "--audience", "secret-audience"), {})
        starts = start or FakeStarts(printer)  # type: ignore[arg-type]
        yield HelperCredentials("up", command, nursery, ttl=ttl, clock=clock, start=starts), clock
        nursery.cancel_scope.cancel()


def jwt(**claims: Any) -> bytes:
    parts = [{"alg": "none"}, claims]
    made = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*made, b"sig"])


def token(credential: Credential | None) -> bytes | None:
    return None if credential is None else dict(credential.headers)[b"authorization"].removeprefix(b"Bearer ")


async def test_it_runs_once_for_a_hundred_calls_at_once_and_a_hundred_after(autojump_clock: Any) -> None:
    printer = Printer([b"t1\n", b"t2\n"])
    async with helping(printer) as (credentials, _):
        found: list[bytes | None] = []

        async def one() -> None:
            found.append(token(await credentials.current(None)))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        for _ in range(100):
            await one()
        assert found == [b"t1"] * 200
        assert (credentials.runs, printer.at_once) == (1, 1)


async def test_a_jwts_own_end_counts_and_not_ttl(autojump_clock: Any) -> None:
    printer = Printer([jwt(exp=int(NOW) + 3600), b"second"])
    async with helping(printer, ttl=60) as (credentials, _):
        await credentials.current(None)
        await trio.sleep(3600 - 32)
        await credentials.current(None)
        assert credentials.runs == 1
        await trio.sleep(2)
        assert token(await credentials.current(None)) == b"second"
        assert credentials.runs == 2


async def test_without_an_end_of_its_own_ttl_counts_less_the_leeway(autojump_clock: Any) -> None:
    async with helping(Printer([b"a", b"b"]), ttl=300) as (credentials, _):
        await credentials.current(None)
        await trio.sleep(269)
        assert token(await credentials.current(None)) == b"a"
        await trio.sleep(2)
        assert token(await credentials.current(None)) == b"b"


@pytest.mark.parametrize(
    "payload",
    [
        b"not JSON",
        b'{"exp": "soon"}',
        b'{"exp": true}',
        b'{"exp": 1e400}',
        b'{"exp": NaN}',
        b"[" * 9000,
        b'{"exp": %d}' % 10**400,
        b"[1]",
        b"\xff",
        b"",
        b"{}",
    ],
)
async def test_what_only_looks_like_a_jwt_lives_for_ttl(autojump_clock: Any, payload: bytes) -> None:
    text = b"x." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b".y"
    async with helping(Printer([text]), ttl=300) as (credentials, _):
        await credentials.current(None)
        await trio.sleep(265)
        await credentials.current(None)
        assert credentials.runs == 1


@pytest.mark.parametrize("ttl", [10.0, 20.0])
async def test_a_life_shorter_than_the_leeway_is_not_a_run_for_every_call(autojump_clock: Any, ttl: float) -> None:
    async with helping(Printer([b"t"]), ttl=ttl) as (credentials, _):
        for _ in range(50):
            await credentials.current(None)
        assert credentials.runs == 1
        await trio.sleep(ttl / 2 + 1)
        await credentials.current(None)
        assert credentials.runs == 2


async def test_a_token_that_has_expired_by_our_clock_is_used_and_warned_of(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with helping(Printer([jwt(exp=int(NOW) - 100)])) as (credentials, _):
        for _ in range(20):
            await credentials.current(None)
        assert credentials.runs == 1
        assert "is one of them wrong" in caplog.text


async def test_a_refused_credential_is_renewed_once_for_all_whom_it_failed(autojump_clock: Any) -> None:
    printer = Printer([b"old", b"new"])
    async with helping(printer) as (credentials, _):
        old = await credentials.current(None)
        found: list[bytes | None] = []

        async def one() -> None:
            found.append(token(await credentials.renewed(None, old, 401, "")))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        await one()  # who heard of the refusal late
        assert found == [b"new"] * 21
        assert (credentials.runs, printer.at_once) == (2, 1)


async def test_one_that_prints_the_same_again_has_no_other(autojump_clock: Any) -> None:
    async with helping(Printer([b"same"])) as (credentials, _):
        same = await credentials.current(None)
        assert await credentials.renewed(None, same, 403, "") is None
        for _ in range(30):
            assert await credentials.renewed(None, same, 403, "") is None
        assert credentials.runs == 2, "a missing right is not a reason to run it for each call"
        await trio.sleep(RERUN_PAUSE)
        assert await credentials.renewed(None, same, 403, "") is None
        assert credentials.runs == 3


async def test_after_a_refusal_nothing_older_is_used_when_the_program_fails(autojump_clock: Any) -> None:
    printer = Printer([b"revoked", b""])
    async with helping(printer) as (credentials, _):
        refused = await credentials.current(None)
        with pytest.raises(UpstreamLost):
            await credentials.renewed(None, refused, 401, "")
        with pytest.raises(UpstreamLost, match="printed nothing"):
            await credentials.current(None)


async def test_a_run_goes_on_when_its_asker_has_gone(autojump_clock: Any) -> None:
    async with helping(Printer([b"t"])) as (credentials, _):
        with trio.move_on_after(0.5):
            await credentials.current(None)
        assert token(await credentials.current(None)) == b"t"
        assert credentials.runs == 1


async def test_a_failure_stands_for_a_moment_and_heals_by_itself(autojump_clock: Any) -> None:
    async with helping(Printer([b"", b"better"])) as (credentials, _):
        for _ in range(50):
            with pytest.raises(UpstreamLost) as lost:
                await credentials.current(None)
            assert not lost.value.executed
        assert credentials.runs == 1
        await trio.sleep(PAUSE)
        assert token(await credentials.current(None)) == b"better"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"  \r\n",
        b"a\nb",
        b"a\r\nX-Evil: 1",
        b"a\x00b",
        b"a\rb",
        "pä".encode(),
        b"a\tb",
        b"a\x7fb",
        b"\xff",
        b"token\nother-persons-token\n",
        b"x" * (MAX_OUTPUT + 1),
    ],
)
async def test_what_no_header_can_hold_is_an_error_that_does_not_repeat_it(
    autojump_clock: Any, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with helping(Printer([text])) as (credentials, _):
        with pytest.raises(UpstreamLost, match=r"^its credential helper tokens printed ") as lost:
            await credentials.current(None)
        if len(text.strip()) > 3:
            assert text.decode(errors="replace")[:10] not in str(lost.value) + caplog.text
        assert "secret-audience" not in str(lost.value) + caplog.text + repr(credentials)


@pytest.mark.parametrize("text", [b"t", b" t \n", b"t\r\n", b"Zm9v+/=_-.~"])
async def test_space_around_it_is_not_it(autojump_clock: Any, text: bytes) -> None:
    async with helping(Printer([text])) as (credentials, _):
        assert token(await credentials.current(None)) == text.strip()


@given(st.binary(max_size=200))
def test_any_output_is_one_header_value_or_an_error(output: bytes) -> None:
    try:
        text = checked(output, 0)
    except UpstreamLost:
        return
    assert text == output.strip(b" \t\r\n")
    assert text.isascii()
    assert text.decode().isprintable()


@given(st.one_of(st.binary(max_size=50), st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists)))
def test_any_token_has_a_life_that_ends(claim: object) -> None:
    payload = claim if isinstance(claim, bytes) else json.dumps({"exp": claim}).encode()
    life = life_of(b"h." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b".s", NOW, 300.0)
    assert 0 < life < 1e11


async def test_an_exit_code_spoils_what_was_printed(autojump_clock: Any) -> None:
    async with helping(Printer([b"looks-good"], code=1)) as (credentials, _):
        with pytest.raises(UpstreamLost, match="failed with exit code 1") as lost:
            await credentials.current(None)
        assert "looks-good" not in str(lost.value)


async def test_one_that_hangs_is_stopped(autojump_clock: Any) -> None:
    async def hang(child: FakeChild) -> None:
        await trio.sleep_forever()

    starts = FakeStarts(hang)
    async with helping(None, start=starts) as (credentials, _):
        with pytest.raises(UpstreamLost, match=r"printed nothing within 30 s"):
            await credentials.current(None)
        assert trio.current_time() - starts.at[0] == pytest.approx(HELPER_DEADLINE)
        assert starts.runs[0].ended == "at once"


async def test_closing_the_app_lets_go_of_who_waits(autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery, trio.open_nursery() as app:
        credentials = HelperCredentials(
            "up", Command(("tokens",), {}), app, ttl=300, clock=Clock(), start=FakeStarts(Printer([b"t"]))
        )

        async def ask() -> None:
            with pytest.raises(UpstreamLost, match="was stopped"):
                await credentials.current(None)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        app.cancel_scope.cancel()


def real(folder: Path, code: str) -> Command:
    program = folder / "helper"
    program.write_text(f"#!{sys.executable} -ISE\nimport os, sys, time, signal\n{code}\n")
    program.chmod(0o755)
    return Command((str(program),), {"PATH": os.environ["PATH"]})


async def outcome_of(command: Command) -> str:
    async with trio.open_nursery() as nursery:
        credentials = HelperCredentials("up", command, nursery, ttl=300, clock=Clock())
        try:
            return (token(await credentials.current(None)) or b"").decode()
        except UpstreamLost as exc:
            return str(exc)
        finally:
            nursery.cancel_scope.cancel()


@pytest.mark.live
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("print('real')", "real"),
        ("print(sys.stdin.read() + 'asked nothing')", "asked nothing"),
        ("while True: os.write(1, b'x' * 65536)", "printed more than 65536 bytes"),
        ("os.write(2, b'e' * 10**6); print('after a flood')", "after a flood"),
        ("print('t'); sys.exit(1)", "failed with exit code 1"),
        ("os.kill(os.getpid(), 9)", "was ended by signal 9"),
        ("print('a\\nb')", "more than one line"),
        ("print('a\\0b')", "no header can hold"),
        ("time.sleep(600) if os.fork() == 0 else print('it leaves a child')", "it leaves a child"),
    ],
)
async def test_real_programs_do_what_they_like_and_we_are_unharmed(tmp_path: Path, code: str, outcome: str) -> None:
    with trio.fail_after(60):
        assert outcome in await outcome_of(real(tmp_path, code))


@pytest.mark.live
async def test_a_missing_program_is_said() -> None:
    outcome = await outcome_of(Command(("/no/such/helper",), {}))
    assert outcome.startswith("its credential helper helper cannot be started: there is no such file; correct its path")


async def test_a_jwt_is_run_for_once_for_a_hundred_calls_once_near_its_end_and_once_after_a_401(
    autojump_clock: Any,
) -> None:
    """Through the upstream that asks for it."""
    first, second, third = (jwt(exp=int(NOW) + life, n=n) for n, life in enumerate((3600, 7200, 99_999)))
    printer = Printer([first, second, third])
    async with helping(printer) as (credentials, _), trio.open_nursery() as nursery:
        server = FakeServer(nursery)
        server.tool("t")
        config = Upstream("up", "https://up.example", "up", auth_type="command")
        http = HttpUpstream("up", server, {"name": "us", "version": "1"}, nursery)
        upstream = AuthorizedUpstream(config, http, credentials)
        server.accounts = {first.decode(): None, second.decode(): None}

        async def call() -> None:
            params = {"name": "t", "arguments": {}}
            answered = await upstream.request(ALICE, "tools/call", params, Envelope("2026-07-28", {}), drop)
            assert isinstance(answered.outcome, Success)

        async def hundred() -> int:
            async with trio.open_nursery() as calls:
                for _ in range(100):
                    calls.start_soon(call)
            return credentials.runs

        assert await hundred() == 1
        assert await hundred() == 1
        await trio.sleep(3600 - 31)
        assert await hundred() == 2, "near the end of the first"
        server.accounts = {third.decode(): None}
        assert await hundred() == 3, "after a 401"
        assert printer.at_once == 1
        assert len(server.calls()) == 500, "each refused call was sent once more"
        nursery.cancel_scope.cancel()
