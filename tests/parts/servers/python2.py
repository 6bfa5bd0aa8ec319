"""A server on the Python SDK 2.x, run as a script; prints ``listening URL``. Usage: python2.py [PORT].

`count` reports progress and logs; `wait` ends only when it is cancelled, its
time is over or `release` was called, and `endings` tells what each `wait` came to.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("python2", version="1.0.0")
endings: list[str] = []
released = asyncio.Event()


@server.tool()
async def echo(message: str) -> str:
    """Says it again."""
    return f"Echo: {message}"


@server.tool()
async def count(to: int, ctx: Context, pause: float = 0.0) -> str:
    """Counts, reporting progress and logging each number."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"{number} of {to}")
        await ctx.info(f"counted {number}")
        await asyncio.sleep(pause)
    return f"counted to {to}"


@server.tool()
async def wait(label: str, seconds: float = 600.0) -> str:
    """Waits; what became of it can be asked for with `endings`."""
    endings.append(f"{label}: started")
    try:
        await asyncio.wait_for(released.wait(), seconds)
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        endings.append(f"{label}: cancelled")
        raise
    endings.append(f"{label}: finished")
    return label


@server.tool()
async def release() -> str:
    """Ends every `wait` as if its time were over."""
    released.set()
    return "released"


@server.tool(name="endings")
async def tell_endings() -> list[str]:
    """What became of every `wait`."""
    return endings


def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    print(f"listening http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
