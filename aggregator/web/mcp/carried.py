"""Work for a request that landed at another instance than the one that can do it: brought there, and its end back.

The instance that does the work says at once that it is at it, and again every `BEAT`
seconds: who hears nothing answers the client instead of waiting for one that is gone.
What the work is, and who may have it done, is checked on both sides by those who know;
this file does not.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from ...errors import StoreUnavailable
from ...protocol.jsonrpc import Json
from .mailbox import Mailbox

FIRST_WORD = 5.0  # seconds until the instance that has the work has to say that it is there
BEAT = 5.0  # seconds between two signs of life
SILENCE = 15.0  # seconds without any
MAX_CARRIED = 2000  # works that were brought here, at a time: as many as calls can be parked
MAX_PARTS = 16  # that came for a client which does not take them

Tell = Callable[[Json], Awaitable[bool]]  # False: it could not be sent
Hear = Callable[[Json], Awaitable[None]]

W = TypeVar("W")  # the work
R = TypeVar("R")  # its outcome


class Unsent(Exception):
    """The work is too large to be brought to the other instance, or its person had too much brought of late."""


@dataclass(slots=True)
class _Brought(Generic[R]):
    """Work that another instance does for us."""

    to: str
    patience: float = FIRST_WORD
    is_over: bool = False
    outcome: R | None = None
    parts: deque[Json] = field(default_factory=deque)
    heard: trio.Event = field(default_factory=trio.Event)

    def note(self) -> None:
        self.heard.set()
        self.heard = trio.Event()


class Carried(Generic[W, R]):
    """Both sides of one `kind` of work.

    What is brought here, `parse` reads and `do` does, in a task of `nursery`; it never fails, and may tell parts of its
    outcome before the end. An outcome that cannot be sent back is replaced by `unsendable`. `parse` and `parse_outcome`
    raise `KeyError`, `TypeError` or `ValueError` for what another version of this program may have written.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        nursery: trio.Nursery,
        kind: str,
        *,
        parse: Callable[[Json], W],
        do: Callable[[W, Tell], Awaitable[Json]],
        parse_outcome: Callable[[Json], R],
        unsendable: Json,
    ) -> None:
        self._mailbox = mailbox
        self._nursery = nursery
        self._kind = kind
        self._parse = parse
        self._do = do
        self._parse_outcome = parse_outcome
        self._unsendable = unsendable
        self._brought: dict[str, _Brought[R]] = {}
        self._carried: dict[str, trio.CancelScope] = {}
        mailbox.hear(kind, self._hear_work)
        mailbox.hear(f"{kind}-alive", self._hear_alive)
        mailbox.hear(f"{kind}-part", self._hear_part)
        mailbox.hear(f"{kind}-over", self._hear_over)
        mailbox.hear(f"{kind}-left", self._hear_left)

    @property
    def carried(self) -> int:
        """How many works run here for others."""
        return len(self._carried)

    async def bring(self, to: str, owner: str, content: Json, hear: Hear | None = None) -> R | None:
        """Have the instance `to` do the work on behalf of `owner`; its outcome, or None if nothing is heard of it.

        Parts of the outcome go to `hear` as they come. When cancelled, the instance is told so.

        Raises:
            Unsent: if the work cannot be sent, or its parts come faster than `hear` takes them.
            StoreUnavailable: if it cannot be sent now.
        """
        number = secrets.token_urlsafe(12)
        brought: _Brought[R] = _Brought(to)
        self._brought[number] = brought
        try:
            with self._mailbox.waiting():
                if not await self._mailbox.post(to, self._kind, owner, {**content, "owner": owner, "number": number}):
                    raise Unsent("too large, or too many")
                await self._wait_over(brought, hear)
        except (trio.Cancelled, Unsent):
            with trio.move_on_after(2, shield=True):
                await self._post(to, "left", owner, {"number": number})
            raise
        finally:
            del self._brought[number]
        return brought.outcome

    async def _wait_over(self, brought: _Brought[R], hear: Hear | None) -> None:
        """Until the work is over, or its instance is silent."""
        while True:
            while brought.parts and hear is not None:
                if len(brought.parts) > MAX_PARTS:
                    raise Unsent("more comes than the client takes")
                await hear(brought.parts.popleft())
            if brought.is_over:
                return
            heard = brought.heard
            with trio.move_on_after(brought.patience):
                await heard.wait()
            if not heard.is_set():
                return

    async def _hear_work(self, content: Json) -> None:
        if len(self._carried) >= MAX_CARRIED:
            return  # its sender gives up in a few seconds
        number, sender, owner, work = content["number"], content["from"], content["owner"], self._parse(content)
        self._carried[number] = scope = trio.CancelScope()
        self._nursery.start_soon(self._carry, number, sender, owner, work, scope)

    async def _carry(self, number: str, sender: str, owner: str, work: W, scope: trio.CancelScope) -> None:
        async def beat() -> None:
            while True:
                await self._post(sender, "alive", owner, {"number": number})
                await trio.sleep(BEAT)

        async def tell(part: Json) -> bool:
            return await self._post(sender, "part", owner, {**part, "number": number})

        outcome: Json = {}
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(beat)
                    outcome = await self._do(work, tell)
                    nursery.cancel_scope.cancel()
        finally:
            del self._carried[number]
        if scope.cancelled_caught:
            return
        if not await self._post(sender, "over", owner, {**outcome, "number": number}):
            await self._post(sender, "over", owner, {**self._unsendable, "number": number})

    async def _hear_alive(self, content: Json) -> None:
        if (brought := self._expected(content)) is not None:
            brought.patience = SILENCE
            brought.note()

    async def _hear_part(self, content: Json) -> None:
        if (brought := self._expected(content)) is not None and len(brought.parts) <= MAX_PARTS:
            brought.parts.append(content)
            brought.note()

    async def _hear_over(self, content: Json) -> None:
        if (brought := self._expected(content)) is not None:
            brought.outcome, brought.is_over = self._parse_outcome(content), True
            brought.note()

    async def _hear_left(self, content: Json) -> None:
        if (scope := self._carried.get(content["number"])) is not None:
            scope.cancel("the client disconnected")

    def _expected(self, content: Json) -> _Brought[R] | None:
        """The work that the mail is about, if it comes from where the work is."""
        brought = self._brought.get(content["number"])
        return brought if brought is not None and brought.to == content["from"] else None

    async def _post(self, to: str, what: str, owner: str, content: Json) -> bool:
        try:
            return await self._mailbox.post(to, f"{self._kind}-{what}", owner, content)
        except StoreUnavailable:
            return False  # the other side gives up by itself
