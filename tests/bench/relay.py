"""CPU per request of the relay, as a multiple of a bare Hypercorn echo measured in the same run.

    python -m tests.bench.relay [SECONDS]

Needs wrk and Node. Prints a table: requests a second, p50 and p99, CPU ms per request of the server's process, the
ratio to the echo, RSS. Ratios hold across machines, absolute figures do not. Compile bytecode first.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from aggregator.protocol.oauth.sealed import AccessToken, seal_access
from aggregator.protocol.oauth.site import SCOPE
from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing

from . import people

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 8
ROUNDS = 3
STATELESS_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}


def main(seconds: int) -> None:
    print(f"{'CPU ms per request':44}{'req/s':>9}{'p50':>10}{'p99':>10}{'ours':>9}{'echo':>8}{'ratio':>7}")
    one_person(seconds)
    many_people(seconds)


def one_person(seconds: int) -> None:
    key = secrets.token_bytes(32)
    with ExitStack() as stack:
        upstreams = stack.enter_context(canned_upstreams(10, 50))
        port = free_port()
        pid = stack.enter_context(serving(config(key, port, upstreams), port))
        url, token = f"http://127.0.0.1:{port}/mcp", access_token(key, port)
        call = request("tools/call", token, {"name": "up0__tool_1", "arguments": {"query": "a"}}, "up0__tool_1")
        listing = request("tools/list", token, {})
        size = measure_size(url, *listing)
        small, large = (stack.enter_context(echo(length)) for length in (200, size))
        calls, lists = Row("tools/call 2026->2026, 200 B"), Row(f"tools/list 10 x 50 tools, {size} B")
        memory = []
        for _ in range(ROUNDS):  # in turns, and the best of each: what else the machine does falls on all alike
            calls.add(measure(url, *call, pid, seconds), measure(*small, seconds))
            memory.append(rss(pid))
            lists.add(measure(url, *listing, pid, seconds), measure(*large, seconds))
        calls.show()
        lists.show()
        print(f"RSS after each round of calls: {', '.join(f'{megabytes:.1f}' for megabytes in memory)} MB")


def many_people(seconds: int) -> None:
    """Lists of people who all see something else, once each of them has seen theirs."""
    key = secrets.token_bytes(32)
    with ExitStack() as stack:
        upstreams = stack.enter_context(canned_upstreams(people.UPSTREAMS, people.TOOLS, "personal"))
        port = free_port()
        text = config(key, port, upstreams, storage=people.filled_store(stack, key))
        pid = stack.enter_context(serving(text, port))
        url, memory = f"http://127.0.0.1:{port}/mcp", [rss(pid)]
        tokens = {person: access_token(key, port, person) for person in people.PEOPLE}
        before = cpu(pid)
        for person, token in tokens.items():
            answer = ask(url, *request("tools/list", token, {}))
            people.check_own(person, answer)
        cold = (cpu(pid) - before) / len(tokens) * 1000
        memory.append(rss(pid))
        listing = request("tools/list", tokens[people.PEOPLE[0]], {})
        floor = stack.enter_context(echo(len(answer)))
        lists = Row(f"tools/list 50 x 50, 20 people, {len(answer)} B")
        for _ in range(ROUNDS):
            lists.add(measure(url, *listing, pid, seconds, "\n".join(tokens.values())), measure(*floor, seconds))
        lists.show()
        for person, token in tokens.items():
            people.check_own(person, ask(url, *request("tools/list", token, {})))
        print(f"the first list of each person: {cold:.0f} CPU ms; RSS {memory[0]:.0f}, then {memory[1]:.0f} MB")


class Row:
    """One request, ours against the echo."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ours: list[Figures] = []
        self.floor: list[Figures] = []

    def add(self, ours: Figures, floor: Figures) -> None:
        self.ours.append(ours)
        self.floor.append(floor)

    def show(self) -> None:
        ours, floor = (min(runs, key=lambda run: run.cpu) for runs in (self.ours, self.floor))
        figures = (
            f"{ours.rate:9.0f}{ours.p50:>10}{ours.p99:>10}{ours.cpu:9.3f}{floor.cpu:8.3f}{ours.cpu / floor.cpu:7.2f}"
        )
        print(f"{self.name:44}{figures}")
        for problem in {problem for run in self.ours for problem in run.problems}:
            print("   ", problem)


