"""`toolTimeout` as people understand it: the time that the upstream takes, not the time that a person does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class ToolClock:
    """A cancel scope around upstream work, which stands still while somebody is asked something."""

    def __init__(self, timeout: float) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + timeout)
        self._left = timeout
        self._asking = 0

    def __repr__(self) -> str:
        return f"<ToolClock {'standing' if self._asking else 'running'}>"

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Time in this block does not count; blocks may overlap."""
        if not self._asking:
            self._left = self.scope.deadline - trio.current_time()
            self.scope.deadline = math.inf
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self.scope.deadline = trio.current_time() + self._left
