"""An MCP server on stdin and stdout, as a script: ``python -I -S stdio_server.py REVISION``; standard library only.

``modern`` speaks 2026-07-28, ``older`` 2025-11-25; ``silent`` is older and ignores what it does not know, ``strict``
is older and ends when anything but `initialize` comes first. Its tools misbehave on request. A second argument is
a file with the names of further tools, read at the start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

Json = dict[str, Any]
revision = sys.argv[1]
held: dict[str, Any] = {}
heard: list[Json] = []
TOOLS = "echo hold release exit count garbage huge endless shout deaf fork stubborn environment ask heard pid".split()
if len(sys.argv) > 2:
    with open(sys.argv[2], encoding="ascii") as more:
        TOOLS += more.read().split()


def send(message: Json) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def result(id: Any, value: Json) -> None:
    send({"id": id, "result": {"resultType": "complete", **value} if revision == "modern" else value})


def said(id: Any, value: Any) -> None:
    result(id, {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]})


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def call(id: Any, params: Json) -> None:
    name, arguments = params["name"], params.get("arguments") or {}
    token = params.get("_meta", {}).get("progressToken")
    match name:
        case "echo":
            said(id, arguments["text"])
        case "hold":
            held[arguments["label"]] = id
        case "release":
            for label in arguments["labels"]:
                said(held.pop(label), label)
            said(id, "released")
        case "exit":
            os._exit(arguments["code"])
        case "count":
            for number in range(arguments["to"]):
                send({"method": "notifications/progress", "params": {"progressToken": token, "progress": number}})
                send({"method": "notifications/message", "params": {"level": "info", "data": number}})
            said(id, "counted")
        case "garbage":
            write_all(1, b"Listening...\n{\n\xff\xfe\n[]\n\n" * arguments["times"])
            send({"id": "nobody's", "result": {}})
            said(id, "after garbage")
        case "huge":
            said(id, "x" * arguments["size"])
        case "endless":
            for _ in range(arguments["mebibytes"]):
                write_all(1, b"x" * 2**20)
            time.sleep(60)
        case "shout":
            write_all(2, b"I am loud \x1b[31m" + arguments.get("word", "").encode() + b"\n" * 1)
            write_all(2, b"noise\n" * arguments["lines"])
            said(id, "shouted")
        case "deaf":
            time.sleep(60)
        case "fork":
            # In the group of this process, with its pipes, for ever.
            child = subprocess.Popen(["sleep", "600"])
            said(id, str(child.pid))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            said(id, str(os.getpid()))
            while True:
                time.sleep(60)
        case "environment":
            said(id, {"env": dict(os.environ), "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"))})
        case "ask":
            send({"id": "q1", "method": "ping"})
            send({"id": "q2", "method": "sampling/createMessage", "params": {}})
            said(id, "asked")
        case "heard":
            said(id, heard)
        case "pid":
            said(id, str(os.getpid()))


def main() -> None:
    first = True
    for line in sys.stdin.buffer:
        message = json.loads(line)
        heard.append(message)
        method, id = message.get("method"), message.get("id")
        if first and revision == "strict" and method != "initialize":
            sys.exit(3)
        first = False
        if method == "server/discover" and revision == "modern":
            meta = {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "1"}}
            result(id, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": meta})
        elif method == "initialize" and revision != "modern":
            capabilities: Json = {"tools": {}, "logging": {}}
            info = {"name": "scripted", "version": "1"}
            result(id, {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info})
        elif method == "tools/list":
            result(id, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]})
        elif method == "tools/call":
            call(id, message["params"])
        elif method is not None and id is not None and revision != "silent":
            send({"id": id, "error": {"code": -32601, "message": "Method not found"}})


main()
