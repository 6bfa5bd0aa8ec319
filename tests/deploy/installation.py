"""What the image holds, without a container: made by the Dockerfile's own RUN steps in a folder of this machine.

The wheels come from the locks once and are kept; each installation checks their
hashes again. This file does not know what is asked of the installation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.parts.install import CACHE

from .dockerfile import DEPLOY, ROOT, copied, environment, instructions

UID = GID = 1000  # the image's USER
IMAGE_HOME = "/opt/mcp-aggregator"
LOCKS = ("requirements.txt", "build-requirements.txt")


class NoInterpreter(AssertionError):
    """Only root can run the Pythons of this machine; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Installation:
    """`home` is the image's /opt/mcp-aggregator, which nobody may write to; `data` its /data."""

    home: Path
    data: Path

    @property
    def site_packages(self) -> Path:
        return self.home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def command(self, *words: str) -> list[str]:
        """`words` as the image's user runs them: without a single privilege."""
        program, *arguments = words
        own = self.home / "bin" / program
        return [*unprivileged(), str(own) if own.exists() else program, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """The image's, with neither a home nor a place for temporary files."""
        named = environment(stage=1)
        named["PATH"] = named["PATH"].replace(IMAGE_HOME, str(self.home)).replace("$PATH", os.defpath)
        return {**named, "HOME": "/nonexistent", "TMPDIR": "/nonexistent", **more}


def unprivileged() -> list[str]:
    """What stands before a command to run it as the image's user; nothing if we are ordinary ourselves."""
    if os.geteuid() != 0:
        return []
    drop = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={UID}", f"--regid={GID}", *drop]


@contextmanager
def open_installation() -> Iterator[Installation]:
    """An installation for the block, in a folder that every user can reach."""
    base = Path(tempfile.mkdtemp(prefix="mcp-aggregator-"))
    try:
        base.chmod(0o755)
        _build(base)
        data = base / "data"
        data.mkdir()
        if os.geteuid() == 0:  # as Kubernetes mounts a volume for fsGroup 1000
            os.chown(data, 0, GID)
            data.chmod(0o2770)
        else:
            _set_writable(base / "opt", False)
        yield Installation(base / "opt", data)
    finally:
        _set_writable(base, True)
        shutil.rmtree(base)


def _build(base: Path) -> None:
    """The build stage: its COPY from the build context, its RUN with the image's paths moved under `base`."""
    source = base / "src"
    source.mkdir()
    for name in copied(stage=0):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / Path(name).name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    moved = {
        "python -m venv /build": f"{sys.executable} -m venv {base}/build",
        "python -m venv --without-pip": f"{usable_interpreter()} -m venv --without-pip",
        "/build/": f"{base}/build/",
        "/wheels": f"{base}/wheels",
        IMAGE_HOME: f"{base}/opt",
    }
    # Of our own environment nothing that changes where Python finds packages: pip would take those for installed.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    settings = {**ours, **environment(stage=0), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels())}
    for step in instructions("RUN", stage=0):
        for image_path, here in moved.items():
            step = step.replace(image_path, here)
        _run(["sh", "-euc", step], cwd=source, env=settings)


def wheels() -> Path:
    """The folder of every wheel that the locks name, filled once for each state of the locks."""
    locks = [DEPLOY / name for name in LOCKS]
    state = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks) + sysconfig.get_platform().encode())
    folder = CACHE / f"wheels-{state.hexdigest()[:16]}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=CACHE, prefix="wheels."))
        for lock in locks:
            download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
            _run([sys.executable, "-m", "pip", *download, "--dest", str(unfinished), "-r", str(lock)])
        unfinished.rename(folder)
    return folder


def usable_interpreter() -> str:
    """A Python of our own version that the image's user can run; root's own may be under /root.

    Raises:
        NoInterpreter: naming what was tried.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    tried = [f"{sys.base_prefix}/bin/{version}", f"/usr/local/bin/{version}", f"/usr/bin/{version}"]
    for path in tried:
        # Asked for its prefix: where it cannot read its own library it finds another's, and half works.
        question = [*unprivileged(), path, "-ISc", "import sys, ssl, sqlite3; print(sys.prefix)"]
        if os.path.exists(path):
            answer = subprocess.run(question, capture_output=True, text=True, check=False, cwd="/").stdout.strip()
            if answer and path.startswith(f"{answer}/bin/"):
                return path
    raise NoInterpreter(f"uid {UID} can run none of {', '.join(tried)}; install the distribution's python3")


def _set_writable(folder: Path, writable: bool) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o200 if writable else mode & ~0o222)


def _run(command: list[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
