"""Clients of authorization servers whose id or secret a program prints: run once, kept until the server refuses it.

What comes of it is the upstream as if both had been configured. This file must
not know OAuth beyond that there is a client.
"""

from __future__ import annotations

import os
from dataclasses import replace
from weakref import WeakValueDictionary

import trio

from ...config.model import Secret, Upstream
from ...errors import ConnectFailed, UpstreamLost
from ..commands.child import Command, StartChild, open_child
from ..commands.child_environment import FOR_HELPERS, child_environment
from ..commands.program_output import printed_by

_Key = tuple[str, tuple[str, ...], tuple[str, ...]]  # the upstream, and how its client's id and secret are printed


class ClientPrograms:
    """Needs no task of its own: the first who asks for a client runs its programs, the others wait for that."""

    def __init__(self, start: StartChild = open_child) -> None:
        self._start = start
        self._kept: dict[_Key, tuple[str | None, str | None]] = {}
        self._locks: WeakValueDictionary[_Key, trio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<ClientPrograms [{len(self._kept)} kept]>"

    async def filled(self, upstream: Upstream) -> Upstream:
        """`upstream` with the client that its programs print; itself if there are none.

        Raises:
            ConnectFailed: if a program fails.
        """
        key = _key(upstream)
        if key is None:
            return upstream
        _, id_command, secret_command = key
        lock = self._locks.setdefault(key, trio.Lock())
        async with lock:
            printed = self._kept.get(key)
            if printed is None:
                printed = await self._run(upstream, id_command), await self._run(upstream, secret_command)
                self._kept[key] = printed
        client_id, secret = printed
        account = upstream.account
        if client_id is not None:
            account = replace(account, client_id=client_id)
        if secret is not None:
            account = replace(account, client_secret=Secret(secret))
        return replace(upstream, account=account)

    def forget(self, upstream: Upstream) -> None:
        """The server refused this client: the programs run again for the next who asks."""
        key = _key(upstream)
        if key is not None:
            self._kept.pop(key, None)

    async def _run(self, upstream: Upstream, argv: tuple[str, ...]) -> str | None:
        if not argv:
            return None
        command = Command(argv, child_environment(os.environ, FOR_HELPERS, {}))
        what = f"program {command.name} of upstream {upstream.name}"
        try:
            return (await printed_by(command, what, start=self._start)).decode("ascii")
        except UpstreamLost as exc:
            told = f"the program {command.name}, which is to print the client's id or secret, {exc}"
            raise ConnectFailed(told, temporary=True) from exc


def _key(upstream: Upstream) -> _Key | None:
    login = upstream.browser_login
    if login is None or not (login.client_id_command or login.client_secret_command):
        return None
    return upstream.name, login.client_id_command, login.client_secret_command
