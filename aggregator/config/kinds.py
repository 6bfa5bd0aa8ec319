"""The kinds of value that only this configuration has: names, scopes, claims, stores. Pure; raises `Wrong`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .scalars import NotYet, Wrong, nearest, parse_duration, parse_text, show
from .urls import redact_urls

MAX_CODE_LIFETIME = 600.0  # seconds; RFC 6749 4.1.2: "A maximum authorization code lifetime of 10 minutes is
# RECOMMENDED."
RESERVED = "gateway"  # `gateway__status` and its kind are ours
NAME_PATTERN = "[A-Za-z0-9_.-]{1,32}"
AUTH_TYPES = ("user", "none", "bearer", "header", "command", "oauth")
TRANSPORTS = ("http", "stdio")

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )


def parse_name(value: Any) -> str:
    """An upstream's name: in its tools' names, in its redirect URI, in the store."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Wrong(f"{show(value)} is not a name; expected 1 to 32 of the characters A-Z a-z 0-9 _ . -")
    if not value.strip("."):
        raise Wrong(f"{show(value)} is not a name: as a part of a URL it would mean another path")
    if value.casefold() == RESERVED:
        raise Wrong(f"'{value}' is taken by the aggregator's own tools; choose another name")
    return str(value)


def parse_prefix(value: Any) -> str:
    """What an upstream's tools are called before ``__``; the empty text leaves their names alone."""
    if value == "":
        return ""
    return parse_name(value)


def parse_scope(value: Any) -> str:
    if not isinstance(value, str) or not _SCOPE.fullmatch(value):
        hint = "; one scope per item" if isinstance(value, str) and " " in value.strip() else ""
        raise Wrong(f"{show(value)} is not a scope{hint}")
    return str(value)


def parse_code_lifetime(value: Any) -> float:
    """A duration that is short."""
    seconds = parse_duration(value)
    if seconds > MAX_CODE_LIFETIME:
        raise Wrong(f"{show(value)} is too long for a code that is redeemed at once; expected '10m' at most")
    return seconds


def parse_pattern(value: Any) -> str:
    """A pattern of tool names: ``*`` and ``?`` as in a shell."""
    return parse_text(value)


def one_of(words: Sequence[str]) -> Callable[[Any], str]:
    """A parser that takes each of `words` and nothing else."""

    def parse(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return str(value)
        known = ", ".join(f"'{each}'" for each in words)
        meant = nearest(value, words) if value and isinstance(value, str) else None
        raise Wrong(f"{show(value)} is not one of {known}", meant)

    return parse


def parse_storage(value: Any) -> str:
    """``memory``, or the path of a SQLite file. The empty text means memory, as it did to the predecessor."""
    if value == "":
        return "memory"
    text = parse_text(value)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(?://|memory)|:memory:", text)
    if scheme is None:
        return text
    if text == ":memory:":
        raise Wrong("':memory:' would be a file of that name", "memory")
    shown = show(redact_urls(text))
    if (scheme[1] or "").lower().startswith("postgres"):
        raise NotYet(f"{shown}: PostgreSQL is not available yet; give 'memory' or the path of a SQLite file")
    raise Wrong(f"{shown} is not a store; give 'memory' or the path of a SQLite file")


def parse_allow(value: Any) -> dict[str, tuple[str, ...]]:
    """Claim to the values that may come in; a single text counts as a list of one."""
    if not isinstance(value, dict):
        raise Wrong(f"{show(value)} is not a mapping; write claims and their values, such as hd: example.com")
    allowed: dict[str, tuple[str, ...]] = {}
    for claim, values in value.items():
        texts = values if isinstance(values, list) else [values]
        if not texts:
            raise Wrong(f"the list of '{claim}' is empty: nobody could log in; name a value or remove the claim")
        for text in texts:
            if not isinstance(text, str) or not text:
                raise Wrong(f"{show(text)} is not a value of the claim '{claim}'; expected a text or a list of texts")
        allowed[claim] = tuple(str(text) for text in texts)
    return allowed
