"""What a child process says besides its messages, in our log, at a bounded rate: stderr, always drained, line by line.

A pipe that nobody reads blocks its writer after 64 KiB, and looks like a hang.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

import trio

from ...protocol.lines import LineReader, Overlong
from .rate_limited_log import RateLimitedLog

LONGEST = 2000  # characters of a line that are logged
LONGEST_BABBLE = 200  # characters; enough to recognise a banner or a stray print
MAX_LINE = 64 * 2**10  # bytes kept of a line that does not end
CHUNK = 64 * 2**10  # bytes; what a pipe holds
PAUSE, LONGEST_PAUSE = 0.002, 0.2  # seconds; before the next chunk of one who shouts without end, longer each time
KEPT = 3  # lines
SHORTEST_SECRET = 6  # characters; masking a shorter text would blank half the log

log = logging.getLogger(__name__)


class ChildLog:
    """Of the child called `what`, however often it is started. The values in `secrets` are never shown."""

    def __init__(self, what: str, secrets: Iterable[str] = (), *, level: int = logging.INFO) -> None:
        self.last: deque[str] = deque(maxlen=KEPT)  # the last lines, as they were logged; none twice
        self._what = what
        self._secrets = sorted({text for text in secrets if len(text) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._write = RateLimitedLog(log, level)
        self._warn = RateLimitedLog(log, logging.WARNING)

    def babbled(self, line: bytes) -> None:
        """A line of text that it wrote to stdout, where messages belong."""
        if not self._warn.keep_back() and (text := self._noted(line, LONGEST_BABBLE)):
            self._warn("%s wrote to stdout what is no message, skipped: %s", self._what, text)

    async def drain(self, stderr: trio.abc.ReceiveStream) -> None:
        """Until it ends. Text without a line end is logged then, too."""
        lines = LineReader(MAX_LINE)
        shouts = 0  # full chunks in a row
        try:
            while chunk := await stderr.receive_some(CHUNK):
                found = lines.feed(chunk)
                for line in found[:-1]:
                    if not self._write.keep_back():  # without a look at the line, since there may be very many
                        self._log(line.head if isinstance(line, Overlong) else line)
                for line in found[-1:]:
                    self._log(line.head if isinstance(line, Overlong) else line)
                shouts = shouts + 1 if len(chunk) > CHUNK // 2 else 0
                if shouts > 1:
                    await trio.sleep(min(shouts * PAUSE, LONGEST_PAUSE))  # else it costs everybody a processor
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        for line in lines.feed(b"\n"):
            self._log(line.head if isinstance(line, Overlong) else line)

    def _log(self, line: bytes) -> None:
        if text := self._noted(line):
            self._write("%s stderr: %s", self._what, text)

    def _noted(self, line: bytes, longest: int = LONGEST) -> str:
        text = line.decode(errors="replace").strip()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = "".join(
            char if char.isprintable() else " " for char in text[:longest]
        )  # no escape sequences, no forging
        if text and text not in self.last:  # it may have been started again, and says the same
            self.last.append(text)
        return text
