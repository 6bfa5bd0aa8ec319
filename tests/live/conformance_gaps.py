"""What the conformance suite finds directly at an upstream and not yet, or on purpose not, through the aggregator.

The test of the suite compares this table with what it sees, both ways: a gap that opens and a gap that closes fail it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.parts.conformance import Revision

Upstream = Literal["all", "older"]  # what the upstream speaks: every revision, or those before 2026-07-28 only
BOTH: tuple[Upstream, ...] = ("all", "older")
OLD: tuple[Revision, ...] = ("2025-11-25",)
NEW: tuple[Revision, ...] = ("2026-07-28",)
EITHER: tuple[Revision, ...] = OLD + NEW


@dataclass(frozen=True, slots=True)
class Gap:
    """Checks of one or more scenarios. `issue` is the one that closes the gap; None if the reason is there to stay."""

    reason: str
    issue: int | None
    revisions: tuple[Revision, ...]
    checks: dict[str, str]  # by scenario, separated by blanks
    upstreams: tuple[Upstream, ...] = BOTH


GAPS = (
    Gap(
        "an older upstream's question has no name, so it gets one of ours; these want their own",
        None,
        NEW,
        {
            "input-required-result-basic-elicitation": "sep-2322-elicitation-incomplete sep-2322-elicitation-complete",
            "input-required-result-ignore-extra-params": "sep-2322-ignore-unexpected-params",
        },
        ("older",),
    ),
    Gap(
        "an answer of one message is JSON; the suite reports that it saw no stream to look at",
        None,
        OLD,
        {"server-sse-multiple-streams": "server-sse-streams-functional"},
    ),
    Gap(
        "our streams cannot be taken up where they broke: they have no event ids, since what was sent is not kept",
        None,
        OLD,
        {"server-sse-polling": "server-sse-priming-event server-sse-retry-field server-sse-disconnect-resume"},
    ),
)


def expected_gaps(revision: Revision, upstream: Upstream) -> set[tuple[str, str]]:
    """(scenario, check) of everything that is known to be missing in one cell."""
    return {
        (scenario, check)
        for gap in GAPS
        if revision in gap.revisions and upstream in gap.upstreams
        for scenario, checks in gap.checks.items()
        for check in checks.split()
    }


def render_gaps() -> str:
    """The table for people."""
    lines = ["| suite | upstream | scenarios | why | closed by |", "|---|---|---|---|---|"]
    for gap in GAPS:
        upstream = "any" if gap.upstreams == BOTH else "before 2026-07-28"
        closed = "stays" if gap.issue is None else f"issue {gap.issue}"
        scenarios = ", ".join(f"`{name}`" for name in gap.checks)
        lines.append(f"| {', '.join(gap.revisions)} | {upstream} | {scenarios} | {gap.reason} | {closed} |")
    return "\n".join(lines)
