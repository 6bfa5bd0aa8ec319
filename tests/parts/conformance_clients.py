"""The client suite of the conformance harness: each scenario is a server of its own, which watches what a client does.

The client is a function of this process: `clients/at_hand.py` is what the harness starts, and it asks here. This file
does not know what the client is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
import yaml

from .conformance import Revision, SuiteRun, harness, read_run
from .install import PARTS, node_package, node_path
from .processes import open_process

SCENARIO_LIMIT = 120  # seconds for one scenario, its client's start included


@dataclass(frozen=True, slots=True)
class Given:
    """One scenario: the MCP server's URL, and what a client would have been told beforehand."""

    url: str
    scenario: str
    context: dict[str, Any]


Client = Callable[[Given], Awaitable[str]]  # the returned text goes into the harness's own output


async def run_client_suite(revision: str, scenarios: Sequence[str], client: Client, *, at_once: int) -> SuiteRun:
    """Each of `scenarios` on the wire of `revision`, some `at_once`. `AssertionError` says that a client has failed."""
    with TemporaryDirectory() as folder:
        limit, outputs = trio.CapacityLimiter(at_once), list[tuple[int, str]]()
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, partial(_hand_over, client), listeners)
            async with trio.open_nursery() as runs:
                for scenario in scenarios:
                    runs.start_soon(_run_scenario, revision, scenario, port, folder, limit, outputs)
            nursery.cancel_scope.cancel()
        code = max(each for each, _ in outputs)
        return read_run(Path(folder), code, "\n".join(output for _, output in outputs))


def required_client_scenarios(revision: Revision) -> tuple[str, ...]:
    """Those that decide whether a client conforms to the revision."""
    path = node_package(f"@modelcontextprotocol/conformance/requirements/{revision}.yaml")
    return tuple(yaml.safe_load(path.read_text())["client"])


async def _run_scenario(
    revision: str,
    scenario: str,
    port: int,
    folder: str,
    limit: trio.CapacityLimiter,
    outputs: list[tuple[int, str]],
) -> None:
    command = f"{sys.executable} {PARTS / 'clients' / 'at_hand.py'} {port}"
    arguments = [str(node_path()), str(harness()), "client", "--command", command, "--scenario", scenario]
    arguments += ["--spec-version", revision, "--timeout", str(SCENARIO_LIMIT * 1000), "-o", folder]
    async with limit, open_process(f"conformance scenario {scenario}", arguments) as run:
        code = await run.process.wait()
        outputs.append((code, run.output()))


async def _hand_over(client: Client, connection: trio.SocketStream) -> None:
    async with connection:
        line = b""
        while not line.endswith(b"\n"):
            chunk = await connection.receive_some()
            if not chunk:
                return
            line += chunk
        told = {"code": 0, "said": ""}
        try:
            told["said"] = await client(Given(**json.loads(line)))
        except AssertionError as exc:
            told = {"code": 1, "said": str(exc)[:4000]}
        try:
            await connection.send_all(json.dumps(told).encode() + b"\n")
        except trio.BrokenResourceError:
            pass  # the harness has seen enough
