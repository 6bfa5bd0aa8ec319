"""The names under which tools of many upstreams stand side by side. Pure text; routing never parses a name."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase

SEPARATOR = "__"
GATEWAY = "gateway"  # `gateway__*` is ours
STATUS_TOOL = "gateway__status"
AUTH_TOOL = "gateway__auth"
UNAUTH_TOOL = "gateway__unauth"

_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")  # MCP, tools: names SHOULD hold these characters only
_HASH_LENGTH = 8


def published_name(prefix: str, tool: str, limit: int) -> str:
    """``<prefix>__<tool>``, or the bare tool name for an empty prefix; at most `limit` characters.

    A name that is too long or holds other characters is replaced by a readable head and a hash of the whole, the same
    in every process and after every restart. `limit` is at least 48, so that the longest prefix stays whole.
    """
    full = f"{prefix}{SEPARATOR}{tool}" if prefix else tool
    plain = _FOREIGN.sub("_", full)
    if plain == full and len(full) <= limit:
        return full
    digest = hashlib.sha256(full.encode(errors="surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{plain[: limit - _HASH_LENGTH - 1]}_{digest}"


def may_publish(prefix: str, name: str) -> bool:
    """Whether an upstream with this prefix could have published `name`: a reason to list it, never to route to it."""
    return not prefix or name.startswith(_FOREIGN.sub("_", prefix) + SEPARATOR)


def auth_tool(upstream: str) -> str:
    """The tool that stands for an upstream whose own tools wait for a person's login."""
    return f"{GATEWAY}{SEPARATOR}{upstream}{SEPARATOR}auth"


def is_gateway_name(name: str) -> bool:
    return name.casefold().startswith(GATEWAY + SEPARATOR)


def is_wanted(tool: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Whether the operator's patterns (``*``, ``?``, ``[...]``, matched with case) let an upstream's tool through."""
    return any(fnmatchcase(tool, pattern) for pattern in include) and not any(
        fnmatchcase(tool, pattern) for pattern in exclude
    )
