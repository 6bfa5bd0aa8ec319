"""JSON-RPC over the pipes of one process: many calls at once, each with its own answer.

Reading never waits for anybody: not for a caller that is slow to take its
progress, nor for the process to read what we write; so neither of us can block
the other. What is no JSON-RPC is counted and skipped. This file does not know
MCP's revisions, nor how the process started or why it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import trio

from ...errors import UpstreamLost
from ...protocol.jsonrpc import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Call,
    Failure,
    Id,
    Message,
    Notice,
    Success,
    Unreadable,
    failure,
    parse_loose,
    render,
)
from ...protocol.lines import LineReader, Overlong
from ...protocol.subscriptions import BETWEEN_CALLS
from ..peers import Hear, OnNotice, Respondent
from .rate_limited_log import RateLimitedLog

MAX_LINE = 4 * 2**20  # bytes of one message
ENDLESS = 64 * 2**20  # bytes without a line end: it is not going to come
CHUNK = 64 * 2**10  # bytes; what a pipe holds
NOTICES = 256  # kept for a caller that is slow to take them; progress is only as good as it is fresh
PAUSE, LONGEST_PAUSE = 0.002, 1.0  # seconds; before the next chunk of one who babbles, longer each time
ORDERS = 64  # messages waiting to be written

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Asked:
    """A call that waits for its answer. `owner` is whose it is, empty for nobody's."""

    line: bytes
    owner: str
    notices: trio.MemorySendChannel[Notice | Call]
    respondent: Respondent | None = None  # to what the process asks meanwhile
    written: bool = False
    given_up: bool = False
    outcome: Success | Failure | None = field(default=None, repr=False)
    lasting: bool = False
    trouble: str | None = None  # why it has no outcome, where that is this call's own affair
    questions: dict[Id, Call] = field(default_factory=dict)  # of the process, which its respondent has to answer


