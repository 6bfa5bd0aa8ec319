"""What the conformance suite finds directly at an upstream and not yet, or on purpose not, through the aggregator.

The test of the suite compares this table with what it sees, both ways: a gap that opens and a gap that closes fail it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.parts.conformance import Revision

Upstream = Literal["all", "older"]  # what the upstream speaks: every revision, or those before 2026-07-28 only
BOTH: tuple[Upstream, ...] = ("all", "older")
SPEAKS: dict[Upstream, str] = {"all": "2026-07-28", "older": "before 2026-07-28"}
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
        "2026-07-28 has no words for closing a stream in mid-call, so this upstream does not; the suite reports that "
        "it saw none close",
        None,
        OLD,
        {"server-sse-polling": "server-sse-disconnect-resume"},
        ("all",),
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
        upstream = "any" if gap.upstreams == BOTH else SPEAKS[gap.upstreams[0]]
        closed = "stays" if gap.issue is None else f"issue {gap.issue}"
        scenarios = ", ".join(f"`{name}`" for name in gap.checks)
        lines.append(f"| {', '.join(gap.revisions)} | {upstream} | {scenarios} | {gap.reason} | {closed} |")
    return "\n".join(lines)
