"""What goes where: data, talk, colour and progress."""

from __future__ import annotations

import io

import pytest

from aggregator.cli.terminal import BOLD, RED, Terminal, table


class Stream(io.StringIO):
    def __init__(self, *, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize(
    ("tty", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_people_who_want_it(tty: bool, environ: dict[str, str], coloured: bool) -> None:
    out, err = Stream(tty=tty), Stream(tty=tty)
    terminal = Terminal(out, err, environ)
    assert (terminal.style("x", BOLD) == "\x1b[1mx\x1b[0m") is coloured
    terminal.say("y", RED)
    assert (err.getvalue() == "\x1b[31my\x1b[0m\n") is coloured


def test_progress_is_wiped_before_a_line_and_drawn_again_after_it() -> None:
    out, err = Stream(tty=True), Stream(tty=True)
    terminal = Terminal(out, err, {})
    terminal.progress("1/2")
    terminal.data("found")
    terminal.progress("")
    terminal.data("end")
    assert out.getvalue() == "found\nend\n"
    assert err.getvalue() == "1/2\r\x1b[2K1/2\r\x1b[2K"


@pytest.mark.parametrize(("tty", "environ"), [(False, {}), (False, {"FORCE_COLOR": "1"}), (True, {"TERM": "dumb"})])
def test_there_is_no_progress_where_no_line_can_be_wiped(tty: bool, environ: dict[str, str]) -> None:
    err = Stream(tty=tty)
    Terminal(Stream(tty=True), err, environ).progress("1/2")
    assert err.getvalue() == ""


def test_a_row_has_as_many_cells_as_it_is_given() -> None:
    out = Stream(tty=False)
    Terminal(out, Stream(tty=False), {}).row(["a\tb", "", "c"])
    assert out.getvalue() == "a b\t\tc\n"


def test_columns_of_a_table_stand_under_each_other() -> None:
    assert table([("a", "bbb", "c"), ("aaaa", "b", "")]) == ["a     bbb  c", "aaaa  b"]
    assert table([]) == []