class Wire:
    """The conversation with one process. `read` and `write` are run by whoever owns the process.

    `on_babble` is called with each line of text on stdout that is not even meant to be a message.
    """

    def __init__(
        self,
        name: str,
        stdin: trio.abc.SendStream,
        stdout: trio.abc.ReceiveStream,
        on_babble: Callable[[bytes], None],
    ) -> None:
        self.stopped = trio.Event()  # nothing more can be read, or written
        self.garbage = 0  # lines that were no JSON-RPC
        self.listeners: set[Hear] = set()  # of what changes between calls
        self._name = name
        self._stdin = stdin
        self._stdout = stdout
        self._on_babble = on_babble
        self._asked: dict[str, _Asked] = {}
        self._owners: set[str] = set()
        self._lost: str | None = None
        self._orders, self._to_write = trio.open_memory_channel[_Asked | bytes](ORDERS)
        self._complain = RateLimitedLog(log, logging.WARNING)

    def __repr__(self) -> str:
        return f"<Wire {self._name} {len(self._asked)} calls{', lost' if self._lost else ''}>"

    @property
    def calls(self) -> int:
        """How many wait for their answer. A subscription, which waits for ever, does not count."""
        return sum(not asked.lasting for asked in self._asked.values())

    async def ask(
        self, call: Call, owner: str, on_notice: OnNotice, respondent: Respondent | None = None
    ) -> Success | Failure:
        """The answer to `call`, whose id is a text that nobody used before; what is said meanwhile goes to `on_notice`.
        What the process asks while only calls of the same client run, `respondent` answers, in a task that ends with
        this call; then another of them is asked again.

        When cancelled, the process is told, if it was asked at all.

        Raises:
            UpstreamLost: if the process is lost; `executed` only if the call had begun to be written.
            Unreadable: if the call has no JSON form.
        """
        sender, notices = trio.open_memory_channel[Notice | Call](NOTICES)
        assert isinstance(call.id, str)
        lasting = call.method == "subscriptions/listen"
        asked = self._asked[call.id] = _Asked(
            render(call) + b"\n", owner, sender, lasting=lasting, respondent=respondent
        )
        if owner:
            self._owners.add(owner)
        try:
            if self._lost is None:
                try:
                    await self._orders.send(asked)
                except trio.BrokenResourceError:
                    pass  # lost meanwhile
                else:
                    await self._converse(asked, notices, on_notice)
        except trio.Cancelled:
            if asked.written and asked.outcome is None:
                self.post(Notice("notifications/cancelled", {"requestId": call.id, "reason": "nobody waits for it"}))
            raise
        finally:
            asked.given_up = True
            del self._asked[call.id]
            sender.close()
            notices.close()
            for question in asked.questions.values():
                self._put(question)  # it may have been about another call
        if asked.outcome is None:
            raise UpstreamLost(asked.trouble or self._lost or "was lost", executed=asked.written)
        return asked.outcome

    async def _converse(
        self, asked: _Asked, heard: trio.MemoryReceiveChannel[Notice | Call], on_notice: OnNotice
    ) -> None:
        """Everything that is said and asked until the answer comes."""
        if (respondent := asked.respondent) is None:
            async for message in heard:
                if isinstance(message, Notice):
                    await on_notice(message)
            return
        answering: dict[Id, trio.CancelScope] = {}

        async def answer(question: Call, scope: trio.CancelScope) -> None:
            with scope, ExitStack() as standing:
                for other in self._running():
                    if other.respondent is not None:
                        standing.enter_context(other.respondent.standing())
                answered = await respondent.answer(question)
                asked.questions.pop(question.id, None)
                self.post(answered)

        async with trio.open_nursery() as nursery:
            async for message in heard:
                match message:
                    case Call(id):
                        scope = answering[id] = trio.CancelScope()
                        nursery.start_soon(answer, message, scope)
                    case Notice("notifications/cancelled", about):
                        if (asking := answering.get(about.get("requestId", ""))) is not None:
                            asking.cancel("the process no longer wants to know")
                    case Notice():
                        await on_notice(message)
            nursery.cancel_scope.cancel("the call has ended")

    def post(self, message: Message) -> None:
        """Say something that wants no answer, or answer; lost if the process does not read."""
        try:
            self._orders.send_nowait(render(message) + b"\n")
        except (trio.WouldBlock, trio.BrokenResourceError):
            log.debug("upstream %s: could not say %s", self._name, type(message).__name__)

    def lose(self, cause: str) -> None:
        """The process is gone, or is to go: every call ends with `cause`, now and from now on."""
        if self._lost is None:
            self._lost = cause
            self._to_write.close()
            for asked in self._asked.values():
                asked.notices.close()

    async def write(self) -> None:
        """Write what is asked and posted, one message at a time, until the process takes no more."""
        try:
            async for order in self._to_write:
                if isinstance(order, bytes):
                    await self._stdin.send_all(order)
                elif not order.given_up:
                    order.written = True
                    await self._stdin.send_all(order.line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.stopped.set()

    async def read(self) -> None:
        """Take in what the process says until it says nothing more."""
        lines = LineReader(MAX_LINE)
        babble = 0  # full chunks in a row in which nobody was meant
        try:
            while chunk := await self._stdout.receive_some(CHUNK):
                found = lines.feed(chunk)
                useful = [self._take(line) for line in found]
                is_babble = found and len(chunk) > CHUNK // 2 and not any(useful)  # no line end: a long one is coming
                babble = babble + 1 if is_babble else 0
                if babble > 1:
                    # Who prints without end and says nothing would cost everybody a processor; so its pipe fills.
                    await trio.sleep(min(babble * PAUSE, LONGEST_PAUSE))
                if lines.pending > ENDLESS:
                    self._complain("upstream %s wrote %d bytes without a line end", self._name, lines.pending)
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.stopped.set()

    def _take(self, line: bytes | Overlong) -> bool:
        """Whether a call was concerned."""
        if isinstance(line, Overlong):
            self._refuse(line)
            return False
        text = line.strip()
        if not text:
            return False
        if text[:1] not in b"{[":  # without the parser, since there may be very many
            self.garbage += 1
            self._on_babble(text)
            return False
        try:
            messages = parse_loose(text)
        except Unreadable as exc:
            self.garbage += 1
            self._complain("upstream %s wrote a line to stdout that is not MCP, skipped: %s", self._name, exc)
            return False
        concerned = [self._hear(message) for message in messages]
        return any(concerned)

    def _hear(self, message: Message) -> bool:
        """Whether a call was concerned."""
        match message:
            case Success(id) | Failure(id):
                return self._answered(id, message)
            case Notice(method) if method in BETWEEN_CALLS:
                for hear in list(self.listeners):
                    hear(message)
            case Notice():
                if (asked := self._concerned(message)) is not None:
                    try:
                        asked.notices.send_nowait(message)
                        return True
                    except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                        log.debug("upstream %s: dropped a %s", self._name, message.method)
            case Call(id, "ping", _):
                self.post(Success(id, {}))
            case Call():
                return self._put(message)
        return False

    def _put(self, question: Call) -> bool:
        """Have somebody answer what the process asks; whether there is anybody."""
        if (asked := self._asker()) is not None:
            try:
                asked.notices.send_nowait(question)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            else:
                asked.questions[question.id] = question
                return True
        if len(self._owners) == 1 and sum(asked.respondent is not None for asked in self._running()) > 1:
            # Not for ever: a server that hears METHOD_NOT_FOUND may never ask again.
            told = "several requests run in this process, and nothing says which of them asks"
            self.post(failure(question.id, INVALID_REQUEST, told))
        else:
            self.post(failure(question.id, METHOD_NOT_FOUND, f"{question.method[:80]} is not available"))
        return False

    def _answered(self, id: object, outcome: Success | Failure) -> bool:
        asked = self._asked.get(id) if isinstance(id, str) else None
        if asked is None or asked.outcome is not None:
            log.debug("upstream %s answered what nobody waits for", self._name)
            return False
        asked.outcome = outcome
        asked.notices.close()
        return True

    def _concerned(self, notice: Notice) -> _Asked | None:
        """Whose call a notification is about. Only progress says so; anything else may be somebody's data, and goes
        to the newest call, as long as all calls of this process were one and the same person's."""
        if notice.method == "notifications/progress":
            token = notice.params.get("progressToken")
            return self._asked.get(token) if isinstance(token, str) else None
        if notice.method == "notifications/cancelled":
            id = notice.params.get("requestId")
            if not isinstance(id, str | int):
                return None
            return next((asked for asked in self._asked.values() if asked.questions.pop(id, None)), None)
        if len(self._owners) > 1:
            return None
        return next((asked for asked in reversed(self._asked.values()) if asked.owner), None)

    def _running(self) -> list[_Asked]:
        """The calls of people that the process may be at work for."""
        return [asked for asked in self._asked.values() if asked.owner and asked.written and asked.outcome is None]

    def _asker(self) -> _Asked | None:
        """In whose call the process asks something. Nothing says so, and it may be about somebody's data: it is told
        that nobody can be asked unless one call runs, or several of one session of a client, of which it is the newest;
        and all calls of this process were one and the same person's."""
        running = self._running()
        sessions = {None if asked.respondent is None else asked.respondent.session for asked in running}
        is_clear = len(running) == 1 or (len(sessions) == 1 and "" not in sessions)
        if not is_clear or None in sessions or len(self._owners) > 1:
            return None
        return running[-1]

    def _refuse(self, line: Overlong) -> None:
        """The call whose answer it was, as far as can be told, is told so; another would wait in vain."""
        self._complain("upstream %s wrote a line of %d bytes; the limit is %d", self._name, line.size, MAX_LINE)
        for id, asked in self._asked.items():
            quoted = b'"%s"' % id.encode()
            if quoted in line.head or quoted in line.tail:
                asked.trouble = f"answered with {line.size} bytes; the limit is {MAX_LINE}"
                asked.notices.close()
                return
