"""Run one real client against one MCP endpoint, with a person who logs in when it asks.

This file does not know what stands behind the endpoint.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import httpx2
import trio

from .browser import walk_login
from .install import PARTS, node_package, node_path, sdk1_python
from .processes import LOOK_AGAIN, PATIENCE, ProcessFailed, Running, free_port, open_process

CLIENTS = PARTS / "clients"

Kind = Literal["python1", "python2", "typescript1", "typescript2", "mcp-remote"]
Mode = Literal["legacy", "2026"]
KINDS: tuple[Kind, ...] = ("python1", "python2", "typescript1", "typescript2", "mcp-remote")
MODERN_KINDS: tuple[Kind, ...] = ("python2", "typescript2", "mcp-remote")  # those that can speak 2026-07-28

_LINK = re.compile(r"^OPEN (\S+)$", re.MULTILINE)
_AUTHORIZE = re.compile(r"https?://[^\s\"'<>\x1b]+[?&]response_type=code[^\s\"'<>\x1b]*")


@dataclass(frozen=True, slots=True)
class ClientRun:
    """What a client saw. `authorized` tells whether a person had to log in; `output` is all it printed.

    `read` has, of resources, templates and prompts, each published name with the URI, or the messages, it led to.
    """

    protocol: str
    tools: list[str]
    result: dict[str, Any] | None
    progress: list[float]
    logs: list[Any]
    authorized: bool
    output: str
    read: dict[str, dict[str, Any]] | None = None
    results: list[dict[str, Any]] = field(default_factory=list)


async def run_client(
    kind: Kind,
    url: str,
    *,
    tool: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    mode: Mode = "legacy",
    read: bool = False,
    answer: Mapping[str, Any] | None = None,
    folder: str | None = None,
    times: int = 1,
    token: str | None = None,
    metadata_url: str | None = None,
    state: Path | None = None,
    protocol: str | None = None,
    user: str = "alice",
    password: str = "any password",
    browser: httpx2.AsyncClient | None = None,
    on_page: Callable[[str, str], None] | None = None,
    on_link: Callable[[str], Awaitable[None]] | None = None,
    within: float = PATIENCE,
) -> ClientRun:
    """Connect, list all tools, call `tool`; the SDK's own OAuth is walked as `user`, unless `token` is a bearer.

    `state` keeps the client's registration and tokens between runs, as real clients do; it is a file, for mcp-remote
    a folder. With `metadata_url` the client is that of the document there instead of registering (mcp-remote cannot).
    With `read` it reads every resource and gets the prompts called ``simple_prompt`` (mcp-remote cannot).
    With `answer` it can be asked for a form, and fills it in so (mcp-remote cannot).
    With `on_link` it can be asked to have its person open a link, which that does, once (not TypeScript 1, mcp-remote).
    With `folder` it can be asked for its roots and for a sample, and answers both with that name (Python only).
    The tool is called `times` times at once, each with a result in `results` (Python only).
    With `mode` ``2026`` the client offers 2026-07-28 first; kinds outside `MODERN_KINDS` cannot.
    With `protocol` it offers that revision and no newer one (python1 can).
    `password`, `browser` and `on_page` are those of `walk_login`.

    Raises:
        ProcessFailed: if the client fails or takes longer than `within` seconds.
        LoginStuck: if the login does not come to its end.
    """
    if mode == "2026" and kind not in MODERN_KINDS:
        raise ValueError(f"{kind} speaks no 2026-07-28")
    asked = [] if tool is None else ["--tool", tool, "--arguments", json.dumps(dict(arguments or {}))]
    asked += ["--mode", mode]
    if read:
        asked.append("--read")
    if answer is not None:
        asked += ["--answer", json.dumps(dict(answer))]
    if folder is not None:
        asked += ["--folder", folder]
    if times > 1:
        asked += ["--times", str(times)]
    if on_link is not None:
        asked.append("--links")
    if protocol is not None:
        asked += ["--protocol", protocol]
    if metadata_url is not None:
        asked += ["--metadata-url", metadata_url]
    with TemporaryDirectory() as scratch:
        command, environment = _command(kind, url, asked, state, Path(scratch))
        if token is not None:
            environment["TOKEN"] = token
        async with open_process(kind, command, env=environment) as process:
            authorized = opened = False
            with trio.move_on_after(within):
                while process.process.poll() is None:
                    if not authorized and (found := _AUTHORIZE.search(process.output())):
                        authorized = True
                        await _authorize(found[0], user, password, browser, on_page)
                    if on_link is not None and not opened and (found := _LINK.search(process.output())):
                        opened = True
                        await on_link(found[1])
                    await trio.sleep(LOOK_AGAIN)
                return _parse_run(process, authorized)
            raise ProcessFailed(f"{kind} did not end within {within:g} s:\n{process.output()[-4000:]}")


def _command(
    kind: Kind, url: str, asked: list[str], state: Path | None, scratch: Path
) -> tuple[list[str], dict[str, str]]:
    kept = [] if state is None else ["--state", str(state)]
    match kind:
        case "python1":
            return [str(sdk1_python()), str(CLIENTS / "python1.py"), url, *asked, *kept], {}
        case "python2":
            return [sys.executable, str(CLIENTS / "python2.py"), url, *asked, *kept], {}
        case "typescript1" | "typescript2":
            return [str(node_path()), str(CLIENTS / f"{kind}.mjs"), url, *asked, *kept], {}
        case "mcp-remote":
            driver, proxy = CLIENTS / "mcp_remote.py", node_package("mcp-remote/dist/proxy.js")
            command = [sys.executable, str(driver), str(node_path()), str(proxy), url, str(free_port()), *asked]
            home = str(state or scratch)
            # No browser must open on the machine of whoever runs the tests.
            return command, {"HOME": home, "MCP_REMOTE_CONFIG_DIR": home, "BROWSER": "true", "PATH": "/nonexistent"}


async def _authorize(
    url: str,
    user: str,
    password: str,
    browser: httpx2.AsyncClient | None,
    on_page: Callable[[str, str], None] | None,
) -> None:
    redirect_uri = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    landed = await walk_login(url, redirect_uri, user, password=password, browser=browser, on_page=on_page)
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as visitor:
        while True:
            try:
                await visitor.get(landed)
                return
            except httpx2.ConnectError:  # some clients print the URL before they listen; `within` bounds the wait
                await trio.sleep(LOOK_AGAIN)


def _parse_run(process: Running, authorized: bool) -> ClientRun:
    output = process.output()
    for line in reversed(output.splitlines()):
        if line.startswith('{"protocol"'):
            seen = json.loads(line)
            return ClientRun(
                seen["protocol"],
                seen["tools"],
                seen["result"],
                seen["progress"],
                seen["logs"],
                authorized,
                output,
                seen.get("read"),
                seen.get("results", []),
            )
    raise ProcessFailed(f"{process.name} ended with {process.process.returncode}:\n{output[-4000:]}")
