"""What the image holds runs as an ordinary user who may write nowhere but to /data."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.parts.processes import PATIENCE, Running, free_port, open_process

from .dockerfile import entrypoint, healthcheck
from .installation import UID, Installation, open_installation

pytestmark = pytest.mark.live
SECRET = "3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8"
NOBODY = "http://127.0.0.1:9"  # the discard port
UNCHECKED_HASH = 0b01  # PEP 552: bit 0 "hash-based", bit 1 "check the source"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with open_installation() as installed:
        yield installed


def ask(installation: Installation, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the image's user, in its working directory, and return what it says."""
    return subprocess.run(
        installation.command(*words),
        env=installation.environment(**environment),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def configuration(port: int, storage: Path) -> str:
    """The text that the predecessor's image took with ``-e MCP_AGGREGATOR_CONFIG=...``."""
    return json.dumps(
        {
            "auth": {"issuer": NOBODY, "clientId": "mcp-aggregator"},
            "upstreams": [{"name": "gone", "url": f"{NOBODY}/mcp"}],
            "port": port,
            "secret": SECRET,
            "storage": str(storage),
        }
    )


@asynccontextmanager
async def serving(installation: Installation, port: int, storage: Path) -> AsyncIterator[Running]:
    """The image's entry point with nothing but the variable, once it listens."""
    settings = installation.environment(MCP_AGGREGATOR_CONFIG=configuration(port, storage))
    # env -i: none of the tests' own environment gets through.
    pairs = [f"{name}={value}" for name, value in settings.items()]
    command = ["env", "-i", "-C", "/", *pairs, *installation.command(*entrypoint())]
    async with open_process("the image's entry point", command) as running:
        await running.wait_listening(port)
        yield running


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def privileges(pid: int) -> tuple[int, int]:
    """The effective user and capabilities of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    return int(status["Uid"].split()[1]), int(status["CapEff"], 16)


def files_open_for_writing(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            flags = next(line for line in entry.read_text().splitlines() if line.startswith("flags"))
            target = os.readlink(f"/proc/{pid}/fd/{entry.name}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if int(entry.name) > 2 and target.startswith("/") and int(flags.split()[1], 8) & os.O_ACCMODE:
            found.add(target)
    return found


async def test_it_serves_from_the_predecessors_variable_and_stops_on_sigterm(installation: Installation) -> None:
    """As uid 1000, without a capability, a home or a temporary folder; only the store is written."""
    port, before = free_port(), tree(installation.home)
    store = installation.data / "store.sqlite"
    async with (
        serving(installation, port, store) as running,
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
    ):
        assert (await client.get(f"http://127.0.0.1:{port}/readyz")).text == "ready\n"
        metadata = await client.get(f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server")
        assert metadata.json()["issuer"] == f"http://localhost:{port}"
        assert ask(installation, *healthcheck(), PORT=str(port)).returncode == 0

        assert privileges(running.process.pid) == (UID if os.geteuid() == 0 else os.geteuid(), 0)
        assert {Path(name).parent for name in files_open_for_writing(running.process.pid)} == {installation.data}

        running.process.send_signal(signal.SIGTERM)
        assert await running.process.wait() == 0, running.output()
    assert ask(installation, *healthcheck(), PORT=str(port)).returncode != 0
    assert tree(installation.home) == before
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


async def test_a_store_that_a_volumes_group_could_read_is_closed_again(installation: Installation) -> None:
    """What the kubelet does to files under fsGroupChangePolicy Always; the warning says which file."""
    store = installation.data / "opened.sqlite"
    for expected in ("MCP endpoint", r"opened\.sqlite \(0660\)"):
        async with serving(installation, port := free_port(), store) as running:
            await running.wait_output(expected)
            await running.wait_output(f"127.0.0.1:{port}|0.0.0.0:{port}")
            running.process.send_signal(signal.SIGTERM)
            assert await running.process.wait() == 0
        store.chmod(0o660)


def test_a_volume_that_belongs_to_somebody_else_is_refused_with_words(installation: Installation) -> None:
    """Without fsGroup the mount is root's: exit 69, and the line names the file."""
    refused = ask(
        installation,
        *entrypoint(),
        MCP_AGGREGATOR_CONFIG=configuration(free_port(), installation.home / "store.sqlite"),
    )
    assert refused.returncode == 69
    assert f"storage: {installation.home}/store.sqlite cannot be created: Permission denied" in refused.stderr


def test_the_locked_packages_are_enough_for_the_whole_way(installation: Installation) -> None:
    """Login provider, MCP servers, store, everything: no package of the test environment is behind it."""
    walked = ask(installation, *entrypoint(), "demo", "--check")
    assert walked.returncode == 0, walked.stdout + walked.stderr


def test_without_a_configuration_it_ends_with_78_and_says_where_it_looked(installation: Installation) -> None:
    missing = ask(installation, *entrypoint())
    assert missing.returncode == 78
    assert "MCP_AGGREGATOR_CONFIG" in missing.stderr


def test_every_module_is_compiled_and_never_checked_against_its_source(installation: Installation) -> None:
    """Else each start of a read-only container compiles again, or does once a copied layer has new times."""
    sources = list(installation.site_packages.rglob("*.py"))
    assert len(sources) > 1000
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        assert compiled.read_bytes()[4] == UNCHECKED_HASH, compiled


def test_nothing_that_installs_or_builds_is_left(installation: Installation) -> None:
    present = {path.name for path in installation.site_packages.iterdir()}
    assert not present & {"pip", "setuptools", "wheel", "pytest", "mypy"}
    assert not [path.name for path in (installation.home / "bin").iterdir() if path.name.startswith("pip")]
