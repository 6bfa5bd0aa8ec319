"""How many bytes of requests may be in hand at once: in all, and of each bearer.

A body is held until its request is answered, which can take minutes. Each is
bounded by itself (`body`), but not how many come at once: four megabytes a
hundred times over are more than a container has. This file reads no body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from ..errors import Refusal
from .reply import Receive

IN_TOTAL = 64 * 2**20  # bytes; what is made of them while they are answered takes several times as much
OF_EACH = IN_TOTAL // 4  # nobody can take what everybody needs
BODIES = 4  # of the largest size that may be in hand of one bearer, where that is more


class BodyBudget:
    """`largest` is what one body may have."""

    def __init__(self, largest: int = 0) -> None:
        self._of_each = max(OF_EACH, BODIES * largest)
        self._in_total = max(IN_TOTAL, 4 * self._of_each)
        self._held = 0
        self._by_bearer: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<BodyBudget {self._held} of {self._in_total} bytes>"

    @contextmanager
    def counting(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> Iterator[Receive]:
        """`receive` for one request, whose bytes count until the block is left.

        It raises `Refusal` (503 with ``Retry-After``) instead of handing out more than there is room for. Whose they
        are is told by the Authorization header as it came: a person has few tokens, and with many there is the total.
        """
        bearer = next((value for key, value in headers if key == b"authorization"), b"")
        held = 0

        async def receive_counted() -> MutableMapping[str, Any]:
            nonlocal held
            message = await receive()
            if size := len(message.get("body", b"")):
                of_bearer = self._by_bearer.get(bearer, 0) + size
                if self._held + size > self._in_total or of_bearer > self._of_each:
                    raise _full()
                held += size
                self._held += size
                self._by_bearer[bearer] = of_bearer
            return message

        try:
            yield receive_counted
        finally:
            if held:
                self._held -= held
                self._by_bearer[bearer] -= held
                if not self._by_bearer[bearer]:
                    del self._by_bearer[bearer]


def _full() -> Refusal:
    return Refusal(
        503,
        "temporarily_unavailable",
        "Too much is being sent to this server at once; send it again in a moment.",
        headers=(("retry-after", "1"),),
    )
