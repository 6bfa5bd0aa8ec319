"""What each client of a crowd does, made from a seed. Knows no network.

``crowding.py`` has the clients.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto

from .own_connection import Json

MODERN = "2026-07-28"
REVISIONS = (MODERN, "2025-11-25", MODERN, "2025-06-18")
UPSTREAMS = ("newer", "older", "program")  # as `crowd.mjs` has them; `older` wants an account of each person


class Leaving(Enum):
    """When a client breaks off: all that it began is over then, and nobody else's."""

    BEFORE_THE_ANSWER = auto()
    IN_THE_STREAM = auto()
    IN_ITS_OWN_BODY = auto()


@dataclass(frozen=True, slots=True)
class Errand:
    """One call. `owner` stands in everything that is said about it; times are in seconds."""

    owner: str
    upstream: str
    pause: float
    steps: int
    asks: bool
    think: float
    cancel_after: float | None = None

    def params(self, *, touches: bool = False) -> Json:
        work = {"owner": self.owner, "pause": round(self.pause * 1000), "steps": self.steps, "asks": self.asks}
        return {"name": f"{self.upstream}__work", "arguments": {**work, "touches": touches}}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client does. `leaves` says in which of its errands, how, and after how long; `listens` to what an
    upstream tells of its own resource."""

    number: int
    person: str
    revision: str
    errands: tuple[Errand, ...]
    listens: str | None
    leaves: tuple[int, Leaving, float] | None
    ends_session: bool


def plan_of(number: int, *, seed: str, people: int, errands: int, is_last: bool = False) -> Plan:
    """What client `number` does in the crowd `seed`. In the last crowd everybody says farewell."""
    chance = random.Random(f"{seed}/{number}")
    person, revision = f"p{number % people}", REVISIONS[number % len(REVISIONS)]
    planned = []
    for index in range(errands):
        upstream = UPSTREAMS[(number // len(REVISIONS) + index) % len(UPSTREAMS)]
        cancels = revision != MODERN and chance.random() < 0.05
        planned.append(
            Errand(
                owner=f"{seed}.{person}.{number}.{index}",
                upstream=upstream,
                pause=chance.uniform(0.01, 0.6),
                steps=chance.randint(1, 3),
                asks=chance.random() < 0.4,
                think=chance.uniform(0.05, 1.0),
                cancel_after=chance.uniform(0, 0.6) if cancels else None,
            )
        )
    leaves = None
    if number % 10 == 3:
        leaves = chance.randrange(errands), chance.choice(list(Leaving)), chance.uniform(0, 0.6)
    listens = ("newer", "older")[number // 8 % 2] if number % 8 in (4, 5) else None
    # Whoever of the older revisions leaves while it is asked is waited for, unless its session ends.
    is_asked = leaves is not None and planned[leaves[0]].asks
    return Plan(number, person, revision, tuple(planned), listens, leaves, is_last or is_asked or number % 3 == 0)


def account_of(person: str) -> str:
    """The token by which `older` knows this person."""
    return f"{person}-account"
