"""One of several processes that refresh the same person's token: the real store and OAuth client, over loopback.

Takes a JSON object of `path`, `port`, `calls`, `ahead` (seconds by which its wall clock is ahead) and `fail_at`, the
point at which it is to die by SIGKILL. Waits for a line on standard input between opening and calling, so that all
call at once. Prints a JSON line: what each call got, and how often it was told to call again.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import time
from typing import Any

import trio

from aggregator.config.model import Account, Auth, Config, Upstream
from aggregator.errors import ConnectNeeded, UpstreamLost
from aggregator.store import Store
from aggregator.store.sqlite import open_sqlite_store
from aggregator.upstream.accounts.connections import open_connections
from aggregator.upstream.accounts.personal_credentials import PersonalCredentials
from aggregator.upstream.oauth.client import open_oauth_client

from ...store.samples import keys
from ..token_server import token_of

FAIL_POINTS = ["before lease", "after lease", "before send", "after answer", "before commit", "after commit"]
AROUND = {"take_refresh": ("before lease", "after lease"), "renew_connection": ("before commit", "after commit")}
PATIENCE = 30.0  # seconds in all


def upstream_at(port: int) -> Upstream:
    account = Account(client_id="our-id", authorization_server=f"http://127.0.0.1:{port}")
    return Upstream("gmail", f"http://127.0.0.1:{port}/mcp", "gmail", account=account)


class Mortal:
    """Passes everything on to the real thing, and dies before or after one of its calls."""

    def __init__(self, real: Any, around: dict[str, tuple[str, str]], fail_at: str | None) -> None:
        self._real = real
        self._around = around
        self._fail_at = fail_at

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in self._around:
            return method
        before, after = self._around[name]

        async def call(*args: Any, **more: Any) -> Any:
            self._reached(before)
            answer = await method(*args, **more)
            self._reached(after)
            return answer

        return call

    def _reached(self, point: str) -> None:
        if point == self._fail_at:
            os.kill(os.getpid(), signal.SIGKILL)


async def run(path: str, port: int, calls: int, ahead: float = 0.0, fail_at: str | None = None) -> dict[str, Any]:
    upstream = upstream_at(port)
    config = Config(Auth("https://idp.example"), (upstream,), f"http://localhost:{port}")
    context = ssl.create_default_context()
    got: list[str] = []
    told = 0

    def clock() -> float:
        return time.time() + ahead

    async def call(credentials: PersonalCredentials) -> None:
        nonlocal told
        while True:
            try:
                got.append(await token_of(credentials))
            except ConnectNeeded as exc:
                got.append(f"asked to log in: {exc}")
            except UpstreamLost:
                told += 1
                await trio.sleep(0.5)
                continue
            return

    store: Store
    async with (
        open_sqlite_store(path, keys()) as store,
        open_oauth_client(config, store, public=context, own=context, clock=clock) as oauth,
        open_connections(
            Mortal(store, AROUND, fail_at),
            Mortal(oauth, {"refresh": ("before send", "after answer")}, fail_at),
            [upstream],
            clock=clock,
        ) as connections,
    ):
        credentials = PersonalCredentials(upstream, connections, clock)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(calls):
                    nursery.start_soon(call, credentials)
            for _ in range(3 if calls == 1 else 0):  # again: it must not ask in a circle
                await call(credentials)
    return {"got": got, "told": told}


async def main() -> dict[str, Any]:
    return await run(**json.loads(sys.argv[1]))


if __name__ == "__main__":
    print(json.dumps(trio.run(main)))
