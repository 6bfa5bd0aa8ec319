"""One of several processes on one SQLite file: asks what it is told to ask, prints a JSON line of answers.

Waits for a line on standard input between opening and asking, so that all ask at once.
"""

from __future__ import annotations

import json
import sys

import trio

from aggregator.store import Rotated
from aggregator.store.sqlite import open_sqlite_store

from .samples import DAY, ISSUER, NOW, keys

CODES = 40


async def contend(path: str, what: str) -> list[object]:
    async with open_sqlite_store(path, keys(), issuer=ISSUER) as store:
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        match what:
            case "redeem":
                return [
                    type(
                        await store.redeem(
                            f"code-{number}",
                            f"g{number}",
                            now=NOW,
                            expires_at=NOW + 60,
                            grant_until=NOW + DAY,
                        )
                    ).__name__
                    for number in range(CODES)
                ]
            case "rotate":
                outcomes = [await store.rotate(f"g{number}", 0, now=NOW) for number in range(CODES)]
                return [
                    [outcome.again, outcome.grant.generation] if isinstance(outcome, Rotated) else None
                    for outcome in outcomes
                ]
            case "check":
                return [
                    await store.take_login_check(f"g{number}", now=NOW, next_check_at=NOW + 300) is not None
                    for number in range(CODES)
                ]
            case "consume":
                return [await store.consume(f"t{number}", expires_at=NOW) for number in range(CODES)]
            case _:
                raise ValueError(what)


if __name__ == "__main__":
    print(json.dumps(trio.run(contend, sys.argv[1], sys.argv[2])))
