"""What is known of people's connections at the moment, so that a call does not cost a read of the store.

All of one person's rows are read at once and believed for `BELIEVED` seconds;
what this process changed is read anew. This file must not know what a connection
is good for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import trio

from ...protocol.principal import Principal
from ...store import Connection, Store

BELIEVED = 2.0  # seconds
MAX_PEOPLE = 10_000

T = TypeVar("T")


class _Person(Generic[T]):
    """`edition` counts what this process changed: a read that began before must not hide it."""

    __slots__ = ("edition", "read_at", "reading", "rows")

    def __init__(self) -> None:
        self.rows: Mapping[str, T] | None = None
        self.read_at = 0.0
        self.edition = 0
        self.reading = trio.Lock()


class KnownConnections(Generic[T]):
    """By person and upstream, as `make` prepares each row."""

    def __init__(self, store: Store, make: Callable[[Connection], T], *, max_people: int = MAX_PEOPLE) -> None:
        self._store = store
        self._make = make
        self._max_people = max_people
        self._people: OrderedDict[Principal, _Person[T]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<KnownConnections of {len(self._people)} people>"

    def at_hand(self, principal: Principal) -> Mapping[str, T] | None:
        """The person's connections by upstream, if they were read a moment ago."""
        person = self._people.get(principal)
        if person is None or person.rows is None or trio.current_time() - person.read_at > BELIEVED:
            return None
        return person.rows

    async def look_up(self, principal: Principal) -> Mapping[str, T]:
        """As `at_hand`, reading them if need be.

        Raises:
            StoreUnavailable: if they cannot be read.
        """
        rows = self.at_hand(principal)
        return await self.read(principal) if rows is None else rows

    async def read(self, principal: Principal) -> Mapping[str, T]:
        """As they are in the store now; those who ask while a read waits to begin share it.

        Raises:
            StoreUnavailable: if they cannot be read.
        """
        asked_at = trio.current_time()
        person = self._person(principal)
        edition = person.edition
        async with person.reading:
            if person.rows is not None and person.read_at > asked_at and person.edition == edition:
                return person.rows
            while True:
                edition, begun = person.edition, trio.current_time()
                rows = {row.upstream: self._make(row) for row in await self._store.connections_of(principal)}
                if person.edition == edition:
                    person.rows, person.read_at = rows, begun
                    return rows

    def forget(self, principal: Principal) -> None:
        """To be called after each change."""
        person = self._people.get(principal)
        if person is not None:
            person.rows = None
            person.edition += 1

    def forget_all(self) -> None:
        for principal in self._people:
            self.forget(principal)

    def _person(self, principal: Principal) -> _Person[T]:
        person = self._people.get(principal)
        if person is None:
            person = self._people[principal] = _Person()
            if len(self._people) > self._max_people:
                self._people.popitem(last=False)
        else:
            self._people.move_to_end(principal)
        return person
