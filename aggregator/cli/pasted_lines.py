"""What a person pastes into the terminal while something else is waited for. This file must not know what it is."""

from __future__ import annotations

import os
import select
import time

LONGEST = 16 * 1024  # bytes that are kept of a line; terminals hand over 4,095 at once


class PastedLines:
    """The lines of a descriptor, as they come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = b""
        self._ended = False

    def wait_line(self, seconds: float) -> str | None:
        """The next line that is not blank, without its end; None if there is none within `seconds`."""
        until = time.monotonic() + seconds
        while True:
            while b"\n" in self._held:
                line, _, self._held = self._held.partition(b"\n")
                if line.strip():
                    return line.decode("utf-8", "replace").strip()
            left = until - time.monotonic()
            if left <= 0:
                return None
            if self._ended:
                time.sleep(left)
                return None
            try:
                chunk = self._read(left)
            except OSError:  # there is none, or it is gone
                chunk = b""
            if chunk is not None:
                self._ended = not chunk
                self._held = (self._held + (chunk or b"\n"))[-LONGEST:]

    def _read(self, seconds: float) -> bytes | None:
        """What came; nothing is the end, None that nothing came in time.

        Raises:
            OSError: if the descriptor cannot be read.
        """
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return None
        return os.read(self._descriptor, 4096)
