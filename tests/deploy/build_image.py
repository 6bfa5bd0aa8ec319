"""Build the image for real and run it: ``python -m tests.deploy.build_image``. As root, on Debian.

buildah builds deploy/Dockerfile without a daemon. Where no registry can be
reached, the base is a stand-in: Debian with its own Python, stripped of bytecode
as the official image is (sizes then differ from the official one's by the base).
The container is made by hand, as strict as deploy/kubernetes: root file system
read-only, no /tmp, uid 1000 without capabilities, process 1 of its own namespace,
a volume as fsGroup mounts it. This file does not know what is in the image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.parts.install import CACHE
from tests.parts.processes import free_port

from .dockerfile import ROOT

STAND_IN = "localhost/stand-in-for-python"
IMAGE = "localhost/mcp-aggregator"
PACKAGES = "python3-minimal,python3-venv,python3-pip,ca-certificates"
# Docker Official Images: no bytecode, and Python is `python` under /usr/local/bin.
LIKE_THE_OFFICIAL_ONE = (
    "ln -s /usr/bin/python3 /usr/local/bin/python; find /usr -name __pycache__ -prune -exec rm -r {} +"
)
CERTIFICATES = Path("/etc/ssl/certs")
START_DEADLINE = 20.0  # seconds
SECRET = "3f1c9a0d5e7b42861f0e9d8c7b6a59483726150493827160a5b4c3d2e1f0a9b8"

# $1 image, $2 data, then what to execute. All but /data becomes read-only; the last exec makes it process 1.
CONTAINER = """
set -eu
image=$1 data=$2; shift 2
mount --bind "$image" "$image"
[ -e "$image/dev/null" ] || : > "$image/dev/null"
mount --bind /dev/null "$image/dev/null"
mount -t proc proc "$image/proc"
mount --bind "$data" "$image/data"
mount -o remount,bind,ro "$image"
exec "$@"
"""


class Buildah:
    """buildah with storage of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = ["--storage-driver", "overlay", "--root", f"{folder}/root", "--runroot", f"{folder}/run"]

    def __call__(self, *words: str, show: bool = False) -> str:
        done = subprocess.run(
            ["buildah", *self._storage, *words], cwd=ROOT, capture_output=not show, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"buildah {words[0]} ended with {done.returncode}\n{done.stderr or ''}")
        return (done.stdout or "").strip()

    def make_stand_in(self) -> None:
        archive = CACHE / "stand-in.tar"
        if not archive.exists():
            what = ["--variant=minbase", f"--include={PACKAGES}", "bookworm", str(archive)]
            subprocess.run(["mmdebstrap", "--quiet", *what], check=True)
        container = self("from", "scratch")
        self("add", "--quiet", container, str(archive), "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self("run", "--isolation", "chroot", container, "sh", "-c", LIKE_THE_OFFICIAL_ONE)
        self("commit", "--quiet", "--rm", container, STAND_IN)

    def build(self, base: str) -> None:
        # The machine's certificates, for package registries behind a proxy; mounted, and so never in the image.
        pip = self._folder / "pip.conf"
        pip.write_text(f"[global]\ncert = {CERTIFICATES}/ca-certificates.crt\n")
        mounts = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "-v", f"{pip}:/etc/pip.conf:ro"]
        how = ["--isolation", "chroot", "--network", "host", "--format", "docker"]
        how += ["--pull-never"] if base == STAND_IN else []
        what = ["--build-arg", f"PYTHON_IMAGE={base}", "-f", "deploy/Dockerfile", "-t", IMAGE, "."]
        self("bud", *how, *mounts, *what, show=True)

    def settings(self) -> Any:
        """Entrypoint, Env, User and so on of the image."""
        return json.loads(self("inspect", "--type", "image", IMAGE))["Docker"]["config"]

    def megabytes(self) -> dict[str, float]:
        """The unpacked size of each image."""
        listed = json.loads(self("images", "--json"))
        return {name: _bytes(each["size"]) / 1e6 for each in listed for name in each["names"] or ()}


