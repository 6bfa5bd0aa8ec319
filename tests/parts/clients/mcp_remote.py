"""mcp-remote behind a desktop client: we speak stdio to it, it speaks HTTP and OAuth to the server.

Usage: mcp_remote.py NODE PROXY.JS URL PORT [--tool NAME --arguments JSON] [--mode legacy|2026]; TOKEN for a bearer.
Standard library only; its logs, with the URL to authorize at, go to our stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from typing import Any


class Remote:
    """The proxy's stdio, one request at a time."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._number = 0
        self.progress: list[float] = []
        self.logs: list[Any] = []

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("method") == "notifications/progress":
                self.progress.append(message["params"]["progress"])
            elif message.get("method") == "notifications/message":
                self.logs.append(message["params"]["data"])
            elif message.get("id") == self._number and "method" not in message:
                if "error" in message:
                    raise SystemExit(f"{method}: {json.dumps(message['error'])}")
                result: dict[str, Any] = message["result"]
                return result
        raise SystemExit(f"mcp-remote ended with {self._process.wait()} during {method}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("node", "proxy", "url", "port"):
        parser.add_argument(name)
    parser.add_argument("--tool")
    parser.add_argument("--arguments", type=json.loads, default={})
    parser.add_argument("--mode", choices=["legacy", "2026"], default="legacy")
    asked = parser.parse_args()
    command = [asked.node, asked.proxy, asked.url, asked.port, "--host", "127.0.0.1", "--transport", "http-only"]
    if asked.mode == "2026":
        command += ["--protocol", "auto"]
    if token := os.environ.get("TOKEN"):
        command += ["--header", f"Authorization: Bearer {token}"]
    remote = Remote(command)
    client = {"name": "desktop", "version": "1.0.0"}
    opened = remote.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
    remote.send({"method": "notifications/initialized"})
    tools: list[str] = []
    cursor: dict[str, Any] | None = {}
    while cursor is not None:
        page = remote.request("tools/list", cursor)
        tools += [tool["name"] for tool in page["tools"]]
        cursor = {"cursor": page["nextCursor"]} if "nextCursor" in page else None
    result = None
    if asked.tool:
        params = {"name": asked.tool, "arguments": asked.arguments, "_meta": {"progressToken": "p"}}
        result = remote.request("tools/call", params)
    found = {"protocol": opened["protocolVersion"], "tools": tools, "result": result}
    print(json.dumps({**found, "progress": remote.progress, "logs": remote.logs}), flush=True)
    remote.close()


main()
