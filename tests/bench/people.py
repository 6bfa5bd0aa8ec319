"""Twenty people, each with an account of their own at each of fifty upstreams of fifty tools, all ready to list.

Their accounts are in a store that is filled before the server opens it; every
upstream shows each account something that nobody else may see.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from aggregator.protocol.principal import Principal
from aggregator.protocol.sealing import KeyRing
from aggregator.store import Connection
from aggregator.store.open import open_store

ISSUER = "http://127.0.0.1:9"
PEOPLE = tuple(f"person{number:02}" for number in range(20))
UPSTREAMS, TOOLS = 50, 50


def filled_store(stack: ExitStack, key: bytes) -> str:
    """The path of a store in which everybody is connected everywhere, for as long as `stack` is open."""
    path = str(Path(stack.enter_context(TemporaryDirectory()), "store.sqlite"))
    trio.run(_fill, path, key)
    return path


async def _fill(path: str, key: bytes) -> None:
    now = time.time()
    async with open_store(path, KeyRing([key]), issuer=ISSUER) as store:
        for person in PEOPLE:
            for number in range(UPSTREAMS):
                name = f"up{number}"
                token = f"{person}-at-{name}"
                row = Connection(
                    Principal(ISSUER, person), name, token, token, None, expires_at=now + 86400, issued_at=now
                )
                await store.save_connection(row)


def check_own(person: str, answer: bytes) -> None:
    """Whether the first page of this person's tools is whole, and shows nothing that is another's.

    Raises:
        SystemExit: if it is not.
    """
    tools = json.loads(answer)["result"]["tools"]
    owners = {tool["name"].partition("__of_")[2] for tool in tools} - {""}
    if len(tools) != 1000 or owners != {person}:
        raise SystemExit(f"{person} sees {len(tools)} tools, and those of {', '.join(sorted(owners)) or 'nobody'}")
