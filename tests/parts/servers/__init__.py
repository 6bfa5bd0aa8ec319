"""Real servers, each for the length of a block, on a loopback port of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

from ..install import fastmcp_python, node_package, node_path, sdk1_python
from ..processes import free_port, open_process

HERE = Path(__file__).parent

# What the identity provider of `open_oidc_provider` knows. The secret needs encoding in HTTP Basic, on purpose.
CLIENT_SECRET: Final = "a secret/with:odd+chars%41"
BASIC, POST, PUBLIC = "client-basic", "client-post", "client-public"


@asynccontextmanager
async def open_oidc_provider(
    *redirect_uris: str,
    port: int = 0,
    path: str = "",
    lean_id_token: bool = False,
    post_only: bool = False,
    clients: Sequence[Mapping[str, Any]] = (),
    refresh_tokens: bool = False,
    resources: bool = False,
) -> AsyncIterator[str]:
    """The certified npm ``oidc-provider``; yields its issuer URL.

    Clients `BASIC`, `POST` and `PUBLIC` may use `redirect_uris`; ``client-<alg>`` (PS256, ES256, EdDSA, HS256)
    get ID tokens signed so; `clients` adds more, in the provider's own words. Users are any name with any password;
    alice (verified address, groups eng and admin) and bob (unverified, sales) have claims.
    `path` makes an issuer like Keycloak's; `lean_id_token` leaves claims of scopes to userinfo;
    `post_only` offers no HTTP Basic in the metadata; `refresh_tokens` gives one with every login. With `resources` it
    is an authorization server for MCP servers: clients register themselves, tokens are JWTs for the asked resource.
    """
    options = {
        "port": port,
        "path": path,
        "redirectUris": redirect_uris,
        "lean": lean_id_token,
        "postOnly": post_only,
        "secret": CLIENT_SECRET,
        "clients": list(clients),
        "refreshTokens": refresh_tokens,
        "resources": resources,
    }
    command = [str(node_path()), str(HERE / "op.mjs"), json.dumps(options)]
    async with open_process("oidc-provider", command) as process:
        yield (await process.wait_output(r"issuer (\S+)"))[1]


@asynccontextmanager
async def open_everything(port: int = 0) -> AsyncIterator[str]:
    """``@modelcontextprotocol/server-everything`` over streamable HTTP (2024-11-05 to 2025-11-25, with sessions)."""
    port = port or free_port()
    preload, entry = HERE / "loopback.mjs", node_package("@modelcontextprotocol/server-everything/dist/index.js")
    command = [str(node_path()), "--import", preload.as_uri(), str(entry), "streamableHttp"]
    async with open_process("server-everything", command, env={"PORT": str(port)}) as process:
        await process.wait_listening(port)
        yield f"http://127.0.0.1:{port}/mcp"


@asynccontextmanager
async def open_ts_server(mode: Literal["dual", "modern"] = "dual") -> AsyncIterator[str]:
    """A server on the TypeScript SDK 2.x: 2026-07-28 and (``dual``) older revisions without sessions."""
    command = [str(node_path()), str(HERE / "typescript2.mjs"), mode]
    async with open_process(f"TypeScript SDK 2.x server ({mode})", command) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


@asynccontextmanager
async def open_python_server(port: int = 0) -> AsyncIterator[str]:
    """A server on the Python SDK 2.x, all revisions: progress, log messages, a slow tool whose end can be asked for."""
    command = [sys.executable, str(HERE / "python2.py"), str(port)]
    async with open_process("Python SDK 2.x server", command) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


@asynccontextmanager
async def open_tasks_server(port: int = 0) -> AsyncIterator[str]:
    """A scripted server of 2026-07-28 with the Tasks extension, which no SDK has."""
    command = [sys.executable, str(HERE / "tasks.py"), str(port)]
    async with open_process("tasks server", command) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


@asynccontextmanager
async def open_older_python_server(port: int = 0, *, pages: int = 0, sessions: bool = True) -> AsyncIterator[str]:
    """A server on the Python SDK 1.x: a slow tool as above, and one that asks for a name. With `pages`, 300 tools on
    each instead."""
    command = [str(sdk1_python()), str(HERE / "python1.py"), str(port), str(pages), str(int(not sessions))]
    async with open_process("Python SDK 1.x server", command) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


@asynccontextmanager
async def open_fastmcp_server(port: int = 0, *, access_seconds: int = 3600) -> AsyncIterator[str]:
    """A server on fastmcp with an OAuth server of its own: people log in with any name, refresh tokens rotate."""
    command = [str(fastmcp_python()), str(HERE / "fastmcp_oauth.py"), str(port), str(access_seconds)]
    async with open_process("fastmcp server", command, env={"FASTMCP_CHECK_FOR_UPDATES": "off"}) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]


@asynccontextmanager
async def open_fastmcp_resource(issuer: str, port: int = 0) -> AsyncIterator[str]:
    """A server on fastmcp that takes the tokens of an `open_oidc_provider` with `resources`."""
    command = [str(fastmcp_python()), str(HERE / "fastmcp_remote.py"), issuer, str(port)]
    async with open_process("fastmcp server", command, env={"FASTMCP_CHECK_FOR_UPDATES": "off"}) as process:
        yield (await process.wait_output(r"listening (\S+)"))[1]
