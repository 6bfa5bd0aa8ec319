"""systemd's two protocols, without a library: sockets that are passed to us, and what we tell about ourselves.

sd_listen_fds(3) and sd_notify(3). This file must not know what is served.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

import trio

from .serving import CannotListen

FIRST_PASSED = 3  # SD_LISTEN_FDS_START

log = logging.getLogger(__name__)


def take_sockets(environ: MutableMapping[str, str]) -> tuple[socket.socket, ...]:
    """The listening sockets that were passed to this process; none if there are none. Its children are told of none.

    Raises:
        CannotListen: if something was passed that nobody can connect to.
    """
    told = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"].isdigit():
        return ()
    sockets = []
    for number in range(FIRST_PASSED, FIRST_PASSED + int(told["LISTEN_FDS"])):
        os.set_inheritable(number, False)
        try:
            passed = socket.socket(fileno=number)
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as exc:
            raise CannotListen(f"descriptor {number}, which was passed to us, is no socket: {exc.strerror}") from exc
        if passed.type != socket.SOCK_STREAM or not listens:
            raise CannotListen(f"descriptor {number}, which was passed to us, takes no connections; use ListenStream=")
        sockets.append(passed)
    return tuple(sockets)


class Service:
    """The service manager that started us, if one did. What is told twice in a row is told once."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        pid, interval = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
        is_watched = bool(self._address) and interval.isdigit() and pid in ("", str(os.getpid()))
        self._interval = int(interval) / 1e6 if is_watched else None
        self._status = ""

    def __repr__(self) -> str:
        return f"<Service {self._address or 'without a manager'}>"

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._tell("READY=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def status(self, words: str) -> None:
        """One line for ``systemctl status``."""
        if words != self._status:
            self._status = words
            self._tell("STATUS=" + words.replace("\n", " "))

    async def feed_watchdog(self) -> None:
        """Say that we live, twice as often as is asked for, until cancelled; returns if nobody asks."""
        while self._interval:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._interval / 2)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # unix(7): the name of an abstract socket begins with a null byte, which systemd writes as @.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as teller:
                teller.sendto(state.encode(), address)
        except OSError as exc:
            log.warning("the service manager cannot be told %s: %s", state.partition("=")[0], exc)
