"""Mail between the processes that share a store: what reached one of them and concerns another.

A mail lives for a minute at most. Its body holds what people typed, so it is
encrypted at rest, under the sealing key alone: `rekey` passes it by, since it is
gone before any key may go. This file does not know what is written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

EVERYBODY = "*"  # the address that every process reads
AT_A_TIME = 100  # mails of one look


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `seq` grows with every mail of the store; `body` is None if it cannot be decrypted with our keys."""

    seq: int
    to: str
    body: str | None = field(repr=False)


class MailStore(Protocol):
    """The part of the store that carries mail."""

    async def post_mail(self, to: str, body: str, *, now: float, expires_at: float) -> None:
        """Leave `body` for whoever reads at the address `to` before `expires_at`; what has expired by `now` goes."""
        ...

    async def mail_since(self, seq: int, to: Collection[str], *, now: float) -> tuple[Mail, ...]:
        """The mail to any of `to` that came after `seq` and has not expired, oldest first, `AT_A_TIME` at most.

        No mail ever appears behind one that somebody has read: a store whose numbers are given out before their rows
        can be seen has to write mail one after the other.
        """
        ...
