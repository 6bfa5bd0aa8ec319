"""Progress of one request that an upstream is asked several times for.

Each time the upstream counts from the beginning; the client made one request, and is
told of what goes beyond what it was told. This file knows no upstream.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from ...protocol.jsonrpc import Call, Notice

PROGRESS = "notifications/progress"

Tell = Callable[[Notice | Call], Awaitable[None]]


class Rising:
    """`tell`, but for progress of a later round that falls behind. `begin_again` when the upstream is asked again.

    What an upstream says in the first round is passed on as it comes, whatever it does.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = -math.inf
        self._again = False

    def begin_again(self) -> None:
        self._again = True

    async def __call__(self, message: Notice | Call) -> None:
        if isinstance(message, Notice) and message.method == PROGRESS:
            value = message.params.get("progress")
            if isinstance(value, int | float):
                # 2025-11-25, progress: "The progress value MUST increase with each notification"
                if self._again and value <= self._told:
                    return
                self._told = max(self._told, value)
        await self._tell(message)
