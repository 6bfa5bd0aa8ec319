"""What a crowd comes to: the aggregator with its upstreams and people's accounts there, and what it all takes.

By hand, with larger numbers and the figures of each round; ``--rest`` is how long to wait behind it, since the streams
of upstream sessions outlive the last request by a minute::

    python -m tests.live.crowded [--clients 1000] [--people 100] [--errands 3] [--rounds 3] [--instances 1] [--rest 75]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trio

from aggregator.config.load import parse_config
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.server import serve
from aggregator.store import Connection
from aggregator.store.open import open_store
from tests.parts.install import node_path
from tests.parts.processes import free_port, open_process

from .asking import bearer_for, open_asking, text_of
from .crowd_plans import UPSTREAMS, Plan, account_of, plan_of
from .crowding import Crowd, Tally
from .deployment import SECRET
from .oracle import open_files
from .own_process import configuration, open_own_process

SERVER = Path(__file__).parent.parent / "parts" / "servers" / "crowd.mjs"
ISSUER = "http://127.0.0.1:9"  # nobody logs in
TICK = os.sysconf("SC_CLK_TCK")
ROUND = 240.0  # seconds; nothing is judged by them but whether it ends

LISTENS = "0A"  # the state of a listening socket in /proc/net/tcp

Way = Literal["serve", "command", "embedded"]


@dataclass(frozen=True, slots=True)
class Scene:
    """The instances, all under the address of the first, by their ports and processes. An embedded one is in ours.
    `bearers` are people's, and `sessions` their clients', by number."""

    ports: tuple[int, ...]
    pids: tuple[int, ...]
    bearers: dict[str, str]
    sessions: dict[int, str] = field(default_factory=dict)

    @property
    def issuer_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def crowd(self, plans: Sequence[Plan]) -> Crowd:
        return Crowd(plans, self.ports, self.issuer_url.removeprefix("http://"), self.bearers, self.sessions)

    async def census(self) -> dict[str, dict[str, int]]:
        """What each upstream says of itself."""
        async with open_asking(self.issuer_url, subject="p0") as asking:
            return {name: json.loads(text_of(await asking.call(f"{name}__census"))) for name in UPSTREAMS}


@asynccontextmanager
async def open_scene(
    folder: Path, *, people: int, way: Way = "serve", instances: int = 1, mute: bool = False
) -> AsyncIterator[Scene]:
    """Everything, and a store in which everybody has an account at ``older``, which is perhaps `mute` between calls."""
    ports = tuple(free_port() for _ in range(instances))
    storage = str(folder / "store.sqlite")
    await _fill(storage, people)
    pids = []
    async with AsyncExitStack() as stack:
        flags = {"newer": (), "older": ("mute",) * mute}
        upstreams = {kind: await stack.enter_async_context(_open_server(kind, *flags[kind])) for kind in flags}
        nursery = await stack.enter_async_context(trio.open_nursery())
        for port in ports:
            config = _config(port, ports[0], upstreams, storage)
            if way == "embedded":
                loaded = parse_config(json.dumps(config), source="crowd", environ={}, cwd=folder)
                await nursery.start(serve, loaded.config)
                pids.append(os.getpid())
            else:
                running = await stack.enter_async_context(open_own_process(way, config))
                pids.append(running.process.pid)
        public = f"http://127.0.0.1:{ports[0]}"
        bearers = {person: bearer_for(public, subject=person) for person in _people(people)}
        yield Scene(ports, tuple(pids), bearers)
        nursery.cancel_scope.cancel()


def _config(port: int, public: int, upstreams: dict[str, str], storage: str) -> dict[str, Any]:
    """Nothing is to fail for want of time, however little of it the machine has for us."""
    patience: dict[str, Any] = {"toolTimeout": 200_000, "discoveryTimeout": 60_000, "drain": "2s"}
    config = configuration(ISSUER, port, upstreams, storage=storage, **patience)
    config["issuerUrl"] = f"http://127.0.0.1:{public}"
    config["upstreams"][0]["auth"] = {"type": "none"}
    config["upstreams"].append({"name": "program", "command": [str(node_path()), str(SERVER), "program"]})
    return config


@asynccontextmanager
async def _open_server(kind: str, *flags: str) -> AsyncIterator[str]:
    async with open_process(kind, [str(node_path()), str(SERVER), kind, *flags]) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


def _people(count: int) -> Iterator[str]:
    return (f"p{number}" for number in range(count))


async def _fill(storage: str, people: int) -> None:
    now = time.time()
    async with open_store(storage, KeyRing([bytes.fromhex(SECRET)]), issuer=ISSUER) as store:
        for person in _people(people):
            account = account_of(person)
            row = Connection(
                Principal(ISSUER, person), "older", account, account, None, expires_at=now + 86400, issued_at=now
            )
            await store.save_connection(row)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a process holds. Memory is in kilobytes, `cpu` in seconds."""

    rss: int
    files: int
    threads: int
    cpu: float

    @classmethod
    def by(cls, pid: int) -> Taken:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert found is not None
        spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(spent[11]) + int(spent[12])) / TICK
        return cls(int(found[1]), open_files(pid), len(os.listdir(f"/proc/{pid}/task")), cpu)


