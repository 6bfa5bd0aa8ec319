"""What we tell a client about ourselves: capabilities, and instructions in words.

Both are made from what the upstreams can do and what the operator says about
them; nothing is promised that no upstream keeps. Pure; who the upstreams are is
an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .jsonrpc import Json
from .tasks import TASKS
from .texts import clean_text

# Many clients show a model no more than the beginning, and some cut at 2 KB: what comes first must stand alone.
STANDS_ALONE = 512  # characters
MAX_DESCRIPTION = 2_000  # characters of what the operator says of one upstream
MAX_OWN = 4_000  # characters of what one upstream says of itself
MAX_INSTRUCTIONS = 16_000  # characters of it all: a client pays for them in every conversation
SHORTEST = 24  # characters below which a part of a description tells nothing

HEAD = "Tools are namespaced as <upstream>__<tool>, aggregated from these servers:"

APPS = "io.modelcontextprotocol/ui"

# What we say as a client when we ask on nobody's behalf. MCP Apps: servers show tools with pages to clients that
# declare them, and one listing serves clients of both kinds.
AS_A_CLIENT: Json = {"extensions": {APPS: {"mimeTypes": ["text/html;profile=mcp-app"]}}}

_OF_UPSTREAMS = ("prompts", "resources", "completions")
# Extensions that live in fields which we pass on as they are, so that they work through us. Tasks have methods of their
# own, which only clients of 2026-07-28 can use.
_PASSED_ON = (APPS,)
_OF_STATELESS = (APPS, TASKS)


@dataclass(frozen=True, slots=True)
class Described:
    """One upstream in words: the operator's, and its own where the operator wants them passed on."""

    name: str
    prefix: str
    description: str = ""
    own: str = ""


def capabilities_for(
    upstreams: Iterable[Mapping[str, Any] | None],
    *,
    list_changed: bool = False,
    subscribe: bool = False,
    stateless: bool = False,
) -> Json:
    """The capabilities of all `upstreams` together; None stands for one that has not been met yet.

    What one that is not met might offer is offered: its lists are empty until it answers, while a client that was
    told of no prompts would never ask again. Tools and logging are always there, through our own.
    """
    known = list(upstreams)
    changing = {"listChanged": True} if list_changed else {}
    made: Json = {"tools": dict(changing), "logging": {}}
    for name in _OF_UPSTREAMS:
        if any(one is None or isinstance(one.get(name), dict) for one in known):
            made[name] = {} if name == "completions" else dict(changing)
    if subscribe and any(
        one is not None and isinstance(one.get("resources"), dict) and one["resources"].get("subscribe") is True
        for one in known
    ):
        made["resources"]["subscribe"] = True
    extensions: Json = {}
    for one in known:
        theirs = one.get("extensions") if one is not None else None
        if isinstance(theirs, dict):
            for name in _OF_STATELESS if stateless else _PASSED_ON:
                if isinstance(theirs.get(name), dict):
                    extensions.setdefault(name, theirs[name])
    return {**made, "extensions": extensions} if extensions else made


def instructions_for(upstreams: Iterable[Described]) -> str | None:
    """What a client should know before the first call, or None if nobody said anything.

    The first `STANDS_ALONE` characters name every upstream that the operator described; what had no room follows,
    then what upstreams say of themselves.
    """
    known = list(upstreams)
    described = [one for one in known if one.description]
    parts: list[str] = []
    if described:
        overview, shortened = _overview(described)
        told = _line if any(one.prefix for one in described) else _said
        parts = [overview, *(told(one, MAX_DESCRIPTION) for one in shortened)]
    parts += [f"{one.name} says of itself: {_cut(clean_text(one.own), MAX_OWN)}" for one in known if one.own]
    return _cut("\n\n".join(parts), MAX_INSTRUCTIONS) if parts else None


def _overview(described: list[Described]) -> tuple[str, list[Described]]:
    """All of them in `STANDS_ALONE` characters, and those of whom that is not everything."""
    if not any(one.prefix for one in described):
        (only, *_) = described  # no second one is without a prefix
        said = _said(only, MAX_DESCRIPTION)
        return _cut(said, STANDS_ALONE), described if len(said) > STANDS_ALONE else []
    full = "\n".join([HEAD, *(_line(one, MAX_DESCRIPTION) for one in described)])
    if len(full) <= STANDS_ALONE:
        return full, []
    bare = len("\n".join([HEAD, *(_line(one, 0) for one in described)]))
    if (share := (STANDS_ALONE - bare) // len(described)) >= SHORTEST:
        text = "\n".join([HEAD, *(_line(one, share) for one in described)])
        return text, [one for one in described if len(one.description) > share]
    names = ", ".join(one.prefix or one.name for one in described)
    return _cut(f"{HEAD} {names}.", STANDS_ALONE), described


def _line(one: Described, limit: int) -> str:
    return f"- {one.prefix}__*: {_said(one, limit)}" if one.prefix else f"- other names: {_said(one, limit)}"


def _said(one: Described, limit: int) -> str:
    return _cut(" ".join(one.description.split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"[:limit]
