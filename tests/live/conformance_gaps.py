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
        "resources, prompts and completion are not aggregated yet",
        5,
        EITHER,
        {
            name: name
            for name in (
                "completion-complete",
                "prompts-get-embedded-resource",
                "prompts-get-simple",
                "prompts-get-with-args",
                "prompts-get-with-image",
                "prompts-list",
                "resources-list",
                "resources-read-binary",
                "resources-read-text",
                "resources-templates-read",
            )
        },
    ),
    Gap(
        "resources and prompts are not aggregated yet",
        5,
        NEW,
        {
            "caching": "sep-2549-prompts-list-caching-hints sep-2549-resources-list-caching-hints "
            "sep-2549-resources-templates-list-caching-hints sep-2549-resources-read-caching-hints",
            "input-required-result-non-tool-request": "sep-2322-non-tool-incomplete sep-2322-non-tool-complete",
            "sep-2164-resource-not-found": "sep-2164-error-code sep-2164-data-uri",
        },
    ),
    Gap(
        "sampling and elicitation are not relayed to older clients yet",
        6,
        OLD,
        {
            "tools-call-sampling": "tools-call-sampling",
            "tools-call-elicitation": "tools-call-elicitation",
            "elicitation-sep1034-defaults": "elicitation-sep1034-string-default elicitation-sep1034-integer-default "
            "elicitation-sep1034-number-default elicitation-sep1034-enum-default elicitation-sep1034-boolean-default",
            "elicitation-sep1330-enums": "elicitation-sep1330-untitled-single elicitation-sep1330-titled-single "
            "elicitation-sep1330-legacy-enumnames elicitation-sep1330-untitled-multi elicitation-sep1330-titled-multi",
        },
    ),
    Gap(
        "a newer client's call is not parked yet while its older upstream asks",
        6,
        NEW,
        {
            "input-required-result-basic-elicitation": "sep-2322-elicitation-incomplete sep-2322-elicitation-complete",
            "input-required-result-basic-list-roots": "sep-2322-list-roots-incomplete sep-2322-list-roots-complete",
            "input-required-result-basic-sampling": "sep-2322-sampling-incomplete sep-2322-sampling-complete",
            "input-required-result-capability-check": "sep-2322-respect-client-capabilities",
            "input-required-result-ignore-extra-params": "sep-2322-ignore-unexpected-params",
            "input-required-result-missing-input-response": "sep-2322-missing-response-rerequests",
            "input-required-result-multi-round": "sep-2322-multi-round-r1 sep-2322-multi-round-r2 "
            "sep-2322-multi-round-r3",
            "input-required-result-multiple-input-requests": "sep-2322-multiple-inputs-incomplete "
            "sep-2322-multiple-inputs-complete",
            "input-required-result-request-state": "sep-2322-request-state-incomplete sep-2322-request-state-complete",
            "input-required-result-result-type": "sep-2322-result-type-included",
            "input-required-result-tampered-state": "sep-2322-reject-tampered-state",
            "input-required-result-validate-input": "sep-2322-error-on-protocol-error",
        },
        ("older",),
    ),
    Gap(
        "there are no subscriptions and no notices of changed lists yet, and none are promised",
        6,
        NEW,
        {
            "server-stateless": "sep-2575-server-sends-subscription-ack sep-2575-server-tags-subscription-id "
            "sep-2575-server-honors-notification-filter sep-2575-server-sends-prompts-list-changed-on-subscription "
            "sep-2575-server-sends-tools-list-changed-on-subscription",
        },
    ),
    Gap(
        "there are no subscriptions to resources yet",
        6,
        OLD,
        {"resources-subscribe": "resources-subscribe", "resources-unsubscribe": "resources-unsubscribe"},
    ),
    Gap(
        "a client cannot end its session: DELETE is answered with 405, which the revision allows",
        6,
        OLD,
        {"server-session-lifecycle": "server-session-delete-accepted server-session-terminated-returns-404"},
    ),
    Gap(
        "an answer of one message is JSON; the suite reports that it saw no stream to look at",
        None,
        OLD,
        {
            "server-sse-multiple-streams": "server-sse-streams-functional",
            "server-sse-polling": "server-sse-priming-event server-sse-retry-field server-sse-disconnect-resume",
        },
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
