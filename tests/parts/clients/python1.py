"""The Python SDK 1.x as a client.

Usage: python1.py URL [--tool NAME --arguments JSON] [--state FILE] [--metadata-url URL]; TOKEN for a bearer.
"""

# A script for an environment of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from mcp import ClientSession, types
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.auth import OAuthClientMetadata
from mcp.shared.exceptions import McpError
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent
from python_login import FileStorage, RedirectListener

URL_ELICITATION_REQUIRED = -32042


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--tool")
    parser.add_argument("--arguments", type=json.loads, default={})
    parser.add_argument("--mode")
    parser.add_argument("--protocol", default=types.LATEST_PROTOCOL_VERSION)
    parser.add_argument("--answer", type=json.loads)
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--folder")  # it has this root, and says its name when it is asked for a sample
    parser.add_argument("--times", type=int, default=1)  # of the tool, all at once
    parser.add_argument("--links", action="store_true")  # a person opens what it prints as "OPEN URL"
    parser.add_argument("--state", type=Path)
    parser.add_argument("--metadata-url")
    asked = parser.parse_args()
    types.LATEST_PROTOCOL_VERSION = asked.protocol
    listener = RedirectListener()
    await listener.open()

    async def answer() -> tuple[str, str | None]:
        got = await listener.wait_answer()
        return got["code"], got.get("state")

    metadata = OAuthClientMetadata(
        client_name="Scripted Python SDK 1.x",
        redirect_uris=[listener.uri],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    token = os.environ.get("TOKEN")
    transport = streamablehttp_client(
        asked.url,
        headers={"Authorization": f"Bearer {token}"} if token else None,
        auth=None
        if token
        else OAuthClientProvider(
            asked.url,
            metadata,
            FileStorage(asked.state),
            listener.show,
            answer,
            client_metadata_url=asked.metadata_url,
        ),
    )
    progress: list[float] = []
    logs: list[Any] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    async def on_log(message: Any) -> None:
        logs.append(message.data)

    async def on_question(context: Any, params: Any) -> ElicitResult:
        if params.mode == "url":
            print("OPEN", params.url, flush=True)
            return ElicitResult(action="accept")
        return ElicitResult(action="accept", content=asked.answer)

    async def on_roots(context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=f"file:///{asked.folder}")])

    async def on_sample(context: Any, params: Any) -> CreateMessageResult:
        content = TextContent(type="text", text=asked.folder)
        return CreateMessageResult(role="assistant", content=content, model="scripted")

    async with (
        transport as (reader, writer, _),
        ClientSession(
            reader,
            writer,
            logging_callback=on_log,
            elicitation_callback=on_question if asked.answer or asked.links else None,
            list_roots_callback=on_roots if asked.folder else None,
            sampling_callback=on_sample if asked.folder else None,
        ) as session,
    ):
        opened = await session.initialize()
        tools, page = [], await session.list_tools()
        while True:
            tools += [tool.name for tool in page.tools]
            if page.nextCursor is None:
                break
            page = await session.list_tools(page.nextCursor)
        results = []

        async def call() -> None:
            while True:
                try:
                    called = await session.call_tool(asked.tool, asked.arguments, progress_callback=on_progress)
                    break
                except McpError as exc:
                    if exc.error.code != URL_ELICITATION_REQUIRED:
                        raise
                    print("OPEN", exc.error.data["elicitations"][0]["url"], flush=True)
                await asyncio.sleep(0.2)  # a person would say when they are back
            results.append(called.model_dump(mode="json", by_alias=True, exclude_none=True))

        if asked.tool:
            await asyncio.gather(*(call() for _ in range(asked.times)))
        read = None
        if asked.read:
            read = {"resources": {}, "templates": {}, "prompts": {}}
            for resource in (await session.list_resources()).resources:
                got = await session.read_resource(resource.uri)
                read["resources"][str(resource.uri)] = str(got.contents[0].uri)
            for template in (await session.list_resource_templates()).resourceTemplates:
                got = await session.read_resource(template.uriTemplate.replace("{id}", "7"))
                read["templates"][template.uriTemplate] = str(got.contents[0].uri)
            for prompt in (await session.list_prompts()).prompts:
                if prompt.name.endswith("simple_prompt"):
                    read["prompts"][prompt.name] = len((await session.get_prompt(prompt.name)).messages)
        found = {
            "protocol": opened.protocolVersion,
            "read": read,
            "tools": tools,
            "result": results[0] if results else None,
            "results": results,
            "progress": progress,
            "logs": logs,
        }
        print(json.dumps(found), flush=True)


asyncio.run(main())
