from __future__ import annotations

import pytest

from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing, Purpose
from aggregator.protocol.tasks import (
    MAX_ID,
    TASKS,
    TaskPlace,
    is_declared,
    is_task,
    open_task,
    own_id,
    seal_task,
    undeclared,
    with_id,
)

NOW = 1_800_000_000.0
KEYS = KeyRing([bytes(32)])
ALICE, BOB = Principal("https://idp", "alice"), Principal("https://idp", "bob")
PLACE = TaskPlace("up", "786512e2~ü")


def test_an_id_leads_its_person_back_to_the_task_whatever_time_passes_and_whoever_opens_it() -> None:
    text = seal_task(KEYS, ALICE, PLACE, now=NOW)
    assert open_task(KeyRing([bytes(range(32)), bytes(32)]), text, ALICE, now=NOW + 1e9) == PLACE
    assert text.isascii()
    assert "786512e2" not in text


def test_it_leads_nobody_else_anywhere_and_no_other_text_does() -> None:
    text = seal_task(KEYS, ALICE, PLACE, now=NOW)
    session = KEYS.seal(Purpose.SESSION, {"who": ALICE.key, "up": "up", "task": "x"}, now=NOW, lifetime=None)
    assert open_task(KEYS, text, BOB, now=NOW) is None
    assert open_task(KeyRing([b"x" * 32]), text, ALICE, now=NOW) is None
    others: list[object] = [text[:-1], text + "A", text.removeprefix("mcpa_tk_"), "mcpa_tk_" + session, "", None, 7, []]
    for other in others:
        assert open_task(KEYS, other, ALICE, now=NOW) is None


def test_the_longest_id_fits_into_a_header_beside_the_others() -> None:
    assert len(seal_task(KEYS, ALICE, TaskPlace("u" * 32, "x" * MAX_ID), now=NOW)) < 8 * 1024


@pytest.mark.parametrize(
    ("capabilities", "declared"),
    [
        ({"extensions": {TASKS: {}}}, True),
        ({"extensions": {TASKS: {"x": 1}}}, True),
        ({"extensions": {TASKS: True}}, False),
        ({"extensions": [TASKS]}, False),
        ({"tasks": {}}, False),
        ({}, False),
    ],
)
def test_the_extension_is_declared_in_its_place(capabilities: dict[str, object], declared: bool) -> None:
    assert is_declared(capabilities) is declared


def test_who_did_not_declare_it_is_told_what_to_declare() -> None:
    error = undeclared(7).error
    assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": {"extensions": {TASKS: {}}}})


def test_only_a_handle_is_one_and_only_a_usable_id_is_carried() -> None:
    assert is_task({"resultType": "task", "taskId": "x"})
    assert not is_task({"resultType": "complete", "taskId": "x"})
    assert own_id({"taskId": "x"}) == "x"
    for value in ({}, {"taskId": ""}, {"taskId": 7}, {"taskId": "x" * (MAX_ID + 1)}):
        assert own_id(value) is None
    assert with_id({"taskId": "x", "status": "working"}, "y") == {"taskId": "y", "status": "working"}
    assert with_id({"resultType": "complete"}, "y") == {"resultType": "complete"}
