"""The client that the conformance suite starts, when the real one runs elsewhere already.

It hands its server's URL and its scenario to whoever listens on the port of its first argument, and ends with the
exit code that comes back.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> int:
    port, url = int(sys.argv[1]), sys.argv[2]
    given = {
        "url": url,
        "scenario": os.environ.get("MCP_CONFORMANCE_SCENARIO", ""),
        "context": json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}"),
    }
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(json.dumps(given).encode() + b"\n")
        with connection.makefile() as answer:
            told = json.loads(answer.readline())
    print(told["said"], file=sys.stderr)
    return int(told["code"])


if __name__ == "__main__":
    sys.exit(main())
