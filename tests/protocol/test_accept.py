from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.accept import prefers_events


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream, application/json",  # the conformance suite
        "text/event-stream,application/json",
        " Text/Event-Stream ; charset=utf-8 , APPLICATION/JSON",
        "text/event-stream",
        "text/event-stream, */*",
        "application/json;q=0.5, text/event-stream",
        "application/json; Q=0.5 , text/event-stream;q=0.9",
        "application/json;q=0, text/event-stream;q=0.1",
        "*/*;q=0.1, text/event-stream",
        "application/*;q=0.5, text/*",
    ],
)
def test_a_client_that_names_the_stream_first_or_weighs_it_higher_prefers_it(accept: str) -> None:
    assert prefers_events(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json, text/event-stream",  # the SDKs
        "application/json,text/event-stream;q=1.0",
        "text/event-stream;q=0.9, application/json",
        "text/event-stream;q=0, application/json;q=0",
        "text/event-stream;q=0",
        "*/*",
        "",
        "application/json",
        "application/*, text/*",
        ",,;q=1,/",
        "text/event-streams, application/json",
    ],
)
def test_any_other_client_gets_json_where_one_message_is_all_there_is(accept: str) -> None:
    assert not prefers_events(accept)


def test_a_weight_that_cannot_be_read_counts_as_not_said() -> None:
    assert prefers_events("text/event-stream;q=lots, application/json;q=0.9")
    assert not prefers_events("application/json;q=, text/event-stream;q=1")
    assert not prefers_events("application/json, text/event-stream;q=5")


@given(st.text(max_size=200))
def test_no_text_fails(accept: str) -> None:
    prefers_events(accept)
