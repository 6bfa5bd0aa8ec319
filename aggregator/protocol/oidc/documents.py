"""JSON objects that come from the identity provider, read so that two parsers could not read them differently.

This file knows nothing of what the documents mean.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_TOKEN_LIKE = re.compile(r"[A-Za-z0-9._~+/=-]{24,}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_PRIVATE_PARTS = re.compile(r"(?<=//)[^/?#]*(?=@)|(?<=[?#]).+", re.DOTALL)


def read_object(text: bytes) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        ValueError: for anything else, for repeated names (RFC 7519 4: "Claim Names within a JWT Claims Set
            MUST be unique"), for NaN and infinities, and for text that UTF-8 cannot carry; the reason fits a log line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # lone surrogates and 1e999 fail here
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON ({exc.msg} at {exc.pos})") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def quotable(text: str, limit: int = 160) -> str:
    """Words of the provider for our log: printable, short, and without anything as long as a code or a token."""
    return _UNPRINTABLE.sub("?", _TOKEN_LIKE.sub("***", text))[:limit]


def quotable_url(url: str, limit: int = 160) -> str:
    """An address of the provider for our log: readable, but for user names, passwords, queries and fragments."""
    return _UNPRINTABLE.sub("?", _PRIVATE_PARTS.sub("***", url))[:limit]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
