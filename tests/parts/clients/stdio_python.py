"""The Python SDK, 1.x or 2.x, as a client that starts its server.

Usage: stdio_python.py MODE TOOL ARGUMENTS COMMAND...
It lists tools until those that the variable NEEDED names are there: on a slow machine some come late.
"""

# A script for environments of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import os
import sys

from mcp.client.stdio import StdioServerParameters, stdio_client


async def main() -> None:
    mode, tool, arguments, *command = sys.argv[1:]
    server = stdio_client(StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ)))
    try:
        from mcp.client.client import Client
    except ImportError:
        from mcp import ClientSession

        async with server as (reader, writer), ClientSession(reader, writer) as session:
            protocol = (await session.initialize()).protocolVersion
            tools = await list_all(session.list_tools, "nextCursor")
            called = await session.call_tool(tool, json.loads(arguments))
    else:
        async with Client(server, mode="legacy" if mode == "legacy" else "auto") as client:
            protocol = client.protocol_version
            tools = await list_all(client.list_tools, "next_cursor")
            called = await client.call_tool(tool, json.loads(arguments))
    result = called.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps({"protocol": protocol, "tools": tools, "result": result}), flush=True)


async def list_all(list_page, following) -> list[str]:
    needed = set(os.environ.get("NEEDED", "").split())
    while True:
        tools, page = [], await list_page()
        while True:
            tools += [each.name for each in page.tools]
            if getattr(page, following) is None:
                break
            page = await list_page(cursor=getattr(page, following))
        if needed <= set(tools):
            return tools
        await asyncio.sleep(0.3)


asyncio.run(main())
