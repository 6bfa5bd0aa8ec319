"""What `test_two_instances` knows of each client, login, code and token, to say what must happen to it.

Numbers of keys and instants only; this file must not know how anything is sealed or sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aggregator.protocol.principal import Person
from aggregator.web.http import Response

from .deployment import Browser


@dataclass(eq=False)
class Registered:
    content: dict[str, Any]
    key: int


@dataclass(eq=False)
class Flow:
    """A browser on its way. `url` is where it stands: at the provider, then with our `page`."""

    browser: Browser
    person: Person
    client: Registered
    key: int
    until: float
    url: str = ""
    page: Response | None = None


@dataclass(eq=False)
class Pair:
    """Two tokens of one answer."""

    access: str
    access_until: float
    refresh: str
    refresh_until: float
    generation: int
    key: int


@dataclass(eq=False)
class Grant:
    """What one code stands for. `known_revoked` are the instances that must refuse its access tokens."""

    person: Person
    client: Registered
    code: str
    code_until: float
    key: int
    spent: bool = False
    generation: int = 0
    rotated_at: float | None = None
    ends_at: float = 0.0
    revoked: bool = False
    known_revoked: set[int] = field(default_factory=set)
    pairs: list[Pair] = field(default_factory=list)
