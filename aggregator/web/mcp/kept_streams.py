"""What went out on event streams of handshake clients, kept for those whose connection breaks (2025-11-25,
resumability and redelivery).

A stream belongs to one person and session. Its messages are kept while its call runs,
connected or not, and for a while after the answer. There is room for so much: the
messages before an answer go before the answer does, what has ended before what runs,
the oldest first. This file knows bytes and positions; it must not know connections,
nor what is said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from ...protocol.event_ids import new_name, render_event_id
from ...protocol.jsonrpc import Call
from ...protocol.sse import render_event

KEPT_FOR = 60.0  # seconds behind the end: the SDKs come back after one, or when they were told to, twice
LOOK = 5.0  # seconds between two looks at what is too old

# Bytes. A stream's own bound is for what comes before the answer: some thousand notifications of progress, and as much
# for each of the 64 calls that a person may have running as everything of that person may take. An answer can have 16
# MiB by itself; the newest is kept however large it is.
OF_STREAM = 256 * 2**10
OF_PERSON = 16 * 2**20
IN_ALL = 64 * 2**20
STREAM, EVENT = 2048, 200  # what one costs beside the texts of its events


class Taker(Protocol):
    """A connection on which a stream goes out now."""

    def replaced(self) -> None:
        """Another one has the stream from now on."""
        ...

    def asked_to_poll(self, retry: float) -> None:
        """The client shall come back `retry` seconds from now, instead of waiting here."""
        ...


class KeptStream:
    """One stream. Made by `KeptStreams.begin`, which knows its size at every moment."""

    def __init__(self, name: str, owner: str, session: str, kept: KeptStreams) -> None:
        self.name = name
        self.owner = owner
        self.session = session
        self.position = 0  # of the last event; nothing but the priming one stands at 0
        self.is_over = False
        self.is_answered = False
        self.size = STREAM
        self.changed = trio.Event()
        self._kept = kept
        self._events: OrderedDict[int, bytes] = OrderedDict()
        self._questions: set[int] = set()  # positions of what the client is asked: they go last
        self._taker: Taker | None = None

    def __repr__(self) -> str:
        return f"<KeptStream {len(self._events)} events, {self.size} bytes{', over' if self.is_over else ''}>"

    def add(self, message: bytes, *, is_question: bool = False) -> bytes:
        """Keep one message before the answer; what goes out for it."""
        self.position += 1
        event = render_event(message, render_event_id(self.name, self.position))
        if is_question:
            self._questions.add(self.position)
        self._put(event)
        while self.size > STREAM + OF_STREAM and self._drop_one(keep=self.position):
            pass
        self._kept.make_room(self)
        return event

    def finish(self, answer: bytes) -> bytes:
        """Keep the answer, behind which nothing comes; what goes out for it."""
        self.position += 1
        event = render_event(answer, render_event_id(self.name, self.position, is_last=True))
        self._questions.clear()
        self._put(event)
        self.is_answered = True
        self.end()
        self._kept.make_room(self)
        return event

    def end(self) -> None:
        """Nothing more comes, an answer or not."""
        if not self.is_over:
            self.is_over = True
            self._kept.ended(self)
            self._note()

    def after(self, position: int) -> bytes:
        """All events behind that position, as far as they are kept."""
        return b"".join(event for place, event in self._events.items() if place > position)

    def take(self, taker: Taker) -> None:
        """From now on the stream goes out there, and nowhere else: the newest wins."""
        before, self._taker = self._taker, taker
        if before is not None:
            before.replaced()
        self._note()

    def leave(self, taker: Taker) -> None:
        if self._taker is taker:
            self._taker = None

    async def wait_taken(self) -> None:
        """Return when a connection has the stream."""
        while self._taker is None:
            await self.changed.wait()

    def poll(self, retry: float) -> None:
        """Have the client come back later, if it is connected."""
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.asked_to_poll(retry)
            self._note()

    def thin(self) -> None:
        """Forget all that is not the answer."""
        while self._drop_one(keep=self.position if self.is_over else 0):
            pass

    def _put(self, event: bytes) -> None:
        self._events[self.position] = event
        self._resize(len(event) + EVENT)
        self._note()

    def _drop_one(self, *, keep: int) -> bool:
        told = (place for place in self._events if place != keep and place not in self._questions)
        asked = (place for place in self._events if place != keep)
        place = next(told, None) or next(asked, None)
        if place is None:
            return False
        self._questions.discard(place)
        self._resize(-len(self._events.pop(place)) - EVENT)
        return True

    def _resize(self, by: int) -> None:
        self.size += by
        self._kept.resized(self, by)

    def _note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class KeptStreams:
    """All of this process, called `instance`. `run` is a task of the app's nursery."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self.size = 0
        self._streams: dict[str, KeptStream] = {}
        self._of_person: dict[str, dict[str, KeptStream]] = {}
        self._sizes: dict[str, int] = {}
        self._ended: OrderedDict[str, float] = OrderedDict()  # names, and when each is too old

    def __len__(self) -> int:
        return len(self._streams)

    def __repr__(self) -> str:
        return f"<KeptStreams {len(self)}, {self.size} bytes>"

    def begin(self, owner: str, session: str, calls: Iterable[Call]) -> KeptStream:
        """A new stream of that person and session, on which `calls` are answered."""
        stream = KeptStream(new_name(self._instance, calls), owner, session, self)
        self._streams[stream.name] = stream
        self._of_person.setdefault(owner, {})[stream.name] = stream
        self.resized(stream, stream.size)
        return stream

    def find(self, name: str, owner: str, session: str) -> KeptStream | None:
        """The stream of that name, if it is that person's and session's and still kept."""
        stream = self._streams.get(name)
        return stream if stream is not None and (stream.owner, stream.session) == (owner, session) else None

    def resized(self, stream: KeptStream, by: int) -> None:
        self.size += by
        self._sizes[stream.owner] = self._sizes.get(stream.owner, 0) + by

    def make_room(self, grown: KeptStream) -> None:
        """For what was added to `grown`."""
        owner = grown.owner
        self._bound(self._of_person[owner], grown, lambda: self._sizes[owner] > OF_PERSON)
        self._bound(self._streams, grown, lambda: self.size > IN_ALL)

    def ended(self, stream: KeptStream) -> None:
        """It is too old some time from now."""
        self._ended[stream.name] = trio.current_time() + KEPT_FOR

    async def run(self) -> None:
        """Forget what is too old, until cancelled."""
        while True:
            await trio.sleep(LOOK)
            now = trio.current_time()
            while self._ended and next(iter(self._ended.values())) <= now:
                self._forget(self._streams[next(iter(self._ended))])

    def _bound(self, streams: dict[str, KeptStream], grown: KeptStream, is_full: Callable[[], bool]) -> None:
        if not is_full():
            return
        for name in [name for name in self._ended if name in streams and name != grown.name]:
            self._forget(streams[name])
            if not is_full():
                return
        for stream in list(streams.values()):
            stream.thin()
            if not is_full():
                return

    def _forget(self, stream: KeptStream) -> None:
        del self._streams[stream.name]
        self._ended.pop(stream.name, None)
        self.resized(stream, -stream.size)
        of_person = self._of_person[stream.owner]
        del of_person[stream.name]
        if not of_person:
            del self._of_person[stream.owner], self._sizes[stream.owner]
