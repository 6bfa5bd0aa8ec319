"""The official conformance suite: at an upstream directly, then through the aggregator in front of it, check by check.

One measurement serves all tests here: both generations of the fixture server, one aggregator before each, a real login.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import trio

from tests.parts.conformance import (
    REVISIONS,
    Check,
    Revision,
    SuiteRun,
    required_scenarios,
    run_authorization_suite,
    run_server_suite,
)
from tests.parts.login import find_server, obtain_token, register
from tests.parts.processes import PATIENCE, free_port
from tests.parts.servers.fixtures import open_fixture_server

from .conformance_gaps import BOTH, Upstream, expected_gaps, render_gaps
from .deployment import Deployment, open_deployment

pytestmark = pytest.mark.live

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
WITHIN = 900  # seconds for everything; it takes 30 on two idle cores

CELLS: list[tuple[Revision, Upstream]] = [(revision, upstream) for revision in REVISIONS for upstream in BOTH]
# The upstream that speaks a suite's own revision with the aggregator: no translation between the two runs compared.
OWN: dict[Revision, Upstream] = {"2025-11-25": "older", "2026-07-28": "all"}

WITHOUT_QUESTIONS = frozenset(
    "server-initialize ping logging-set-level tools-list tools-call-simple-text tools-call-image tools-call-audio "
    "tools-call-embedded-resource tools-call-mixed-content tools-call-with-logging tools-call-error "
    "tools-call-with-progress server-sse-multiple-streams dns-rebinding-protection resources-subscribe "
    "resources-unsubscribe "
    "http-header-validation http-custom-header-server-validation json-schema-2020-12 "
    "resources-list resources-read-text resources-read-binary resources-templates-read prompts-list prompts-get-simple "
    "prompts-get-with-args prompts-get-with-image prompts-get-embedded-resource completion-complete caching "
    "sep-2164-resource-not-found input-required-result-non-tool-request".split()
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the suite found: directly, through the aggregator, and at its authorization server."""

    direct: dict[Revision, SuiteRun]
    through: dict[tuple[Revision, Upstream], SuiteRun]
    authorization: SuiteRun


@pytest.fixture(scope="module")
def measured() -> Measured:
    return trio.run(measure)


async def measure() -> Measured:
    direct: dict[Revision, SuiteRun] = {}
    through: dict[tuple[Revision, Upstream], SuiteRun] = {}
    with trio.fail_after(WITHIN):
        for upstream in BOTH:
            async with AsyncExitStack() as stack:
                url = await stack.enter_async_context(open_fixture_server(upstream))
                for revision in REVISIONS:
                    if OWN[revision] == upstream:
                        direct[revision] = await run_server_suite(url, revision)
                deployment = await stack.enter_async_context(
                    open_deployment({"fixtures": url}, upstream_fields={"prefix": ""})
                )
                token = await obtain_token(deployment.mcp)
                for revision in REVISIONS:
                    through[revision, upstream] = await run_server_suite(deployment.mcp, revision, token=token)
                authorization = await measure_authorization_server(deployment)
    return Measured(direct, through, authorization)


async def measure_authorization_server(deployment: Deployment) -> SuiteRun:
    port = free_port()
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        resource, server = await find_server(http, deployment.mcp)
        client = await register(http, server, f"http://127.0.0.1:{port}/callback")
    return await run_authorization_suite(server["issuer"], client, resource, port=port)


def test_the_fixture_server_passes_all_of_2025_11_25(measured: Measured) -> None:
    run = measured.direct["2025-11-25"]
    assert (run.failing(), run.exit_code) == ({}, 0), show(run, run.failing())
    assert run.count("SUCCESS") == 84


def test_the_fixture_server_passes_whatever_2026_07_28_requires(measured: Measured) -> None:
    """What fails are the scenarios of the tasks extension, which the SDK does not have."""
    run = measured.direct["2026-07-28"]
    failing = {name for name in run.failing() if not name.startswith("tasks-")}
    assert (failing, run.exit_code) == (set(), 0), show(run, failing)
    assert len(required_scenarios("2026-07-28")) == 37


