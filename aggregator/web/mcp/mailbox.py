"""Mail between this process and the others that share its store.

An answer, a cancellation or a retry reaches whichever process the load balancer
chose; the one that it concerns looks for its mail every `SLOW` seconds, and every
`FAST` seconds while somebody here waits for something. Who wrote a mail is known by
our keys alone (`store/mail.py`); what it says of a person is checked again by its
reader. This file does not know what mail is about.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from ...errors import StoreUnavailable
from ...protocol.jsonrpc import Json, dump
from ...store.mail import EVERYBODY, MailStore

FAST, SLOW = 0.2, 1.0  # seconds between two looks
LIFETIME = 60.0  # seconds that a mail may wait; also the clocks of two hosts may differ by most of it
MAX_BODY = 4 * 2**20  # bytes of one mail: the usual limit of a request's body
MAX_MAILS = 1200  # of one person by one process, within `LIFETIME`: 64 calls at once, each with its signs of life
MAX_BYTES = 32 * 2**20  # of all these

Hear = Callable[[Json], Awaitable[None]]

log = logging.getLogger(__name__)


class Mailbox:
    """This process's address, and its mail. `run` must run; it is the caller's task. `clock` is wall time.

    Readers are called one after the other in the order in which mail came: they must not wait for long.
    """

    def __init__(self, store: MailStore, *, clock: Callable[[], float] = time.time) -> None:
        self.instance = secrets.token_hex(6)
        self._store = store
        self._clock = clock
        self._hear: dict[str, Hear] = {}
        self._own: set[str] = set()
        self._missed: list[Callable[[], Awaitable[None]]] = []
        self._seq = 0
        self._waiting = 0
        self._somebody_waits = trio.Event()
        self._posted: dict[str, deque[tuple[float, int]]] = {}
        self._looked_at = math.inf
        self._may_have_missed = False

    def __repr__(self) -> str:
        return f"<Mailbox {self.instance}, {self._waiting} waiting>"

    def hear(self, kind: str, hear: Hear, *, own: bool = False) -> None:
        """Have `hear` called with every mail of this kind that comes from another process, and with our `own`."""
        self._hear[kind] = hear
        if own:
            self._own.add(kind)

    def when_missed(self, missed: Callable[[], Awaitable[None]]) -> None:
        """Have `missed` called when mail may have come and gone unread: the store, or this process, was away."""
        self._missed.append(missed)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In this block somebody here waits for mail."""
        self._waiting += 1
        self._somebody_waits.set()
        try:
            yield
        finally:
            self._waiting -= 1

    async def post(self, to: str, kind: str, owner: str, content: Json) -> bool:
        """Write to another process, or to `EVERYBODY`, on behalf of `owner`, a person's key.

        False, and nothing is written, if it is too large or its person wrote too much of late. That it is written does
        not mean that it is read.

        Raises:
            StoreUnavailable: if it cannot be written now.
        """
        body = dump({**content, "kind": kind, "from": self.instance})
        if len(body) > MAX_BODY or not self._has_room(owner, len(body)):
            log.warning(
                "a mail of %d bytes of %s to another instance is not written: too large or too many", len(body), owner
            )
            return False
        now = self._clock()
        await self._store.post_mail(to, body.decode(), now=now, expires_at=now + LIFETIME)
        return True

    async def run(self) -> None:
        """Look for mail again and again, until cancelled. An unavailable store is asked again."""
        silent = False
        while True:
            try:
                await self._look()
            except StoreUnavailable as exc:
                self._may_have_missed = True  # also what was read, but could not be followed up
                if not silent:
                    log.warning("mail of other instances cannot be read: %s", exc)
                silent = True
            else:
                if silent:
                    log.info("mail of other instances can be read again")
                silent = False
            if not self._waiting:
                self._somebody_waits = trio.Event()
                with trio.move_on_after(SLOW):
                    await self._somebody_waits.wait()
            else:
                await trio.sleep(FAST)

    async def _look(self) -> None:
        addresses = (self.instance, EVERYBODY)
        while found := await self._store.mail_since(self._seq, addresses, now=self._clock()):
            for mail in found:
                self._seq = mail.seq
                if mail.body is not None:
                    await self._read(mail.body)
        now = trio.current_time()
        for owner in [owner for owner, sent in self._posted.items() if not sent or sent[-1][0] < now - LIFETIME]:
            del self._posted[owner]
        if self._may_have_missed or now - self._looked_at > LIFETIME / 2:
            for missed in self._missed:
                await missed()
        self._looked_at, self._may_have_missed = now, False

    async def _read(self, body: str) -> None:
        try:
            content: Json = json.loads(body)
            kind: str = content["kind"]
            hear = self._hear.get(kind)
            if hear is not None and (content["from"] != self.instance or kind in self._own):
                await hear(content)
        except (KeyError, TypeError, ValueError) as exc:
            log.warning("mail of another instance is not understood; does it run another version? %r", exc)

    def _has_room(self, owner: str, size: int) -> bool:
        now = trio.current_time()
        sent = self._posted.setdefault(owner, deque())
        while sent and sent[0][0] < now - LIFETIME:
            sent.popleft()
        if len(sent) >= MAX_MAILS or sum(size for _, size in sent) + size > MAX_BYTES:
            return False
        sent.append((now, size))
        return True
