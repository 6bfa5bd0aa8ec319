"""Lines out of chunks, bounded: what a process writes on its stdout and stderr.

A line that is too long is dropped as it comes; what is kept of it, its beginning
and its end, is enough to say what it was. This file does not know what lines mean.
"""

from __future__ import annotations

from dataclasses import dataclass

KEPT = 1024  # bytes of either end of a line that is too long


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line beyond the limit, of `size` bytes; its first and last `KEPT` bytes."""

    head: bytes
    tail: bytes
    size: int


class LineReader:
    """Feed it chunks, get whole lines without their ends; holds `limit` bytes at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self._head: bytes | None = None  # of the line that is being dropped
        self._dropped = 0

    @property
    def pending(self) -> int:
        """Bytes of the line that has not ended yet, dropped ones included."""
        return self._dropped + len(self._held)

    def feed(self, chunk: bytes | bytearray) -> list[bytes | Overlong]:
        """The lines that end in `chunk`; LF and CR LF both end one (CR belongs to the end, not the line)."""
        self._held += chunk
        found: list[bytes | Overlong] = []
        start = 0
        while (end := self._held.find(b"\n", max(self._searched, start))) >= 0:
            found.append(self._whole(bytes(self._held[start:end])))
            start = self._searched = end + 1
        del self._held[:start]
        self._searched = len(self._held)
        if self.pending > self._limit:
            self._drop()
        return found

    def _whole(self, line: bytes) -> bytes | Overlong:
        size = self._dropped + len(line)
        if self._head is None and size <= self._limit:
            return line.removesuffix(b"\r")
        head, self._head, self._dropped = self._head or line[:KEPT], None, 0
        return Overlong(head, line[-KEPT:], size)

    def _drop(self) -> None:
        """All but the last bytes, which may be the end of the line."""
        if self._head is None:
            self._head = bytes(self._held[:KEPT])
        surplus = max(len(self._held) - KEPT, 0)
        self._dropped += surplus
        del self._held[:surplus]
        self._searched = len(self._held)
