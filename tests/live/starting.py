"""Starting the probe as a process in each of the ways, and speaking raw HTTP/1.1 to it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.parts.processes import LOOK_AGAIN, PATIENCE

WAYS = ("serve", "command")
COMMAND = ("-m", "hypercorn", "-k", "trio", "-w", "0", "-b", "127.0.0.1:0")


class Running:
    """A probe process that accepts connections; what it wrote to stderr collects in `lines`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._address = threading.Event()
        self._port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._address.wait(PATIENCE) or not self._port:
            raise AssertionError(f"no address; exit code {process.poll()}:\n{self.stderr}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self._port = int(found[1])
                self._address.set()
        self._address.set()

    @property
    def stderr(self) -> str:
        return "".join(self.lines)

    def connect(self, *, buffer: int | None = None) -> socket.socket:
        """A connection with a deadline on everything; a small `buffer` makes a reader that stalls soon."""
        client = socket.socket()
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self._port))
        return client

    def ask(self, raw: bytes) -> bytes:
        """Send `raw` and return everything up to the end of the connection."""
        with self.connect() as client:
            client.sendall(raw)
            return until_end(client)

    def get(self, path: str) -> bytes:
        return self.ask(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    def is_well(self) -> bool:
        """The process runs and answers others."""
        try:
            return self.get("/well").startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def wait_alive(self, expected: int, seconds: float = PATIENCE) -> int:
        """How many requests have not ended, once it is `expected` or the time is over."""
        end = time.monotonic() + seconds
        while (found := int(self.get("/alive").rpartition(b"\r\n")[2])) != expected and time.monotonic() < end:
            time.sleep(LOOK_AGAIN)
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_exit(self, seconds: float = PATIENCE) -> int | None:
        """The exit code, or None when the process still runs after `seconds`."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(PATIENCE)
        return code


def until_end(client: socket.socket) -> bytes:
    """All bytes up to the end of the stream; a reset counts as the end, a silence of the socket's timeout does not."""
    found = b""
    try:
        while data := client.recv(65536):
            found += data
    except ConnectionError:
        pass
    return found


def read_answer(client: socket.socket) -> bytes:
    """One answer that tells its length, and no byte of the next."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += _some(client, 1)
    length = int(re.findall(rb"(?i)content-length: (\d+)", found)[0])
    body = b""
    while len(body) < length:
        body += _some(client, length - len(body))
    return found + body


def _some(client: socket.socket, most: int) -> bytes:
    data = client.recv(most)
    assert data, "the connection ended within an answer"
    return data


def arguments(way: str) -> tuple[str, ...]:
    match way:
        case "command" | "reaping":
            keep_alive = "1" if way == "reaping" else "100"  # seconds
            return (*COMMAND, "--keep-alive", keep_alive, "tests.live.probe:make_command()")
        case "lonely":
            return (*COMMAND, "tests.live.probe:lonely")
        case _:
            return ("-m", "tests.live.probe", way)


@contextmanager
def start(way: str, **environment: str) -> Iterator[Running]:
    """The probe in one `way`: ``bare``, ``lonely``, ``serve``, ``command`` or ``reaping``. Killed at the end."""
    process = launch(*arguments(way), **environment)
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


def launch(*args: str, **environment: str) -> subprocess.Popen[str]:
    settings = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    return subprocess.Popen([sys.executable, *args], stderr=subprocess.PIPE, text=True, env=settings)
