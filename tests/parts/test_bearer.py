"""The bearer that is lent to a program that has none goes to one origin, whichever way the program sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from .install import PARTS, node_package, node_path
from .processes import PATIENCE, open_process

pytestmark = pytest.mark.live

SENDERS = """
import http from 'node:http';
const [undici, ...urls] = process.argv.slice(1);
const { request } = await import(undici);
for (const url of urls) {
  await (await fetch(url, { headers: { 'x-sender': 'fetch' } })).text();
  await (await request(url, { headers: { 'x-sender': 'undici' } })).body.text();
  const { hostname, port, pathname: path } = new URL(url);
  await new Promise((done) => http.request({ hostname, port, path, headers: { 'x-sender': 'http' } }, done).end());
}
process.exit();
"""


@asynccontextmanager
async def open_listener() -> AsyncIterator[tuple[str, dict[str, str | None]]]:
    """Yields an origin, and who sent which authorization to it."""
    seen: dict[str, str | None] = {}

    async def answer(stream: trio.SocketStream) -> None:
        async for data in stream:
            lines = (line.partition(": ") for line in bytes(data).decode().splitlines())
            headers = {name.lower(): value for name, _, value in lines}
            seen[headers["x-sender"]] = headers.get("authorization")
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", seen
        nursery.cancel_scope.cancel()


async def test_a_lent_bearer_reaches_its_origin_and_no_other() -> None:
    preload = (PARTS / "clients" / "bearer.mjs").as_uri()
    undici = node_package("undici/index.js").as_uri()
    async with open_listener() as (ours, at_ours), open_listener() as (other, at_other):
        command = [str(node_path()), "--import", preload, "--input-type=module", "-e", SENDERS, undici, ours, other]
        environment = {"BEARER": "lent", "BEARER_ORIGIN": ours}
        async with open_process("three senders", command, env=environment) as process:
            with trio.fail_after(PATIENCE):
                assert await process.process.wait() == 0, process.output()
    assert at_ours == dict.fromkeys(("fetch", "undici", "http"), "Bearer lent")
    assert at_other == dict.fromkeys(("fetch", "undici", "http"))
