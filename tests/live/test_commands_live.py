"""Real servers over stdin and stdout, in one catalog and called by its names; and one that does everything wrong."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from aggregator.config.model import Secret, StdioUpstream
from aggregator.errors import UpstreamLost
from aggregator.protocol.jsonrpc import Notice, Success
from aggregator.protocol.principal import Principal
from aggregator.protocol.translate import Envelope
from aggregator.upstream.authorized import AuthorizedUpstream
from aggregator.upstream.commands.wire import MAX_LINE
from aggregator.upstream.kinds import open_configured, shared_credentials
from aggregator.upstream.listings import Listings

from ..parts.install import node_package, node_path, stdio_server_program
from ..parts.processes import LOOK_AGAIN, PATIENCE, wait_until
from ..upstream.commands.test_child import is_alive, open_descriptors, wait_gone

pytestmark = pytest.mark.live

MODERN, OLDER = "2026-07-28", "2025-11-25"
ALICE, BOB = Principal("https://idp.example.com", "alice"), Principal("https://idp.example.com", "bob")
SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")
Json = dict[str, Any]


def upstream(name: str, *command: str | Path, **more: Any) -> StdioUpstream:
    return StdioUpstream(name, name, command=tuple(map(str, command)), discovery_timeout=PATIENCE, **more)


def scripted(revision: str = "modern", **more: Any) -> StdioUpstream:
    return upstream("scripted", sys.executable, "-I", "-S", SCRIPT, revision, **more)


@asynccontextmanager
async def serving(*configs: StdioUpstream) -> AsyncIterator[Listings]:
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        client, context, opened = {"name": "us", "version": "1"}, ssl.create_default_context(), []
        for config in configs:
            mcp = await stack.enter_async_context(open_configured(config, client, context, nursery, None))
            opened.append(AuthorizedUpstream(config, mcp, shared_credentials(config, nursery, lambda: 0.0)))
        yield Listings(opened, nursery, name_length=64, ours=lambda waiting: ())
        nursery.cancel_scope.cancel()


async def use(listings: Listings, name: str, *, as_: Principal = ALICE, **arguments: Any) -> Json:
    """The result of calling the published tool `name`."""

    async def ignore(notice: Notice) -> None: ...

    catalog = await listings.catalog(await listings.view(as_))
    route = catalog.locate(name)
    assert route is not None, sorted(catalog.routes)
    params = {"name": route.tool, "arguments": arguments}
    server = listings.upstreams()[route.upstream]
    answered = await server.request(as_, "tools/call", params, Envelope(MODERN, {}), ignore)
    assert isinstance(answered.outcome, Success), answered
    return answered.outcome.result


async def text_of(listings: Listings, tool: str, **more: Any) -> str:
    text: str = (await use(listings, f"scripted__{tool}", **more))["content"][0]["text"]
    return text


async def wait_held(listings: Listings, count: int) -> None:
    """Until so many calls of `hold` have reached the process."""
    with trio.fail_after(PATIENCE):
        while (await text_of(listings, "heard")).count('"hold"') < count:  # noqa: ASYNC110 - a foreign process
            await trio.sleep(LOOK_AGAIN)


async def test_the_reference_servers_are_listed_and_called_as_one(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello from a file")
    await trio.run_process(["git", "init", "-q", str(tmp_path)])
    node, package = node_path(), "@modelcontextprotocol"
    memory = {"MEMORY_FILE_PATH": Secret(str(tmp_path / "memory.jsonl"))}
    async with serving(
        upstream("everything", node, node_package(f"{package}/server-everything/dist/index.js")),
        upstream("memory", node, node_package(f"{package}/server-memory/dist/index.js"), env=memory),
        upstream("files", node, node_package(f"{package}/server-filesystem/dist/index.js"), tmp_path),
        upstream("time", stdio_server_program("mcp-server-time"), "--local-timezone", "UTC"),
        upstream("git", stdio_server_program("mcp-server-git")),
    ) as listings:
        with trio.fail_after(2 * PATIENCE):
            view = await listings.view(ALICE)
            catalog = await listings.catalog(view)
            assert all(row.state == "connected" for row in listings.status(view)), listings.status(view)
            revisions = {row.name: row.revision for row in listings.status(view)}
            assert revisions == {"everything": OLDER, "memory": OLDER, "files": OLDER, "time": MODERN, "git": MODERN}
            assert len(catalog.tools) > 40
            said = await use(listings, "everything__echo", message="hi")
            assert said["content"][0]["text"] == "Echo: hi"
            assert "hello from a file" in str(await use(listings, "files__read_text_file", path=f"{tmp_path}/note.txt"))
            entity = {"name": "trio", "entityType": "library", "observations": ["structured"]}
            await use(listings, "memory__create_entities", entities=[entity])
            assert "structured" in str(await use(listings, "memory__read_graph"))
            assert "UTC" in str(await use(listings, "time__get_current_time", timezone="UTC"))
            assert "note.txt" in str(await use(listings, "git__git_status", repo_path=str(tmp_path)))


@pytest.mark.parametrize("revision", ["modern", "older", "silent", "strict"])
async def test_every_kind_of_server_answers_many_people_at_once_over_one_pipe(revision: str) -> None:
    async with serving(scripted(revision)) as listings:
        found: list[str] = []

        async def one(number: int) -> None:
            found.append(await text_of(listings, "echo", text=f"said {number}", as_=(ALICE, BOB)[number % 2]))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(one, number)
        assert sorted(found) == sorted(f"said {number}" for number in range(200))


async def test_answers_out_of_order_find_their_people() -> None:
    async with serving(scripted()) as listings:
        found: list[str] = []

        async def hold(label: str) -> None:
            assert await text_of(listings, "hold", label=label) == label
            found.append(label)

        await listings.catalog(await listings.view(ALICE))
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for label in "abc":
                    nursery.start_soon(hold, label)
                await wait_held(listings, 3)
                await text_of(listings, "release", labels=["c", "a", "b"])
        assert sorted(found) == ["a", "b", "c"]


@pytest.mark.requirement("ST1")
async def test_a_server_sees_its_own_environment_and_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MCP_AGGREGATOR_SECRET", "ours")
    monkeypatch.setenv("DATABASE_URL", "ours, too")
    async with serving(scripted(env={"TOKEN": Secret("its own")}, cwd=str(tmp_path))) as listings:
        seen = json.loads(await text_of(listings, "environment"))
        assert seen["env"]["TOKEN"] == "its own"
        assert "ours" not in str(seen["env"])
        assert set(seen["env"]) <= {
            "TOKEN",
            *"HOME LANG LC_ALL LC_CTYPE PATH SHELL TERM TMPDIR TZ USER LOGNAME".split(),
        }
        assert seen["cwd"] == str(tmp_path)
        assert len(seen["fds"]) <= 4


async def test_a_crash_costs_its_own_call_and_the_next_one_waits_for_the_restart() -> None:
    async with serving(scripted()) as listings:
        first = await text_of(listings, "pid")
        with pytest.raises(UpstreamLost, match="ended with exit code 7"):
            await use(listings, "scripted__exit", code=7)
        with trio.fail_after(PATIENCE):
            assert await text_of(listings, "pid") != first


async def test_garbage_on_stdout_costs_nothing() -> None:
    async with serving(scripted()) as listings:
        with trio.fail_after(PATIENCE):
            assert await text_of(listings, "garbage", times=20_000) == "after garbage"


async def test_a_flood_on_stderr_blocks_nobody_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(scripted(env={"TOKEN": Secret("sh0ut3d")})) as listings:
        with trio.fail_after(PATIENCE):
            assert await text_of(listings, "shout", lines=500_000, word="sh0ut3d") == "shouted"
    assert len(caplog.records) < 1000  # of 500,000: 50 at once, and 5 a second
    assert "upstream scripted stderr: I am loud" in caplog.text
    assert "sh0ut3d" not in caplog.text
    assert "\x1b" not in caplog.text


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_gigabyte_without_a_line_end_is_bounded_and_ends_the_process() -> None:
    async with serving(scripted()) as listings:
        pid = await text_of(listings, "pid")
        before = resident()
        with trio.fail_after(PATIENCE), pytest.raises(UpstreamLost):
            await use(listings, "scripted__endless", mebibytes=1024)
        assert resident() - before < 256 * 2**20
        await wait_gone(int(pid))
        assert await text_of(listings, "echo", text="and again") == "and again"


async def test_an_answer_beyond_the_limit_is_refused_and_named() -> None:
    async with serving(scripted()) as listings:
        assert len(await text_of(listings, "huge", size=MAX_LINE - 1000)) == MAX_LINE - 1000
        with trio.fail_after(PATIENCE), pytest.raises(UpstreamLost, match="the limit is 4194304"):
            await use(listings, "scripted__huge", size=MAX_LINE)
        assert await text_of(listings, "echo", text="alive") == "alive"


async def test_one_that_does_not_read_costs_its_callers_their_own_deadlines_and_us_nothing() -> None:
    async with serving(scripted()) as listings:
        pid = int(await text_of(listings, "pid"))
        timed_out = []

        async def one() -> None:
            with trio.move_on_after(1) as scope:
                await use(listings, "scripted__deaf", text="x" * 100_000)
            timed_out.append(scope.cancelled_caught)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        assert timed_out == [True] * 100
    assert not is_alive(pid)


async def test_one_that_ignores_sigterm_and_its_children_end_with_us_in_bounded_time() -> None:
    async with serving(scripted()) as listings:
        grandchild = int(await text_of(listings, "fork"))
        pid = int(await text_of(listings, "pid"))
        await use(listings, "scripted__stubborn")
    await wait_gone(pid, grandchild)


async def test_ten_that_ignore_everything_end_together(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(10)]
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(999)"
    configs = [upstream(name, sys.executable, "-ISc", code, tmp_path / name) for name in names]
    before = open_descriptors()
    async with serving(*configs) as listings:
        listings.warm()
        await wait_until(lambda: len(list(tmp_path.iterdir())) == 10)
    await wait_until(lambda: open_descriptors() == before)


async def test_a_cancelled_call_is_told() -> None:
    async with serving(scripted()) as listings:
        await listings.catalog(await listings.view(ALICE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(use, listings, "scripted__hold", label="x"))
            await wait_held(listings, 1)
            nursery.cancel_scope.cancel()
        heard = json.loads(await text_of(listings, "heard"))
        [held] = [m["id"] for m in heard if m.get("params", {}).get("name") == "hold"]
        [told] = [m["params"] for m in heard if m.get("method") == "notifications/cancelled"]
        assert told["requestId"] == held


async def test_ping_is_answered_and_nothing_else_may_be_asked() -> None:
    async with serving(scripted("older")) as listings:
        await text_of(listings, "ask")
        answers: dict[str, Json] = {}
        with trio.fail_after(PATIENCE):
            while len(answers) < 2:
                answers = {m["id"]: m for m in json.loads(await text_of(listings, "heard")) if "method" not in m}
        assert answers["q1"]["result"] == {}
        assert answers["q2"]["error"]["code"] == -32601


async def test_progress_and_log_messages_arrive() -> None:
    async with serving(scripted()) as listings:
        seen: list[Notice] = []

        async def hear(notice: Notice) -> None:
            seen.append(notice)

        await listings.catalog(await listings.view(ALICE))
        envelope = Envelope(MODERN, {}, "mine", "info")
        params = {"name": "count", "arguments": {"to": 5}}
        await listings.upstreams()["scripted"].request(ALICE, "tools/call", params, envelope, hear)
        progress = [notice.params for notice in seen if notice.method == "notifications/progress"]
        assert progress == [{"progressToken": "mine", "progress": number} for number in range(5)]
        assert [n.params["data"] for n in seen if n.method == "notifications/message"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("on_use", [False, True])
async def test_it_is_started_with_us_or_when_somebody_asks(on_use: bool) -> None:
    async with serving(scripted(start_on_use=on_use)) as listings:
        listings.warm()
        if on_use:
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert listings.upstreams()["scripted"].peer is None
        else:
            await wait_until(lambda: listings.upstreams()["scripted"].peer is not None)
        assert await text_of(listings, "echo", text="here") == "here"


async def test_starting_and_stopping_a_command_again_and_again_leaks_nothing() -> None:
    before = open_descriptors()
    pids = []
    for _ in range(5):
        async with serving(scripted()) as listings:
            pids.append(int(await text_of(listings, "pid")))
    assert not any(map(is_alive, pids))
    await wait_until(lambda: open_descriptors() == before)
