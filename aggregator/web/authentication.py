"""Who sends a request to the MCP endpoint: what the endpoint wants to know, whichever mode finds it out.

`bearer` is a team's way, `local` that of one person. This file must not know either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..protocol.principal import Principal


class Authenticated(Protocol):
    """The sender of one request."""

    @property
    def principal(self) -> Principal: ...


class Authentication(Protocol):
    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Authenticated:
        """The sender of a request with these headers, names in lower case. Never waits.

        Raises:
            Refusal: for whoever may not come in.
        """
        ...