@pytest.mark.parametrize(("revision", "upstream"), CELLS)
def test_what_asks_the_client_nothing_passes_through_the_aggregator(
    measured: Measured, revision: Revision, upstream: Upstream
) -> None:
    run = measured.through[revision, upstream]
    failing = WITHOUT_QUESTIONS & run.failing().keys()
    assert not failing, show(run, failing)
    required = WITHOUT_QUESTIONS & required_scenarios(revision)
    assert required <= {check.scenario for check in run.checks}
    assert len(required) == {"2025-11-25": 26, "2026-07-28": 23}[revision]


@pytest.mark.parametrize(("revision", "upstream"), CELLS)
def test_only_the_known_gaps_differ_from_the_direct_run(
    measured: Measured, revision: Revision, upstream: Upstream
) -> None:
    run = measured.through[revision, upstream]
    found = {(check.scenario, check.id) for check in missing(measured.direct[revision], run)}
    expected = expected_gaps(revision, upstream)
    opened, closed = found - expected, expected - found
    assert not opened, show(run, {scenario for scenario, _ in opened})
    assert not closed, f"these pass now; take them out of GAPS and write the new figures: {sorted(closed)}"


def test_what_a_tool_answered_is_compared_too(measured: Measured) -> None:
    """An error text of ours satisfies the suite wherever it asks for any text: it must not count as a pass."""
    for revision, upstream in CELLS:
        run = measured.through[revision, upstream]
        assert sum(check.content is not None and check.status == "SUCCESS" for check in run.checks) >= 3
        lost = fooled(measured.direct[revision], run)
        assert {check.scenario for check in lost} <= {"input-required-result-ignore-extra-params"}, lost


def test_the_authorization_server_passes_its_scenarios(measured: Measured) -> None:
    run = measured.authorization
    assert {check.scenario for check in run.checks} == {
        "authorization-server-metadata-endpoint",
        "authorization-code-grant",
    }
    assert (run.failing(), run.exit_code) == ({}, 0), show(run, run.failing())


def test_the_document_has_the_figures_and_the_gaps(measured: Measured) -> None:
    text = DOCUMENT.read_text()
    for table in (render_figures(measured), render_gaps()):
        assert table in text, f"write this into {DOCUMENT.name}:\n\n{table}"


def missing(direct: SuiteRun, run: SuiteRun) -> list[Check]:
    """What passed directly and does not here: another verdict, none, or the same one on another content."""
    here = {check.key: check for check in run.checks if check.status == "SUCCESS"}
    return [
        check
        for check in direct.checks
        if check.status == "SUCCESS" and (check.key not in here or here[check.key].content != check.content)
    ]


def fooled(direct: SuiteRun, run: SuiteRun) -> list[Check]:
    """Those of the missing that the suite itself let pass."""
    passed = {check.key for check in run.checks if check.status == "SUCCESS"}
    return [check for check in missing(direct, run) if check.key in passed]


def render_figures(measured: Measured) -> str:
    """Checks and required scenarios that pass, of those that pass directly."""
    lines = ["| suite | upstream speaks | checks | required scenarios |", "|---|---|---|---|"]
    for revision, upstream in CELLS:
        run, direct = measured.through[revision, upstream], measured.direct[revision]
        possible, lost = direct.count("SUCCESS"), missing(direct, run)
        required = required_scenarios(revision)
        whole = required - run.failing().keys() - {check.scenario for check in fooled(direct, run)}
        speaks = "every revision" if upstream == "all" else "2025-11-25"
        lines.append(
            f"| {revision} | {speaks} | {possible - len(lost)} of {possible} | {len(whole)} of {len(required)} |"
        )
    return "\n".join(lines)


def show(run: SuiteRun, scenarios: Collection[str]) -> str:
    """Every check of these scenarios, one a line."""
    return "\n" + "\n".join(str(check) for check in run.checks if check.scenario in scenarios)
