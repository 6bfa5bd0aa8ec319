"""Real processes: what they see of us, how they end, and that none outlives us."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aggregator.errors import UpstreamLost
from aggregator.upstream.commands.child import Child, Command, open_child
from aggregator.upstream.commands.child_environment import FOR_HELPERS, FOR_SERVERS, child_environment
from tests.parts.processes import PATIENCE, wait_until

pytestmark = pytest.mark.live

MINIMAL = {"PATH": os.environ["PATH"]}
IMPATIENT = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


@asynccontextmanager
async def running(*argv: str, **more: str) -> AsyncIterator[Child]:
    async with open_child(Command(argv, {**MINIMAL, **more})) as child, trio.open_nursery() as nursery:
        nursery.start_soon(child.watch)
        yield child
        await child.end(gently=False)
        await child.exited.wait()
        nursery.cancel_scope.cancel()


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-c", code


async def output_of(child: Child) -> bytes:
    output = b""
    while chunk := await child.stdout.receive_some():
        output += chunk
    return output


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went between the opening and the reading
        return False


async def wait_gone(*pids: int) -> None:
    await wait_until(lambda: not any(map(is_alive, pids)))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("code", [0, 3])
async def test_the_exit_code_arrives(code: int) -> None:
    async with running(*python(f"import os; os._exit({code})")) as child:
        with trio.fail_after(PATIENCE):
            await child.exited.wait()
        assert child.code == code


async def test_a_signal_is_a_negative_code() -> None:
    async with running(*python("import os; os.kill(os.getpid(), 11)")) as child:
        with trio.fail_after(PATIENCE):
            await child.exited.wait()
        assert child.code == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("argv", "cwd", "cause"),
    [
        (
            ("no-such-program-anywhere",),
            None,
            "there is no such program on the PATH; install it, or name its whole path",
        ),
        (
            ("./no-such-file",),
            None,
            "there is no such file; correct its path, which counts from 'cwd' or our own folder",
        ),
        (("/etc",), None, "it may not be executed; chmod +x it, or begin the command with its interpreter"),
        (
            ("./interpreted",),
            "{folder}",
            "the interpreter in its first line is not there; install that, or begin the command with another",
        ),
        (("./no-program",), "{folder}", "it is no program; begin the command with its interpreter"),
    ],
)
async def test_what_cannot_be_started_says_why_and_what_helps(
    argv: tuple[str, ...], cwd: str | None, cause: str, tmp_path: Path
) -> None:
    for name, text in (("interpreted", "#!/no/such/interpreter\n"), ("no-program", "hello\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    before = open_descriptors()
    with pytest.raises(UpstreamLost) as lost:
        async with open_child(Command(argv, MINIMAL, cwd and cwd.format(folder=tmp_path))):
            pass
    assert (str(lost.value), lost.value.executed) == (f"cannot be started: {cause}", False)
    assert open_descriptors() <= before


async def test_a_folder_that_has_gone_is_named() -> None:
    with pytest.raises(UpstreamLost) as lost:
        async with open_child(Command(("true",), MINIMAL, "/no/such/folder")):
            pass
    assert str(lost.value) == "cannot be started (cwd /no/such/folder): No such file or directory"


async def test_a_text_that_no_process_can_be_given_is_an_answer_and_no_crash() -> None:
    before = open_descriptors()
    with pytest.raises(UpstreamLost, match=r"^cannot be started: a NUL"):
        async with open_child(Command(("true",), {"TOKEN": "a\0b"})):
            pass
    assert open_descriptors() <= before


def limit_that_spares(count: int) -> int:
    """The limit below which so many numbers are free: it is on the numbers, and there may be gaps."""
    free = (number for number in itertools.count() if not Path(f"/proc/self/fd/{number}").exists())
    return next(itertools.islice(free, count, None))


async def test_without_descriptors_to_spare_it_cannot_be_started_and_says_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_descriptors()
    try:
        for spare in (0, 1, 2, 4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit_that_spares(spare), hard))
            with pytest.raises(UpstreamLost, match="cannot be started: Too many open files"):
                async with open_child(Command(("true",), MINIMAL)):
                    pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_descriptors() <= before


@pytest.mark.requirement("ST1")
async def test_no_shell_reads_the_arguments() -> None:
    async with running("printf", "%s|", "$HOME", "`id`", "a b", ";", "*") as child:
        assert await output_of(child) == b"$HOME|`id`|a b|;|*|"


async def test_a_child_sees_its_own_environment_three_pipes_and_nothing_else() -> None:
    code = (
        "import os, json; "
        "print(json.dumps([dict(os.environ), os.listdir('/proc/self/fd'), os.getpgid(0) == os.getpid()]))"
    )
    async with running(*python(code), TOKEN="its own") as child:
        environment, descriptors, leads = json.loads(await output_of(child))
    environment.pop("LC_CTYPE", None)  # Python's own doing
    assert environment == {**MINIMAL, "TOKEN": "its own"}
    assert sorted(descriptors) == ["0", "1", "2", "3"], "the fourth is the listing itself"
    assert leads


def test_of_our_environment_a_child_gets_what_is_allowed() -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/home/a",
        "SHELL": "() { :; }; evil",
        "MCP_AGGREGATOR_SECRET": "s",
        "DATABASE_URL": "postgresql://u:p@h",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "SSH_AUTH_SOCK": "/run/agent",
        "OTHER_UPSTREAMS_TOKEN": "t",
    }
    assert child_environment(ours, FOR_SERVERS, {"A": "b", "HOME": "/data"}) == {
        "PATH": "/bin",
        "HOME": "/data",
        "A": "b",
    }
    assert set(child_environment(ours, FOR_HELPERS, {})) == {"PATH", "HOME", "SSH_AUTH_SOCK"}


async def test_one_that_heeds_the_end_of_its_stdin_gets_no_signal() -> None:
    code = "import sys; print('up', flush=True); sys.stdin.read(); print('bye', flush=True)"
    async with open_child(Command(python(code), MINIMAL)) as child, trio.open_nursery() as nursery:
        nursery.start_soon(child.watch)
        assert await child.stdout.receive_some() == b"up\n"
        await child.end()
        assert child.code == 0
        assert await output_of(child) == b"bye\n"


async def test_one_that_ignores_sigterm_is_killed_in_bounded_time() -> None:
    async with open_child(Command(python(IMPATIENT), MINIMAL)) as child, trio.open_nursery() as nursery:
        nursery.start_soon(child.watch)
        assert await child.stdout.receive_some() == b"up\n"
        began = trio.current_time()
        await child.end()
        with trio.fail_after(PATIENCE):
            await child.exited.wait()
        assert child.code == -signal.SIGKILL
        assert trio.current_time() - began >= 3.9


async def test_its_grandchildren_end_with_it() -> None:
    async with running("sh", "-c", "sleep 600 & echo $!; exit 0") as child:
        grandchild = int(await child.stdout.receive_some())
        with trio.fail_after(PATIENCE):
            await child.exited.wait()
    assert not is_alive(grandchild)


async def test_when_the_guard_is_killed_the_command_is_ended_by_us() -> None:
    async with open_child(Command(("sleep", "600"), MINIMAL)) as child, trio.open_nursery() as nursery:
        nursery.start_soon(child.watch)
        child._guard.kill()
        with trio.fail_after(PATIENCE):
            await child.exited.wait()
        assert child.code is None
    await wait_gone(child.pid)


def is_sleeping(process: Path) -> bool:
    """It is one of those that the next test starts."""
    try:
        return process.joinpath("cmdline").read_bytes() == f"sleep\0601.{os.getpid()}\0".encode()
    except OSError:
        return False


async def test_cancelling_at_any_moment_of_the_start_leaves_no_process_and_no_descriptor() -> None:
    before, seconds = open_descriptors(), f"601.{os.getpid()}"
    for pause in (0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05):
        with trio.move_on_after(pause):
            async with open_child(Command(("sleep", seconds), MINIMAL)):
                await trio.sleep_forever()
    assert open_descriptors() <= before
    await wait_until(lambda: not any(map(is_sleeping, Path("/proc").glob("[0-9]*"))))


OWNER = """
import os, sys, trio
from aggregator.upstream.commands.child import Command, open_child

