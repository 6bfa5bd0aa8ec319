"""Each security requirement that we claim has a test that bears its id."""

from __future__ import annotations

from tests.requirements import DOCUMENT, marked_tests, requirements


def test_every_claimed_requirement_has_a_test() -> None:
    tests = marked_tests()
    claimed = [requirement.id for requirement in requirements(DOCUMENT.read_text()) if requirement.claimed]
    assert len(claimed) > 40
    assert [id for id in claimed if not tests.get(id)] == []


def test_tests_name_only_requirements_that_exist() -> None:
    known = {requirement.id for requirement in requirements(DOCUMENT.read_text())}
    assert set(marked_tests()) - known == set()


def test_every_fault_of_the_first_week_is_shown_over_a_whole_deployment_too() -> None:
    """There, and only there, the oracle is asked at the end (tests/live/oracle.py)."""
    tests = marked_tests()
    first = [f"AF{number}" for number in (*range(1, 10), 17, 18, 23, 25, 27)]
    assert [id for id in first if not any(test.startswith("live/") for test in tests[id])] == []