def _bytes(size: str) -> float:
    number, unit = size.split()
    return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def as_user(image: str, settings: Any, *words: str, **more: str) -> list[str]:
    """`words` inside the unpacked `image`, as its user, without capabilities, with its environment and `more`."""
    uid, gid = settings["User"].split(":")
    drop = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    inside = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *drop, "env", "-C", settings["WorkingDir"], *words]
    pairs = [*settings["Env"], *(f"{name}={value}" for name, value in more.items())]
    return ["env", "-i", *pairs, "/usr/sbin/chroot", image, *inside]


def run_image(buildah: Buildah, data: Path) -> None:
    """Start the image, ask it, stop it; prints what was measured and fails on what is wrong."""
    settings, port = buildah.settings(), free_port()
    image = buildah("mount", buildah("from", "--pull-never", IMAGE))
    nobody = "http://127.0.0.1:9"
    configuration = json.dumps(
        {
            "auth": {"issuer": nobody},
            "upstreams": [{"name": "gone", "url": f"{nobody}/mcp"}],
            "secret": SECRET,
            "storage": "/data/store.sqlite",
            "port": port,
        }
    )
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh", image, str(data)]
    inside = as_user(image, settings, *settings["Entrypoint"], MCP_AGGREGATOR_CONFIG=configuration)
    health = as_user(image, settings, *settings["Healthcheck"]["Test"][1:], PORT=str(port))

    began = time.monotonic()
    process = subprocess.Popen([*alone, *inside])
    try:
        until_ready(f"http://127.0.0.1:{port}/readyz", process)
        print(f"ready after {time.monotonic() - began:.2f} s")
        (inner,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{inner}/status").read_text().splitlines())
        print(f"uid {status['Uid'].split()[0]}, pid {status['NSpid'].split()[-1]}, capabilities {status['CapEff']}")
        print(f"resident {int(status['VmRSS'].split()[0]) / 1024:.0f} MiB")
        began = time.monotonic()
        subprocess.run(health, check=True)
        print(f"health check: 0 after {time.monotonic() - began:.2f} s")
        os.kill(int(inner), signal.SIGTERM)
        began = time.monotonic()
        code = process.wait(40)
        print(f"SIGTERM: exit {code} after {time.monotonic() - began:.2f} s; /data: {sorted(os.listdir(data))}")
        if code != 0 or subprocess.run(health, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            raise SystemExit("it must exit with 0 after SIGTERM, and its health check fail")
    finally:
        process.kill()
        process.wait()


def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when `url` answers 200."""
    end = time.monotonic() + START_DEADLINE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.01)
    raise SystemExit(f"{url} is not ready (exit code {process.poll()})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build deploy/Dockerfile with buildah and run what came out.")
    parser.add_argument(
        "--base", default=STAND_IN, help="such as docker.io/library/python:3.11-slim; default: stand-in"
    )
    base = parser.parse_args().base
    if missing := [tool for tool in ("buildah", "mmdebstrap", "setpriv", "unshare") if shutil.which(tool) is None]:
        raise SystemExit(f"missing: {', '.join(missing)}; apt-get install --no-install-recommends buildah mmdebstrap")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        buildah, data = Buildah(Path(folder)), Path(folder, "data")
        data.mkdir()
        os.chown(data, 0, 1000)
        data.chmod(0o2770)
        try:
            if base == STAND_IN:
                buildah.make_stand_in()
            began = time.monotonic()
            buildah.build(base)
            print(f"built in {time.monotonic() - began:.0f} s")
            for name, size in buildah.megabytes().items():
                print(f"{size:.0f} MB  {name}")
            run_image(buildah, data)
        finally:
            buildah("rm", "--all")
            buildah("rmi", "--all", "--force")


if __name__ == "__main__":
    main()
