"""What somebody has to know to log in at a running identity provider. This file does not know which one it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from ..browser import open_browser


@dataclass(frozen=True, slots=True)
class Provider:
    """Where it is, who we are there, and who the person is; `browser` opens one that can use its pages."""

    issuer: str
    client_id: str
    client_secret: str | None
    user: str = "alice"
    password: str = "any password"
    browser: Callable[[], httpx2.AsyncClient] = open_browser
