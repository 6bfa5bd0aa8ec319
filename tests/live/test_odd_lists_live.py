"""Real clients list what a good upstream has, beside one whose every item has a field that no client can read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.parts.scripted_clients import Kind, Mode, run_client
from tests.parts.servers import open_python_server

from .asking import bearer_for
from .deployment import open_deployment
from .faulty import open_faulty

pytestmark = pytest.mark.live

Json = dict[str, Any]
NOBODY_LOGS_IN = "http://127.0.0.1:9"
CLIENTS: list[tuple[Kind, Mode]] = [
    ("python1", "legacy"),
    ("python2", "2026"),
    ("typescript1", "legacy"),
    ("typescript2", "legacy"),
    ("typescript2", "2026"),
]
ODD_TOOLS: Json = {
    "nothing": {"annotations": None, "icons": None, "_meta": None, "outputSchema": None, "execution": None},
    "php": {"inputSchema": {"type": "object", "properties": []}, "annotations": [], "_meta": []},
    "untyped": {"inputSchema": {}},
    "either": {"inputSchema": {"type": ["object", "null"], "required": None}},
    "booleans": {"inputSchema": {"type": "object", "properties": {"a": True, "b": None}}},
    "icons": {"icons": ["x", {"src": "data:,", "sizes": "48x48", "theme": "blue"}]},
    "hints": {"annotations": {"readOnlyHint": "yes"}},
    "answers": {"outputSchema": {"type": "array"}},
}
RESULTS: Json = {
    "server/discover": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
    },
    "tools/list": {
        "tools": [{"name": name, "inputSchema": {"type": "object"}, **odd} for name, odd in ODD_TOOLS.items()]
    },
    "prompts/list": {
        "prompts": [{"name": "p", "arguments": {}, "description": None}, {"name": "q", "arguments": [{}]}]
    },
    "resources/list": {
        "resources": [
            {"uri": "odd://r", "name": None, "mimeType": None, "size": "1", "annotations": []},
            {"uri": "ssh://git@host:owner/name", "name": "no URL"},
        ]
    },
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "odd://t/{id}", "icons": None, "_meta": None}]},
    "resources/read": {"contents": [{"uri": "odd://r", "text": "read"}]},
}


async def be_odd(stream: trio.SocketStream) -> None:
    """A server of 2026-07-28 that answers one request with whatever `RESULTS` has."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        received += await stream.receive_some()
    message = json.loads(received.partition(b"\r\n\r\n")[2])
    result = {"resultType": "complete", **RESULTS[message["method"]]}
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    await stream.send_all(head.encode() + body)


async def test_no_client_loses_its_lists_for_a_field_of_the_wrong_kind() -> None:
    async with open_python_server() as good, open_faulty({"odd": be_odd}) as odd:
        upstreams = {"good": good, **odd}
        async with open_deployment(upstreams, issuer=NOBODY_LOGS_IN) as deployment:
            token = bearer_for(deployment.url)
            for kind, mode in CLIENTS:
                run = await run_client(kind, deployment.mcp, mode=mode, token=token, read=True)
                assert {"good__echo", *(f"odd__{name}" for name in ODD_TOOLS)} <= set(run.tools), (kind, mode)
                assert run.read is not None
                assert set(run.read["resources"]) == {"odd://r", "ssh://odd.gateway/git@host:owner/name"}, (kind, mode)
                assert "odd://t/{id}" in run.read["templates"], (kind, mode)
