"""What the scripted Python clients share: a loopback redirect URI (RFC 8252 7.3), and a memory of their logins.

It runs in the environments of both SDK lines.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mcp.client.auth import TokenStorage
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken


class RedirectListener:
    """Listens on a port of its own; `wait_answer` gives the parameters that came to ``/callback``."""

    def __init__(self) -> None:
        self.uri = ""
        self._answer: asyncio.Future[dict[str, str]] | None = None

    async def open(self) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"

    async def show(self, url: str) -> None:
        """What a desktop client does with a browser: here, somebody reads it from our stderr."""
        print(f"authorize: {url}", file=sys.stderr, flush=True)

    async def wait_answer(self) -> dict[str, str]:
        assert self._answer is not None
        return await self._answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readline()).decode().split(" ")[1]
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone"
        )
        await writer.drain()
        writer.close()
        assert self._answer is not None
        if urlsplit(target).path == "/callback" and not self._answer.done():
            self._answer.set_result({name: values[0] for name, values in parse_qs(urlsplit(target).query).items()})


class FileStorage(TokenStorage):
    """Registration and tokens, kept in a file if there is one, as real clients keep them."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._held: dict[str, Any] = json.loads(file.read_text()) if file and file.exists() else {}

    def _keep(self, name: str, value: Any) -> None:
        self._held[name] = value.model_dump(mode="json")
        if self._file:
            self._file.write_text(json.dumps(self._held))

    async def get_tokens(self) -> OAuthToken | None:
        return OAuthToken(**self._held["tokens"]) if "tokens" in self._held else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._keep("tokens", tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return OAuthClientInformationFull(**self._held["client"]) if "client" in self._held else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._keep("client", client_info)
