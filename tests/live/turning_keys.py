"""An identity provider on a real socket that asks nobody anything, and whose keys a test turns.

Whoever comes to its login page is alice. `signer` signs, `published` are the keys that its key set has, which is
answered 500 where `is_ill`. `read` is how often the key set was asked for.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import trio

from tests.parts.servers import PUBLIC

from ..protocol.signing import Signer, jwks
from .attacking import Asked, answer, read_request


@dataclass
class TurningKeys:
    """The provider; opened by `open_turning_keys`."""

    issuer: str
    signer: Signer = field(default_factory=Signer)
    published: list[Signer] = field(default_factory=lambda: [Signer()])
    is_ill: bool = False
    read: int = 0
    _nonces: dict[str, str] = field(default_factory=dict)  # by code

    def turn(self, kid: str, serial: int) -> None:
        """Sign with another key, and publish that alone."""
        self.signer = Signer(kid=kid, serial=serial)
        self.published = [self.signer]

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            asked, _ = await read_request(stream, b"")
            await stream.send_all(self._answer(asked))
            await stream.send_eof()
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await trio.aclose_forcefully(stream)

    def _answer(self, asked: Asked) -> bytes:
        path, _, query = asked.head.split(b" ", 2)[1].decode().partition("?")
        match path:
            case "/.well-known/openid-configuration":
                return answer(json.dumps(self._metadata()).encode())
            case "/keys":
                self.read += 1
                keys = jwks(*(signer.jwk() for signer in self.published))
                return answer(b"out of order", status=500) if self.is_ill else answer(keys)
            case "/authorize":
                return self._log_in(dict(parse_qsl(query)))
            case "/token":
                return answer(json.dumps(self._tokens(dict(parse_qsl(asked.body.decode())))).encode())
        return answer(b"", status=404)

    def _metadata(self) -> dict[str, Any]:
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": self.issuer, **{name: f"{self.issuer}/{path}" for name, path in places.items()}}

    def _log_in(self, asked: dict[str, str]) -> bytes:
        code = secrets.token_urlsafe()
        self._nonces[code] = asked["nonce"]
        back = urlencode({"code": code, "state": asked["state"]})
        return answer(b"", ("location", f"{asked['redirect_uri']}?{back}"), status=303)

    def _tokens(self, form: dict[str, str]) -> dict[str, Any]:
        now, nonce = int(time.time()), self._nonces.pop(form["code"])
        id_token = self.signer.id_token(iss=self.issuer, aud=PUBLIC, nonce=nonce, iat=now, exp=now + 300)
        return {"id_token": id_token, "access_token": secrets.token_urlsafe(), "token_type": "Bearer"}


@asynccontextmanager
async def open_turning_keys() -> AsyncIterator[TurningKeys]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        provider = TurningKeys(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        nursery.start_soon(trio.serve_listeners, provider.serve, listeners)
        yield provider
        nursery.cancel_scope.cancel()
