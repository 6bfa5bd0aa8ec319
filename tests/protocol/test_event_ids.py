from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.event_ids import lost_answers, new_name, parse_event_id, render_event_id
from aggregator.protocol.jsonrpc import Call, Failure, Success

INSTANCE = "0123456789ab"
CALLS = [Call(7, "tools/call", {"name": "x"}), Call("é", "prompts/get", {})]


def test_an_id_says_where_its_stream_is_and_where_in_it_the_event_stands() -> None:
    name = new_name(INSTANCE, CALLS)
    found = parse_event_id(render_event_id(name, 12))
    assert found is not None
    assert (found.name, found.instance, found.position, found.is_last) == (name, INSTANCE, 12, False)
    assert found.awaited == ((7, "tools/call"), ("é", "prompts/get"))
    last = parse_event_id(render_event_id(name, 13, is_last=True))
    assert last is not None
    assert last.is_last


def test_no_two_streams_have_one_name_and_none_can_be_guessed() -> None:
    names = {new_name(INSTANCE, CALLS) for _ in range(100)}
    assert len(names) == 100
    assert all(len(name.split(".")[1]) == 22 for name in names)  # 128 bits


def test_an_id_can_stand_in_a_header_however_the_requests_are_called() -> None:
    name = new_name(INSTANCE, [Call("\r\nx: y\x00", "tools/call", {})])
    assert re.fullmatch(r"[0-9A-Za-z._-]+", render_event_id(name, 1))


def test_requests_that_take_too_much_room_are_left_out() -> None:
    found = parse_event_id(render_event_id(new_name(INSTANCE, [Call("x" * 300, "tools/call", {})]), 1))
    assert found is not None
    assert found.awaited == ()


@pytest.mark.parametrize("text", ["", "1", "_GET_stream_1", "0123456789ab.x..1", "a" * 10_000, "0123456789ab..", "*"])
def test_what_is_no_id_of_ours_names_nothing(text: str) -> None:
    assert parse_event_id(text) is None


@given(st.text(alphabet="0123456789abcdef.ABz_-e", max_size=400) | st.text(max_size=50))
def test_no_text_fails(text: str) -> None:
    parse_event_id(text)


@given(st.text(alphabet="ABCDEFabcdef0123456789_-", max_size=280))
def test_requests_that_somebody_made_up_fail_nothing(awaited: str) -> None:
    found = parse_event_id(f"{INSTANCE}.{'x' * 22}.{awaited}.1")
    assert found is not None
    lost_answers(found, "gone")


def test_a_lost_answer_is_a_tools_result_that_its_model_reads_and_anything_elses_error() -> None:
    found = parse_event_id(render_event_id(new_name(INSTANCE, CALLS), 1))
    assert found is not None
    tool, prompt = lost_answers(found, "gone")
    assert isinstance(tool, Success)
    assert (tool.id, tool.result["isError"], tool.result["content"][0]["text"]) == (7, True, "gone")
    assert isinstance(prompt, Failure)
    assert (prompt.id, prompt.message) == ("é", "gone")
