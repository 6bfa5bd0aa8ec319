"""What a command may write where: data to stdout, talk to stderr, colour and progress for people only.

`Terminal` knows no command. Its streams and the environment are given to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import TextIO

BOLD, DIM, RED, YELLOW, GREEN = "1", "2", "31", "33", "32"
_CLEAR = "\r\x1b[2K"


class Terminal:
    """The two streams of a command."""

    def __init__(self, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._err = err
        dumb = environ.get("TERM") == "dumb"
        self.is_for_people = out.isatty()
        # no-color.org and force-color.org: present "and not an empty string (regardless of its value)".
        forced = bool(environ.get("FORCE_COLOR")) and not environ.get("NO_COLOR")
        allowed = not environ.get("NO_COLOR") and not dumb
        self._colour = forced or (allowed and out.isatty())
        self._colour_err = forced or (allowed and err.isatty())
        self._has_progress = err.isatty() and not dumb
        self._progress = ""

    def style(self, text: str, code: str) -> str:
        """`text` for `data`, coloured where that is wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def data(self, line: str) -> None:
        """One line of what was asked for.

        Raises:
            BrokenPipeError: if nobody reads on.
        """
        self._wipe()
        print(line, file=self._out, flush=True)
        self._draw()

    def row(self, cells: Sequence[str]) -> None:
        """One line of a table for programs: separated by tabs, of which cells hold none."""
        self.data("\t".join(cell.replace("\t", " ") for cell in cells))

    def say(self, line: str, code: str = "") -> None:
        """One line beside the data."""
        self._wipe()
        print(f"\x1b[{code}m{line}\x1b[0m" if code and self._colour_err else line, file=self._err, flush=True)
        self._draw()

    def progress(self, text: str) -> None:
        """What is being waited for, on one line that goes away; nothing where stderr is no terminal."""
        if self._has_progress:
            self._wipe()
            width = get_terminal_size().columns - 1
            self._progress = text if len(text) <= width else f"{text[: width - 1]}…"
            self._draw()

    def _wipe(self) -> None:
        if self._progress:
            self._err.write(_CLEAR)
            self._err.flush()

    def _draw(self) -> None:
        if self._progress:
            self._err.write(self._progress)
            self._err.flush()


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """`rows` as lines whose columns stand under each other."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
