"""Six kinds of identity provider, as they come from npm and PyPI, log a person in.

``python -m tests.live.providers`` runs the same, with those of Debian, and prints what it saw.
"""

from __future__ import annotations

import pytest
import trio

from .providers import CASES, WITHIN, Case, log_in

pytestmark = pytest.mark.live


@pytest.mark.requirement("OI1", "OI2", "OI4", "OI7")
@pytest.mark.parametrize("case", [case for case in CASES if not case.debian], ids=lambda case: case.name)
async def test_a_person_logs_in_and_lists_tools(case: Case) -> None:
    with trio.fail_after(WITHIN):
        await log_in(case)
