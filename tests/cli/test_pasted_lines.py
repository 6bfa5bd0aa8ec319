"""Lines of a descriptor as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from aggregator.cli.pasted_lines import PastedLines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    os.close(ours)


def test_a_line_is_handed_over_when_it_is_whole(pipe: tuple[int, int]) -> None:
    lines = PastedLines(pipe[0])
    os.write(pipe[1], b"http://local")
    assert lines.wait_line(0.01) is None
    os.write(pipe[1], b"host/?code=c \r\n\n  \nnext\n")
    assert lines.wait_line(5) == "http://localhost/?code=c"
    assert lines.wait_line(5) == "next"
    assert lines.wait_line(0.01) is None
    os.close(pipe[1])


def test_the_end_is_the_end_of_a_line_and_is_waited_out(pipe: tuple[int, int]) -> None:
    lines = PastedLines(pipe[0])
    os.write(pipe[1], b"last")
    os.close(pipe[1])
    assert lines.wait_line(5) == "last"
    assert lines.wait_line(0.01) is None
    assert lines.wait_line(0.01) is None


def test_what_cannot_be_read_has_no_lines() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    os.close(theirs)
    assert PastedLines(ours).wait_line(0.01) is None
