"""A server on the Python SDK 1.x, run as a script in an environment that has it; prints ``listening URL``.

Usage: python1.py [PORT [PAGES [1]]], or python1.py stdio. Revisions up to 2025-11-25, with sessions, or without them
(1). `wait` ends only when it is cancelled or its time is over, and `endings` tells which of the two each `wait` came
to. With PAGES, the list of tools comes in so many pages of 300.
"""

# A script for an environment of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import socket
import sys

import anyio
import uvicorn
from mcp import types
from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

PAGE = 300

server = FastMCP("python1")
endings: list[str] = []
surveys: list[anyio.Event] = []  # one for each that waits until enough run


@server.tool()
async def echo(message: str) -> str:
    """Says it again."""
    return f"Echo: {message}"


@server.tool()
async def wait(label: str, seconds: float = 600.0) -> str:
    """Waits; what became of it can be asked for with `endings`."""
    endings.append(f"{label}: started")
    try:
        await anyio.sleep(seconds)
    except anyio.get_cancelled_exc_class():
        endings.append(f"{label}: cancelled")
        raise
    endings.append(f"{label}: finished")
    return label


class Name(BaseModel):
    name: str


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks for a name, then greets."""
    answer = await ctx.elicit("What is your name?", Name)
    return f"Hello, {answer.data.name}!" if answer.action == "accept" else f"they {answer.action}"


@server.tool()
async def ask_beside(ctx: Context) -> str:
    """The same, on the stream of the session, where this SDK sends whatever it is not told to send elsewhere."""
    answer = await ctx.session.elicit("What is your name?", Name.model_json_schema())
    return f"Hello, {answer.content['name']}!" if answer.action == "accept" else f"they {answer.action}"


@server.tool()
async def survey(ctx: Context, together: int = 1) -> str:
    """Asks for roots and a sample, on the stream of the session, once so many of its calls run."""
    surveys.append(complete := anyio.Event())
    if len(surveys) >= together:
        for waiting in surveys:
            waiting.set()
        surveys.clear()
    await complete.wait()
    (root,) = (await ctx.session.list_roots()).roots
    text = types.TextContent(type="text", text="Where are you?")
    sample = await ctx.session.create_message([types.SamplingMessage(role="user", content=text)], max_tokens=10)
    return f"{root.uri} {sample.content.text}"


@server.tool(name="endings")
async def tell_endings() -> list[str]:
    """What became of every `wait`."""
    return endings


def list_in_pages(pages: int) -> None:
    async def list_page(request: types.ListToolsRequest) -> types.ServerResult:
        page = int(request.params.cursor) if request.params and request.params.cursor else 0
        tools = [
            types.Tool(name=f"tool_{number:04}", description=f"Number {number}", inputSchema={"type": "object"})
            for number in range(page * PAGE, (page + 1) * PAGE)
        ]
        following = str(page + 1) if page + 1 < pages else None
        return types.ServerResult(types.ListToolsResult(tools=tools, nextCursor=following))

    server._mcp_server.request_handlers[types.ListToolsRequest] = list_page


def main(port: int, pages: int, stateless: int) -> None:
    server.settings.stateless_http = bool(stateless)
    if pages:
        list_in_pages(pages)
    listener = socket.create_server(("127.0.0.1", port))
    print(f"listening http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__" and sys.argv[1:] == ["stdio"]:
    server.run("stdio")
elif __name__ == "__main__":
    main(*(int(given) for given in (*sys.argv[1:], "0", "0", "0")[:3]))
