"""Mail and session rows in memory. One process has nobody to write to, but keeps the contract all the same."""

from __future__ import annotations

from collections.abc import Collection

import trio

from .mail import AT_A_TIME, Mail
from .session_rows import MAX_ROWS, SessionChange, SessionRow, changed


class MemoryTraffic:
    """The part of the memory store that live traffic needs."""

    def __init__(self) -> None:
        self._seq = 0
        self._mail: list[tuple[Mail, float]] = []
        self._sessions: dict[str, tuple[str, SessionRow, float]] = {}  # owner, row, end

    async def post_mail(self, to: str, body: str, *, now: float, expires_at: float) -> None:
        await trio.lowlevel.checkpoint()
        self._seq += 1
        self._mail = [(mail, end) for mail, end in self._mail if end > now]
        self._mail.append((Mail(self._seq, to, body), expires_at))

    async def mail_since(self, seq: int, to: Collection[str], *, now: float) -> tuple[Mail, ...]:
        await trio.lowlevel.checkpoint()
        found = [mail for mail, end in self._mail if mail.seq > seq and mail.to in to and end > now]
        return tuple(found[:AT_A_TIME])

    async def find_session(self, session: str) -> SessionRow | None:
        await trio.lowlevel.checkpoint()
        found = self._sessions.get(session)
        return None if found is None else found[1]

    async def change_session(
        self, session: str, owner: str, change: SessionChange, *, expires_at: float
    ) -> SessionRow | None:
        await trio.lowlevel.checkpoint()
        found = self._sessions.get(session)
        row = changed(SessionRow() if found is None else found[1], change)
        if row is None:
            return None
        self._sessions[session] = (owner, row, expires_at)
        if found is None:
            theirs = sorted(((end, id) for id, (who, _, end) in self._sessions.items() if who == owner), reverse=True)
            for _, id in theirs[MAX_ROWS:]:
                del self._sessions[id]
        return row

    def purge_traffic(self, now: float) -> int:
        """Drop what has expired; how many rows went."""
        before = len(self._mail) + len(self._sessions)
        self._mail = [(mail, end) for mail, end in self._mail if end > now]
        self._sessions = {id: kept for id, kept in self._sessions.items() if kept[2] > now}
        return before - len(self._mail) - len(self._sessions)
