"""The floor: what bare Hypercorn needs to read a body and answer as many bytes as ECHO_BYTES says."""

from __future__ import annotations

import os
from typing import Any

BODY = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * (int(os.environ.get("ECHO_BYTES", "200")) - 36) + b'"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
