"""The official suite's scenarios of the Tasks extension, directly and through the aggregator."""

from __future__ import annotations

import pytest
import trio

from tests.parts.conformance import SuiteRun, run_server_suite
from tests.parts.servers import open_tasks_server

from .asking import bearer_for
from .deployment import open_deployment

pytestmark = pytest.mark.live

SCENARIOS = (
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-status-notifications",  # which the suite skips: it looks for them on another stream than they are told on
    "tasks-wire-fields",
)


async def test_every_scenario_of_the_tasks_extension_passes_as_it_passes_directly() -> None:
    with trio.fail_after(900):
        async with open_tasks_server() as url:
            direct = await run_server_suite(url, "2026-07-28", scenarios=SCENARIOS)
            fields = {"prefix": "", "auth_type": "none"}
            async with open_deployment(
                {"tasks": url}, issuer="http://127.0.0.1:9", upstream_fields=fields
            ) as deployment:
                token = bearer_for(deployment.url)
                through = await run_server_suite(deployment.mcp, "2026-07-28", token=token, scenarios=SCENARIOS)
    assert passed(direct) == passed(through), [check for check in through.checks if check.status == "FAILURE"]
    assert len(passed(through)) == 44
    assert (direct.failing(), through.failing()) == ({}, {})


def passed(run: SuiteRun) -> set[tuple[str, str, int]]:
    return {check.key for check in run.checks if check.status == "SUCCESS"}
