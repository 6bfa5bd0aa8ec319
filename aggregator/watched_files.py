"""Files that somebody else replaces while we run: mounted secrets, renewed certificates, the configuration.

A change counts when two looks in a row find the same, so that a file that is
still being written is waited for. This file must not know what stands in them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

# What tells one content of a file from another without reading it: device, inode, size, time of change.
Look = tuple[int, int, int, int] | None


class WatchedFiles:
    """`known` is what `look` found before the files were read; without it the first content counts as a change."""

    def __init__(self, files: Sequence[str], interval: float, *, known: tuple[Look, ...] = ()) -> None:
        self._files = tuple(files)
        self._interval = interval
        self._dealt_with = known

    async def wait_changed(self) -> None:
        """Return when the files are other than at the last return, or than what is known, and stay so for an interval.

        Good or bad, what is there then is dealt with: the next call waits for something else.
        """
        seen = look(self._files)
        while True:
            await trio.sleep(self._interval)
            before, seen = seen, look(self._files)
            if seen == before and seen != self._dealt_with:
                self._dealt_with = seen
                return


def look(files: Sequence[str]) -> tuple[Look, ...]:
    """What stands at each path now, symlinks followed: Kubernetes swaps a symlink to a directory.

    Blocks for as long as a stat of a local file.
    """
    found: list[Look] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
