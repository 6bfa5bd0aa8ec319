"""The Python SDK 2.x as a client.

Usage: python2.py URL [--tool NAME --arguments JSON] [--mode legacy|2026] [--state FILE] [--metadata-url URL]; TOKEN
for a bearer.
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

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from mcp.shared.exceptions import MCPError
from mcp_types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent
from pydantic import AnyUrl
from python_login import FileStorage, RedirectListener

URL_ELICITATION_REQUIRED = -32042


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--tool")
    parser.add_argument("--arguments", type=json.loads, default={})
    parser.add_argument("--mode", choices=["legacy", "2026"], default="2026")
    parser.add_argument("--answer", type=json.loads)
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--folder")  # it has this root, and says its name when it is asked for a sample
    parser.add_argument("--times", type=int, default=1)  # of the tool, all at once
    parser.add_argument("--links", action="store_true")  # a person opens what it prints as "OPEN URL"
    parser.add_argument("--state", type=Path)
    parser.add_argument("--metadata-url")
    asked = parser.parse_args()
    listener = RedirectListener()
    await listener.open()

    async def answer() -> AuthorizationCodeResult:
        got = await listener.wait_answer()
        return AuthorizationCodeResult(code=got["code"], state=got.get("state"), iss=got.get("iss"))

    metadata = OAuthClientMetadata(
        client_name="Scripted Python SDK 2.x",
        redirect_uris=[AnyUrl(listener.uri)],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    token = os.environ.get("TOKEN")
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

    login = OAuthClientProvider(
        asked.url,
        metadata,
        FileStorage(asked.state),
        listener.show,
        answer,
        client_metadata_url=asked.metadata_url,
    )
    http = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {token}"} if token else {}, auth=None if token else login, timeout=60
    )
    async with (
        http,
        Client(
            streamable_http_client(asked.url, http_client=http),
            mode="legacy" if asked.mode == "legacy" else "auto",
            logging_callback=on_log,
            log_level="debug",
            elicitation_callback=on_question if asked.answer or asked.links else None,
            list_roots_callback=on_roots if asked.folder else None,
            sampling_callback=on_sample if asked.folder else None,
        ) as client,
    ):
        tools, page = [], await client.list_tools()
        while True:
            tools += [tool.name for tool in page.tools]
            if page.next_cursor is None:
                break
            page = await client.list_tools(cursor=page.next_cursor)
        results = []

        async def call() -> None:
            while True:
                try:
                    called = await client.call_tool(asked.tool, asked.arguments, progress_callback=on_progress)
                    break
                except MCPError as exc:
                    if exc.error.code != URL_ELICITATION_REQUIRED:
                        raise
                    print("OPEN", exc.error.data["elicitations"][0]["url"], flush=True)
                await asyncio.sleep(0.2)  # a person would say when they are back
            results.append(called.model_dump(mode="json", by_alias=True, exclude_none=True))

        if asked.tool:
            await asyncio.gather(*(call() for _ in range(asked.times)))
        read: dict[str, dict[str, Any]] | None = None
        if asked.read:
            read = {"resources": {}, "templates": {}, "prompts": {}}
            for resource in (await client.list_resources()).resources:
                got = await client.read_resource(str(resource.uri))
                read["resources"][str(resource.uri)] = str(got.contents[0].uri)
            for template in (await client.list_resource_templates()).resource_templates:
                got = await client.read_resource(template.uri_template.replace("{id}", "7"))
                read["templates"][template.uri_template] = str(got.contents[0].uri)
            for prompt in (await client.list_prompts()).prompts:
                if prompt.name.endswith("simple_prompt"):
                    read["prompts"][prompt.name] = len((await client.get_prompt(prompt.name)).messages)
        found = {
            "protocol": client.protocol_version,
            "read": read,
            "tools": tools,
            "result": results[0] if results else None,
            "results": results,
            "progress": progress,
            "logs": logs,
        }
        print(json.dumps(found), flush=True)


asyncio.run(main())
