"""An upstream that goes back to an older revision between two calls: the next call finds out, and runs once."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from aggregator.errors import UpstreamRefused
from aggregator.protocol.jsonrpc import Failure, Notice, Success
from aggregator.protocol.revisions import STATELESS
from aggregator.protocol.translate import Envelope
from aggregator.upstream.http.upstream import HttpUpstream
from aggregator.upstream.peers import Answered, Outgoing

from ...fakes.mcp_server import LEGACY, MODERN, FakeServer, Incoming, Raw

IDENTITY = {"name": "mcp-aggregator", "version": "1"}


async def ignore(notice: Notice) -> None: ...


async def call(upstream: HttpUpstream) -> Answered:
    params = {"name": "echo", "arguments": {}}
    return await upstream.request(Outgoing("tools/call", params, Envelope(STATELESS, {}), "alice"), ignore)


def refusing(status: int, body: Any) -> Any:
    async def script(incoming: Incoming) -> Raw:
        return Raw(status, chunks=[json.dumps(body).encode()])

    return script


# What servers of the SDKs before 2026-07-28 say to a request without a session.
OLD_WORDS = {
    "typescript": (400, {"code": -32000, "message": "Bad Request: No valid session ID provided"}, None),
    "python": (400, {"code": -32600, "message": "Bad Request: Missing session ID"}, "server-error"),
    "version": (400, {"code": -32000, "message": "Bad Request: Unsupported protocol version: 2026-07-28"}, None),
    "elsewhere": (404, {"error": "not here"}, None),
}


@pytest.mark.parametrize("case", OLD_WORDS)
async def test_the_next_call_finds_out_and_runs_once(case: str) -> None:
    status, error, id = OLD_WORDS[case]
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, MODERN)
        server.tool("echo")
        upstream = HttpUpstream("up", server, IDENTITY, nursery)
        assert (await call(upstream)).revision == MODERN
        server.restart(LEGACY)

        async def refuse_once(incoming: Incoming) -> Raw:
            del server.scripts["tools/call"]
            return Raw(status, chunks=[json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode()])

        server.scripts["tools/call"] = refuse_once
        answered = await call(upstream)
        assert answered.revision == LEGACY
        assert isinstance(answered.outcome, Success)
        assert len(server.calls()) == 3
        nursery.cancel_scope.cancel()


async def test_a_refusal_of_an_upstream_that_is_as_new_as_before_is_passed_on_and_nothing_is_sent_again() -> None:
    async with trio.open_nursery() as nursery:
        server = FakeServer(nursery, MODERN)
        server.tool("echo")
        upstream = HttpUpstream("up", server, IDENTITY, nursery)
        await call(upstream)
        server.scripts["tools/call"] = refusing(404, {"not": "found"})
        with pytest.raises(UpstreamRefused, match="HTTP 404"):
            await call(upstream)
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "no"}}
        server.scripts["tools/call"] = refusing(400, error)
        outcome = (await call(upstream)).outcome
        assert isinstance(outcome, Failure)
        assert outcome.message == "no"
        assert len(server.calls()) == 3
        nursery.cancel_scope.cancel()