def connections_at(port: int, pid: int) -> int:
    """How many connections a process has that came in at a loopback port."""
    local = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1] == local and row[3] != LISTENS}
    return sum(target in inodes for target in _targets(pid))


def _targets(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield os.readlink(descriptor)
        except FileNotFoundError:
            pass  # closed meanwhile


def raise_file_limit(wanted: int) -> None:
    """For this process, and those that it starts.

    Raises:
        AssertionError: if the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    assert allowed >= wanted, f"{wanted} files have to be open at once, and the hard limit (ulimit -Hn) is {hard}"


async def run_round(scene: Scene, plans: Sequence[Plan]) -> tuple[Tally, list[Taken]]:
    """One crowd from its coming to its going; what each instance held while everybody was connected.

    Raises:
        AssertionError: if it does not end, saying who does what.
    """
    crowd = scene.crowd(plans)
    held: list[Taken] = []
    with trio.move_on_after(ROUND) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            await crowd.gathered.complete.wait()
            held += map(Taken.by, scene.pids)
            crowd.go.set()
    assert not scope.cancelled_caught, f"after {ROUND} s: {Counter(crowd.tally.doing.values())} {crowd.tally.wrong[:5]}"
    return crowd.tally, held


async def show(clients: int, people: int, errands: int, rounds: int, instances: int, rest: int, way: Way) -> None:
    raise_file_limit(4 * clients + 500)
    with tempfile.TemporaryDirectory() as folder:
        async with open_scene(Path(folder), people=people, way=way, instances=instances) as scene:
            await scene.census()
            print("processes", *scene.pids)
            print("base", *map(Taken.by, scene.pids))
            for number in range(rounds):
                is_last = number == rounds - 1
                plans = [
                    plan_of(one, seed=f"r{number}", people=people, errands=errands, is_last=is_last)
                    for one in range(clients)
                ]
                began, spent = time.monotonic(), _cpu(scene)
                tally, held = await run_round(scene, plans)
                print(f"round {number}: {time.monotonic() - began:.1f} s, CPU {_cpu(scene) - spent:.1f} s,", end=" ")
                print(*(f"p{share * 100:g} {tally.percentile(share):.3f} s" for share in (0.5, 0.99, 1)))
                print("  ", dict(tally.ended), dict(tally.heard))
                print("   while connected", *held)
                print("   at its end     ", *map(Taken.by, scene.pids))
                for wrong, times in Counter(re.sub(r"^\d+ ", "", text)[:300] for text in tally.wrong).most_common(12):
                    print(f"   WRONG {times} x {wrong}")
                await trio.sleep(rest)
                print(f"   {rest} s later", *map(Taken.by, scene.pids))
                print("  ", await scene.census())


def _cpu(scene: Scene) -> float:
    return sum(Taken.by(pid).cpu for pid in scene.pids)


def main() -> None:
    parser = argparse.ArgumentParser(description="A crowd at the aggregator, by hand")
    defaults = {"clients": 1000, "people": 100, "errands": 3, "rounds": 3, "instances": 1, "rest": 75}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--way", choices=["serve", "command", "embedded"], default="serve")
    trio.run(lambda: show(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
