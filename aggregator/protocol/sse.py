"""Server-sent events, as far as MCP uses them: `data` lines in, one event per message out.

Pure: bytes in, bytes out. It does not know what the data means.
"""

from __future__ import annotations

import re

MAX_EVENT = 16 * 2**20  # bytes; an upstream that sends more in one event, or a line without end, is cut off
# Lines of one stream. A line costs us much more than it costs its sender; a call that reports its progress a thousand
# times a second for a minute has half as many.
MAX_LINES = 200_000

_ID = re.compile(rb"[!-~](?:[ -~]{0,510}[!-~])?")  # what can stand in a header, and short
_MILLISECONDS = re.compile(rb"[0-9]{1,8}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event, or the number of lines of a stream, exceeds the reader's limit."""


class EventReader:
    """Cuts a stream into the data of its events (WHATWG HTML, 9.2.6). Feed it chunks as they come."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # no line ends before this offset: a long line is scanned once, not once a chunk
        self._data: list[bytes] = []
        self._size = 0
        self._lines = 0
        self.last_id = ""  # of the last event that had one; what a stream is taken up again with
        self.retry: int | None = None  # milliseconds to wait before that

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event completed by `chunk`. Comments and names are dropped.

        Raises:
            EventTooLarge: then the stream is of no more use.
        """
        buffer = self._buffer
        buffer += chunk
        events: list[bytes] = []
        start = 0
        for end in _LINE_END.finditer(buffer, self._searched):
            if end.end() == len(buffer) and end.group() == b"\r":
                break  # perhaps the first half of a CRLF
            self._take(bytes(buffer[start : end.start()]), events)
            start = end.end()
        del buffer[:start]
        self._searched = max(0, len(buffer) - 1)
        if len(buffer) + self._size > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        self._lines += 1
        if self._lines > MAX_LINES:
            raise EventTooLarge(f"the stream has more than {MAX_LINES} lines")
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            return
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if name == b"id" and _ID.fullmatch(value := value.removeprefix(b" ")):
            self.last_id = value.decode()
        elif name == b"retry" and _MILLISECONDS.fullmatch(value := value.removeprefix(b" ")):
            self.retry = int(value)
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1  # with the line feed that joins it: empty lines take memory, too
            if self._size > self._limit:
                raise EventTooLarge(f"an event is larger than {self._limit} bytes")


def render_event(data: bytes, id: str = "") -> bytes:
    """One event; `data` must be on one line, as our JSON is. An `id` is what its stream is taken up again with."""
    if not id:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"event: message\nid: " + id.encode() + b"\ndata: " + data + b"\n\n"


def render_priming(id: str, retry: float) -> bytes:
    """2025-11-25: "an SSE event consisting of an event ID and an empty data field in order to prime the client to
    reconnect (using that event ID as Last-Event-ID)"; `retry` is in seconds."""
    return b"id: %b\nretry: %d\ndata:\n\n" % (id.encode(), round(retry * 1000))
