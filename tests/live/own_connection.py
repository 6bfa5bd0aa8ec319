"""HTTP/1.1 over one TCP connection that is nobody else's: a request, and its answer message by message.

Small, so that a thousand of them cost little; a test decides when one breaks off. It
reads what the aggregator writes, a body of known length or in chunks, and nothing more.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

import trio

Json = dict[str, Any]
CHUNK = 65536


class OwnConnection:
    """One request at a time. `status` and `headers` are those of the answer that is being read; `heard_at`, of trio's
    clock, is when something came last."""

    def __init__(self, stream: trio.SocketStream, authority: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.heard_at = trio.current_time()
        self._stream = stream
        self._authority = authority
        self._buffer = bytearray()
        self._left: int | None = 0  # bytes of the body that have not been read; None: it comes in chunks
        self._events = bytearray()
        self._found: list[Json] = []

    @classmethod
    async def open(cls, port: int, authority: str) -> OwnConnection:
        return cls(await trio.open_tcp_stream("127.0.0.1", port), authority)

    async def send(self, method: str, headers: Mapping[str, str], body: bytes = b"", *, part: float = 1.0) -> None:
        """Send a request to ``/mcp``, or of its body only the first `part`."""
        lines = [f"{method} /mcp HTTP/1.1", f"host: {self._authority}", f"content-length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        await self._stream.send_all(head + body[: int(len(body) * part)])

    async def begin_answer(self) -> int:
        """The status, once the answer's head is there."""
        head = await self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        is_chunked = self.headers.get("transfer-encoding") == "chunked"
        self._left = None if is_chunked else int(self.headers.get("content-length", 0))
        self._events.clear()
        return self.status

    async def next_message(self) -> Json | None:
        """The next message of the answer; None at its end.

        Raises:
            EOFError: if the connection ends before.
        """
        while not self._found:
            piece = await self._piece()
            if piece is None:
                return None
            if self.headers.get("content-type") != "text/event-stream":
                found: Json = json.loads(piece)
                return found
            self._events += piece
            *events, rest = self._events.split(b"\n\n")
            self._events = rest
            lines = (line for event in events for line in event.split(b"\n"))
            # 2025-11-25: a stream may begin with an event of empty data
            self._found += [json.loads(line[5:]) for line in lines if line.startswith(b"data:") and line[5:].strip()]
        return self._found.pop(0)

    async def read_all(self) -> list[Json]:
        """Every message of an answer, to its end."""
        await self.begin_answer()
        messages = []
        while (message := await self.next_message()) is not None:
            messages.append(message)
        return messages

    def break_off(self, *, rudely: bool = False) -> None:
        """Close the connection at once, with a reset if `rudely`."""
        if rudely:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()

    async def _piece(self) -> bytes | None:
        if self._left is None:
            size = int(await self._until(b"\r\n"), 16)
            piece = await self._exactly(size)
            await self._exactly(2)
            if size:
                return piece
            self._left = 0
            return None
        if not self._left:
            return None
        size, self._left = self._left, 0
        return await self._exactly(size)

    async def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            await self._receive()
        return self._take(at, len(end))

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._receive()
        return self._take(size, 0)

    async def _receive(self) -> None:
        data = await self._stream.receive_some(CHUNK)
        if not data:
            raise EOFError(f"the connection ended with {bytes(self._buffer[:100])!r}")
        self._buffer += data
        self.heard_at = trio.current_time()

    def _take(self, size: int, behind: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: size + behind]
        return taken
