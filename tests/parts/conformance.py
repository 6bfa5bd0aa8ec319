"""The official conformance suite as a process, and what it found as values.

`@modelcontextprotocol/conformance` runs each scenario against an endpoint and writes its checks to a folder. Its server
suite knows no authorization: `clients/bearer.mjs` adds the token. This file does not know what stands behind a URL.
By hand: ``python -m tests.parts.conformance URL REVISION [TOKEN]``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import trio
import yaml

from .browser import walk_login
from .install import PARTS, node_package, node_path
from .processes import PATIENCE, ProcessFailed, Running, open_process

Revision = Literal["2025-11-25", "2026-07-28"]
REVISIONS: tuple[Revision, ...] = ("2025-11-25", "2026-07-28")

# Each scenario's own limit. A scenario takes two seconds at most when all is well; only what hangs takes so long.
SCENARIO_LIMIT = 120  # seconds

# The scenario's name stands between the word for its kind and the time of the run.
_FOLDER = re.compile(r"(?:(?:authorization-server|server)-)?(?P<scenario>.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")
_AUTHORIZE = r"(?m)^http\S+response_type=code\S*"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `status` is SUCCESS, FAILURE, WARNING, SKIPPED or INFO. `number` counts equal ids in a scenario.

    `content` is the tool's content that the check looked at, where the suite keeps it: it passes some answers that are
    not the fixture's.
    """

    scenario: str
    id: str
    number: int
    status: str
    message: str
    content: Any = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.scenario, self.id, self.number

    @property
    def passed(self) -> bool:
        return self.status not in ("FAILURE", "WARNING")

    def __str__(self) -> str:
        return f"{self.status:8} {self.scenario} / {self.id}{f' ({self.number})' if self.number > 1 else ''}" + (
            f": {self.message[:600]}" if self.message else ""
        )


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """What a run of the suite found, and its own verdict: 0 if every required scenario passed."""

    checks: tuple[Check, ...]
    exit_code: int
    output: str

    def count(self, *statuses: str) -> int:
        return sum(check.status in statuses for check in self.checks)

    def failing(self) -> dict[str, list[Check]]:
        """The scenarios with a failure or a warning, and those checks."""
        found: dict[str, list[Check]] = {}
        for check in self.checks:
            if not check.passed:
                found.setdefault(check.scenario, []).append(check)
        return found


async def run_server_suite(
    url: str, requirements: Revision, *, token: str | None = None, scenarios: Sequence[str] = ()
) -> SuiteRun:
    """Every server scenario that the revision requires, and those that it reports only; or just `scenarios`."""
    command = [str(node_path())]
    environment: dict[str, str] = {}
    if token is not None:
        parts = urlsplit(url)
        environment = {"BEARER": token, "BEARER_ORIGIN": f"{parts.scheme}://{parts.netloc}"}
        command += ["--import", (PARTS / "clients" / "bearer.mjs").as_uri()]
    command += [str(harness()), "server", "--url", url, "--timeout", str(SCENARIO_LIMIT * 1000)]
    asked = [["--scenario", each, "--spec-version", requirements, "--force"] for each in scenarios]
    with TemporaryDirectory() as folder:
        output, code = "", 0
        for arguments in asked or [["--requirements", requirements]]:
            async with open_process("conformance suite", [*command, *arguments, "-o", folder], env=environment) as run:
                code = max(code, await run.process.wait())
                output += run.output()
        return read_run(Path(folder), code, output)


async def run_authorization_suite(
    issuer: str, client_id: str, resource: str, *, port: int, user: str = "alice"
) -> SuiteRun:
    """The scenarios for authorization servers; `user` logs in where the suite wants a person with a browser.

    `client_id` is a public client with the redirect URI ``http://127.0.0.1:<port>/callback``.
    """
    with TemporaryDirectory() as folder:
        command = [str(node_path()), str(harness()), "authorization", "--url", issuer, "--client-id", client_id]
        command += ["--resource", resource, "-p", str(port), "-o", folder]
        async with open_process("conformance suite", command) as run:
            # Without valid metadata the suite never asks, and ends.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_answer_authorize, run, port, user)
                await run.process.wait()
                nursery.cancel_scope.cancel()
            return read_run(Path(folder), await run.process.wait(), run.output())


@cache
def required_scenarios(requirements: Revision) -> frozenset[str]:
    """The server scenarios that decide whether an implementation conforms to the revision."""
    path = node_package(f"@modelcontextprotocol/conformance/requirements/{requirements}.yaml")
    return frozenset(yaml.safe_load(path.read_text())["server"])


async def _answer_authorize(run: Running, port: int, user: str) -> None:
    """What the suite asks of a person: open the URL, log in, and let the browser follow the redirect back to it."""
    url = (await run.wait_output(_AUTHORIZE))[0]
    landed = await walk_login(url, f"http://127.0.0.1:{port}/callback", user)
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as visitor:
        await visitor.get(landed)


def read_run(folder: Path, code: int, output: str) -> SuiteRun:
    checks = []
    for path in sorted(folder.glob("**/checks.json")):
        found = _FOLDER.fullmatch(path.parent.relative_to(folder).as_posix())
        if found is None:
            raise ProcessFailed(f"the suite wrote an unknown folder: {path.parent.name}")
        seen: Counter[str] = Counter()
        for check in json.loads(path.read_text()):
            seen[check["id"]] += 1
            name, message = check["id"], check.get("errorMessage") or ""
            content = _content(check.get("details"))
            checks.append(Check(found["scenario"], name, seen[name], check["status"], message, content))
    if not checks:
        raise ProcessFailed(f"the suite ended with {code} and wrote nothing:\n{output[-4000:]}")
    return SuiteRun(tuple(checks), code, output)


def _content(details: Any) -> Any:
    result = details.get("result") if isinstance(details, dict) else None
    return result.get("content") if isinstance(result, dict) else None


def harness() -> Path:
    return node_package("@modelcontextprotocol/conformance/dist/index.js")


async def _run_by_hand(url: str, requirements: str, token: str | None = None) -> int:
    revision = next(known for known in REVISIONS if known == requirements)
    run = await run_server_suite(url, revision, token=token)
    for check in run.checks:
        print(check)
    print(f"{run.count('SUCCESS')} passed, {run.count('FAILURE')} failed, {run.count('WARNING')} warnings")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(trio.run(partial(_run_by_hand, *sys.argv[1:4])))
