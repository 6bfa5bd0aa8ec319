"""What holds for every test: under CI a skipped test is a failed run, unless its reason stands in `ALLOWED_SKIPS`."""

from __future__ import annotations

import os

import hypothesis
import pytest

ALLOWED_SKIPS: frozenset[str] = frozenset({"kubectl is not on this machine", "no IPv6 on this machine"})

# No test is judged by how long this machine takes. All else is as Hypothesis has it, in CI and elsewhere.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings(hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]),
)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if reason.removeprefix("Skipped: ") not in ALLOWED_SKIPS:
            reporter.write_line(f"skipped without leave: {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