class Figures:
    """What wrk and the kernel said about one run."""

    def __init__(self, output: str, cpu_seconds: float) -> None:
        requests = int(_found(r"(\d+) requests in", output))
        self.rate = float(_found(r"Requests/sec:\s+([\d.]+)", output))
        self.p50, self.p99 = (_found(rf"{share}%\s+(\S+)", output) for share in ("50", "99"))
        self.cpu = cpu_seconds / requests * 1000
        self.problems = re.findall(r"BAD.*|Non-2xx.*|Socket errors.*", output)


def measure(url: str, body: str, headers: str, pid: int, seconds: int, tokens: str = "") -> Figures:
    environment = {**os.environ, "BODY": body, "HEADERS": headers, "TOKENS": tokens}
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-s", str(HERE / "load.lua")]
    subprocess.run([*command, "-d1s", url], env=environment, check=True, capture_output=True)
    before = cpu(pid)
    done = subprocess.run([*command, f"-d{seconds}s", url], env=environment, check=True, capture_output=True, text=True)
    return Figures(done.stdout, cpu(pid) - before)


@contextmanager
def echo(size: int) -> Iterator[tuple[str, str, str, int]]:
    """The floor for answers of `size` bytes: URL, body, headers and process of a bare echo."""
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-w", "0", "-b", f"127.0.0.1:{port}"]
    with process([*command, "tests.bench.echo:app"], port, {"ECHO_BYTES": str(size)}) as pid:
        body, headers = request("tools/call", "x" * 400, {"name": "a", "arguments": {"query": "a"}}, "a")
        yield f"http://127.0.0.1:{port}/", body, headers, pid


def measure_size(url: str, body: str, headers: str) -> int:
    deadline = time.monotonic() + 20
    while True:
        answer = ask(url, body, headers)
        if len(json.loads(answer)["result"]["tools"]) > 500 or time.monotonic() > deadline:
            return len(answer)
        time.sleep(0.2)


def ask(url: str, body: str, headers: str) -> bytes:
    fields = dict(line.split(": ", 1) for line in headers.splitlines())
    fields |= {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    answer = httpx2.post(url, content=body, headers=fields, trust_env=False, timeout=30)
    answer.raise_for_status()
    return answer.content


def request(method: str, token: str, params: dict[str, object], name: str | None = None) -> tuple[str, str]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": STATELESS_META}}
    headers = {"authorization": f"Bearer {token}", "mcp-protocol-version": "2026-07-28", "mcp-method": method}
    if name is not None:
        headers["mcp-name"] = name
    return json.dumps(body), "\n".join(f"{key}: {value}" for key, value in headers.items())


def access_token(key: bytes, port: int, subject: str = "bench") -> str:
    issuer, now = f"http://127.0.0.1:{port}", time.time()
    person = Principal(people.ISSUER, subject)
    token = AccessToken("grant", "client", person, SCOPE, f"{issuer}/mcp", issuer, now + 900)
    return seal_access(KeyRing([key]), token, now=now)


def config(key: bytes, port: int, upstreams: list[str], storage: str = "memory") -> str:
    return json.dumps(
        {
            "auth": {"issuer": people.ISSUER},
            "storage": storage,
            "upstreams": [{"name": f"up{i}", "url": url} for i, url in enumerate(upstreams)],
            "host": "127.0.0.1",
            "port": port,
            "issuerUrl": f"http://127.0.0.1:{port}",
            "secret": key.hex(),
        }
    )


@contextmanager
def serving(text: str, port: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.json")
        file.write_text(text)
        with process([sys.executable, "-m", "aggregator", "serve", "-c", str(file)], port, {}) as pid:
            yield pid


@contextmanager
def canned_upstreams(count: int, tools: int, kind: str = "") -> Iterator[list[str]]:
    node = shutil.which("node") or "node"
    with subprocess.Popen(
        [node, str(HERE / "upstream.mjs"), str(count), str(tools), kind], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        try:
            yield [running.stdout.readline().strip() for _ in range(count)]
        finally:
            running.terminate()


@contextmanager
def process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as running:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or running.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield running.pid
        finally:
            running.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss(pid: int) -> float:
    return int(_found(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())) / 1024


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
