"""Asking the running daemon: where it is, from the configuration, and one request to its control.

This file must not know what is asked. The client is the standard library's, so
that asking costs no more than reading the configuration.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..config.model import LocalConfig

TIMEOUT = 10.0  # seconds; the daemon waits for no upstream before it answers


class NotRunning(Exception):
    """Nobody answers where the daemon should be."""


class Refused(Exception):
    """The daemon answers, and says no; the text says why."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where it listens: a socket's path, or a host and port. `base` is what stands before our paths."""

    base: str
    host: str
    port: int
    host_header: str
    socket: str | None = None
    token: str | None = None
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.socket if self.socket is not None else f"{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that it answers.

        Raises:
            NotRunning: if nobody is there, or who is there is somebody else.
            Refused: if it will not.
        """
        headers = {"Host": self.host_header, "Accept": "application/json", "Connection": "close"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = _Connection(self)
        try:
            connection.request(method, self.base + path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            raw = answer.read()
        except OSError as exc:
            raise NotRunning(f"nobody answers at {self} ({exc.strerror or exc})") from exc
        except http.client.HTTPException as exc:
            raise NotRunning(f"what answers at {self} speaks no HTTP ({type(exc).__name__})") from exc
        finally:
            connection.close()
        try:
            value = json.loads(raw)
        except ValueError:
            raise NotRunning(f"something else answers at {self} (HTTP status {answer.status})") from None
        if answer.status != 200:
            told = value.get("error_description") if isinstance(value, dict) else None
            raise Refused(str(told or f"HTTP status {answer.status}"))
        return value


class _Connection(http.client.HTTPConnection):
    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.host, daemon.port, timeout=TIMEOUT)
        self._daemon = daemon

    def connect(self) -> None:
        if self._daemon.socket is not None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(TIMEOUT)
            self.sock.connect(self._daemon.socket)
            return
        super().connect()
        if self._daemon.tls is not None:
            self.sock = self._daemon.tls.wrap_socket(self.sock, server_hostname=self._daemon.host)


def daemon_of(config: LocalConfig) -> Daemon:
    """The daemon that serves `config`. Blocks: reads the certificate, if there is one.

    Raises:
        NotRunning: if the configuration does not say where it is.
    """
    url = urlsplit(config.issuer_url)
    token = config.listen.token.reveal() if config.listen.token is not None else None
    if config.listen.transport == "stdio":
        raise NotRunning("with listen.transport 'stdio' it lives in its client, and nobody else can ask it")
    if config.listen.socket is not None:
        return Daemon(url.path, "localhost", 0, "localhost", socket=config.listen.socket, token=token)
    if config.port == 0:
        raise NotRunning("port 0 is another one at every start; give one that stays")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - any address is our own
    tls = None
    if config.tls is not None:
        tls = ssl.create_default_context(cafile=config.tls.cert_file)
        tls.check_hostname = False  # it is the very certificate that we serve
    return Daemon(url.path, host, config.port, url.netloc, token=token, tls=tls)
