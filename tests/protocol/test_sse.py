from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.sse import MAX_LINES, EventReader, EventTooLarge, render_event, render_priming

lines = st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\r" not in line)


def read(*chunks: bytes, limit: int = 1000) -> list[bytes]:
    reader = EventReader(limit)
    return [event for chunk in chunks for event in reader.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(lines.filter(bool), max_size=5), st.lists(st.integers(0), max_size=8))
def test_what_is_rendered_is_read_however_it_is_cut(data: list[bytes], places: list[int]) -> None:
    stream = b"".join(render_event(line) for line in data)
    assert read(*cut(stream, places)) == data


@given(
    st.lists(st.lists(lines, min_size=1, max_size=3), max_size=4),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0), max_size=8),
)
def test_every_line_end_counts_and_lines_of_one_event_are_joined(
    events: list[list[bytes]], end: bytes, places: list[int]
) -> None:
    stream = b"".join(b"".join(b"data: " + line + end for line in event) + end for event in events)
    read_events = read(*cut(stream, places), b": the end" + end)
    assert read_events == [b"\n".join(event) for event in events]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b": comment\n\n", []),
        (b"event: x\nid: 1\nretry: 5\n\n", []),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: x:y\n\n", [b"x:y"]),
        (b"DATA: x\n\ndatax: y\n\n data: z\n\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"data: a\n: between\ndata: b\n\n", [b"a\nb"]),
        (b"data: x\n", []),
        (b"data: x", []),
        (b"\n\n\n", []),
        (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
    ],
)
def test_fields_are_read_as_the_standard_says(stream: bytes, events: list[bytes]) -> None:
    assert read(stream) == events
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == events


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 1001],
        [b"data: ", *[b"x"] * 1001],
        [b"data: " + b"x" * 100 + b"\n"] * 11,
        [b": " + b"x" * 1001],
        [b"data\n"] * 1001,
    ],
)
def test_an_event_or_a_line_without_end_is_cut_off(chunks: list[bytes]) -> None:
    with pytest.raises(EventTooLarge, match="1000 bytes"):
        read(*chunks)


def test_many_events_together_may_be_larger_than_one() -> None:
    assert len(read(b"data: x\n\n" * 10_000)) == 10_000


@pytest.mark.parametrize("line", [b"\n", b": still here\n", b"data: {}\n\n"])
def test_a_stream_that_never_ends_is_cut_off_before_it_has_cost_much(line: bytes) -> None:
    """Each of these made one upstream take the whole process's time until `toolTimeout`."""
    with pytest.raises(EventTooLarge, match=f"{MAX_LINES} lines"):
        read(*[line * 1000] * (MAX_LINES // 1000 + 1))


def test_a_long_line_in_small_pieces_costs_neither_time_nor_memory_beyond_itself() -> None:
    reader = EventReader()
    tracemalloc.start()
    try:
        reader.feed(b"data: ")
        for _ in range(4000):
            reader.feed(b"x" * 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    assert [len(event) for event in reader.feed(b"\n\n")] == [4_000_000]


def test_an_event_with_an_id_is_read_back_with_it() -> None:
    reader = EventReader()
    assert reader.feed(render_event(b'{"a":1}', "here.3")) == [b'{"a":1}']
    assert reader.last_id == "here.3"


def test_a_priming_event_says_how_to_come_back_and_nothing_else() -> None:
    reader = EventReader()
    assert reader.feed(render_priming("here.0", 0.3)) == [b""]
    assert (reader.last_id, reader.retry) == ("here.0", 300)
