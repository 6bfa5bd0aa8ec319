"""A service manager holds the socket, as systemd does: a restart refuses no connection, and it is told how we do."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE, wait_until
from tests.parts.servers import open_fastmcp_server

from .asking import Asking, text_of
from .test_one_account_live import issued, log_in

pytestmark = pytest.mark.live

SCRIPT = str(Path(__file__).parent.parent / "fakes" / "stdio_server.py")

# What systemd does between fork and exec: sd_listen_fds(3), "LISTEN_PID" is the process that the sockets are for.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "aggregator", "serve", "-c", sys.argv[2]])
"""


class Manager:
    """Holds the listening socket, starts the service, and hears what it tells."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.told: list[str] = []  # by the process that was started last
        self.config = folder / "c.json"
        self._listener = listener
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind(str(folder / "notify"))
        self._environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "2000000",
        }

    async def start(self, nursery: trio.Nursery) -> trio.Process:
        number = self._listener.fileno()
        self._hear()  # the last words of the one before
        self.told = []
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-c", EXEC, str(number), str(self.config)],
                pass_fds=[number],
                env=self._environ,
                check=False,
            )
        )
        return process

    async def restart(self, process: trio.Process, nursery: trio.Nursery) -> trio.Process:
        """As `systemctl restart` does: the next one starts when this one has ended."""
        process.send_signal(signal.SIGTERM)
        await self.wait_told("STOPPING=1")
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        process = await self.start(nursery)
        await self.wait_told("READY=1")
        return process

    async def wait_told(self, wanted: str) -> None:
        with trio.fail_after(PATIENCE):
            while not any(text.startswith(wanted) for text in self.told):
                await trio.lowlevel.wait_readable(self._notify)
                self._hear()

    def _hear(self) -> None:
        try:
            while True:
                self.told.append(self._notify.recv(4096).decode())
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._notify.close()


@asynccontextmanager
async def open_manager(folder: Path, family: str, *more: dict[str, Any]) -> AsyncIterator[tuple[Manager, Any]]:
    """`more` are upstreams besides `good`."""
    where: Any = ("127.0.0.1", 0) if family == "tcp" else str(folder / "mcp.sock")
    with socket.create_server(where, family=socket.AF_INET if family == "tcp" else socket.AF_UNIX) as listener:
        manager = Manager(folder, listener)
        program = {"name": "good", "command": [sys.executable, "-I", "-S", SCRIPT, "modern"]}
        # The port of the configuration is another one: that of the socket counts.
        settings = {"port": 1, "storage": str(folder / "s.sqlite"), "upstreams": [program, *more]}
        manager.config.write_text(json.dumps(settings))
        try:
            yield manager, listener.getsockname()
        finally:
            manager.close()


async def ask(address: Any) -> bytes:
    """One request on a connection of its own."""
    if isinstance(address, str):
        stream: trio.SocketStream = await trio.open_unix_socket(address)
        host = "localhost"
    else:
        stream = await trio.open_tcp_stream(*address)
        host = f"localhost:{address[1]}"
    async with stream:
        await stream.send_all(f"GET /control/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


async def wait_more(answers: Sized) -> None:
    """Until there are some that had not been begun yet."""
    enough = len(answers) + 4
    await wait_until(lambda: len(answers) >= enough)


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_restart_refuses_no_connection(family: str, tmp_path: Path) -> None:
    async with open_manager(tmp_path, family) as (manager, address), trio.open_nursery() as nursery:
        answers: list[bytes] = []
        finished = False

        async def keep_asking() -> None:
            while not finished:
                with trio.fail_after(PATIENCE):
                    answers.append(await ask(address))
                await trio.sleep(0.01)

        process = await manager.start(nursery)
        await manager.wait_told("READY=1")
        await manager.wait_told("WATCHDOG=1")
        async with trio.open_nursery() as asking:
            asking.start_soon(keep_asking)
            asking.start_soon(keep_asking)
            for _ in range(2):
                await wait_more(answers)
                process = await manager.restart(process, nursery)
                await wait_more(answers)
            finished = True
        await manager.wait_told("STATUS=1 of 1 upstreams")
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 "}, "each was answered, late perhaps"


async def test_a_login_outlives_restarts_while_a_client_keeps_calling(tmp_path: Path) -> None:
    async with open_fastmcp_server() as endpoint:
        mail = {"name": "mail", "url": endpoint, "auth": {"type": "oauth", "openBrowser": False}}
        async with open_manager(tmp_path, "tcp", mail) as (manager, (_, port)), trio.open_nursery() as nursery:
            url, told = f"http://localhost:{port}", list[str]()
            finished = False

            async def keep_calling() -> None:
                while not finished:
                    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:  # a connection of its own
                        told.append(text_of(await Asking(f"{url}/mcp", "nothing", http).call("mail__whoami")))

            process = await manager.start(nursery)
            await manager.wait_told("READY=1")
            await log_in(f"{url}/connect/mail", f"{url}/upstream-auth/callback/mail")
            async with trio.open_nursery() as calling:
                calling.start_soon(keep_calling)
                calling.start_soon(keep_calling)
                for _ in range(2):
                    await wait_more(told)
                    process = await manager.restart(process, nursery)
                    await wait_more(told)
                finished = True
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE):
                assert await process.wait() == 0
        assert set(told) == {"ada"}, "nobody was refused, and nobody asked to log in"
        assert issued(endpoint)["code"] == 1
