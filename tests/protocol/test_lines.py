from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.lines import KEPT, LineReader, Overlong


def test_lines_come_whole_however_the_chunks_fall() -> None:
    reader = LineReader(100)
    assert reader.feed(b"a\nb") == [b"a"]
    assert reader.feed(b"") == []
    assert reader.feed(b"c\r\n\nd\n") == [b"bc", b"", b"d"]
    assert reader.pending == 0


@given(st.lists(st.binary(max_size=30).filter(lambda line: not set(line) & {10, 13})), st.integers(1, 7))
def test_any_lines_survive_any_chunks(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    reader = LineReader(30)
    found = [line for i in range(0, len(data), size) for line in reader.feed(data[i : i + size])]
    assert found == lines


def test_a_line_at_the_limit_is_a_line_and_one_beyond_it_is_not() -> None:
    reader = LineReader(3000)
    assert reader.feed(b"x" * 3000 + b"\n") == [b"x" * 3000]
    assert reader.feed(b"x" * 3001 + b"\nnext\n") == [Overlong(b"x" * KEPT, b"x" * KEPT, 3001), b"next"]


@given(st.integers(1, 9000))
def test_of_a_line_that_is_too_long_both_ends_are_kept_and_little_is_held(size: int) -> None:
    line = b"<" + b"x" * 50_000 + b">"
    reader, found = LineReader(10_000), []
    for i in range(0, len(line), size):
        found += reader.feed(line[i : i + size])
        assert len(reader._held) <= 10_000 + size
    assert (reader.pending, found) == (len(line), [])
    [overlong] = reader.feed(b"\n")
    assert isinstance(overlong, Overlong)
    assert (overlong.size, overlong.head[:2], overlong.tail[-2:]) == (len(line), b"<x", b"x>")
    assert len(overlong.head) <= KEPT >= len(overlong.tail)
    assert reader.feed(b"and on\n") == [b"and on"]