async def main():
    async with trio.open_nursery() as nursery:
        async def one(argv):
            async with open_child(Command(argv, dict(PATH=os.environ["PATH"]))) as child:
                nursery.start_soon(child.watch)
                print(child.pid, flush=True)
                await trio.sleep_forever()
        for argv in (("sleep", "602"), (sys.executable, "-I", "-S", "-c", sys.argv[1])):
            nursery.start_soon(one, argv)

trio.run(main)
"""


@pytest.mark.parametrize("cycle", range(3))
async def test_our_own_sigkill_leaves_no_orphan(cycle: int) -> None:
    del cycle
    command = [sys.executable, "-c", OWNER, IMPATIENT]
    owner = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    said = b""
    while said.count(b"\n") < 2:
        chunk = await owner.stdout.receive_some()
        assert chunk, "the owner has ended"
        said += chunk
    pids = [int(line) for line in said.split()]
    assert all(map(is_alive, pids))
    owner.kill()
    await owner.wait()
    await owner.stdout.aclose()
    await wait_gone(*pids)  # SIGTERM, two seconds, SIGKILL


async def test_starting_and_ending_leaks_no_descriptor() -> None:
    before = open_descriptors()
    for _ in range(10):
        async with running("true") as child:
            await child.exited.wait()
    assert open_descriptors() <= before
