"""Files that never change under their path, because the path holds their hash.

This file owns how they are named and kept; it must not know what is in them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .http import Request, Response, Route

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class StaticFile:
    """One file of `static/`, read once, at ``<base>/static/<stem>.<hash><suffix>``."""

    def __init__(self, base: str, name: str) -> None:
        file = _FOLDER / name
        self._content = file.read_bytes()
        self._headers = (
            ("content-type", _TYPES[file.suffix]),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("x-content-type-options", "nosniff"),
        )
        digest = hashlib.sha256(self._content).hexdigest()[:16]
        self.path = f"{base}/static/{file.stem}.{digest}{file.suffix}"

    @property
    def route(self) -> Route:
        return Route(self.path, {"GET": self._answer})

    async def _answer(self, request: Request) -> Response:
        return Response(200, self._content, self._headers)
