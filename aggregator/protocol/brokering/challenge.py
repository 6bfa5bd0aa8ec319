"""What an upstream says in ``WWW-Authenticate``: where its metadata is, which scope it wants, what was wrong.

The parser is total: any text gives a value, in time linear in its length, and
what is broken is passed over (RFC 9110 11.6.1; RFC 6750 3; RFC 9728 5.1). This
file must not know what follows from a challenge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CHALLENGE = 16 * 1024  # characters that are looked at; servers' own limits for a whole head are 8 to 64 KiB
MAX_SCOPES = 200

_SEPARATORS = re.compile(r"[ \t,]*")
_SPACES = re.compile(r"[ \t]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r"[^\s,\"]+")  # a URL is no token, yet servers forget its quotes
_NEXT = re.compile(r"[^,]*")
_ESCAPE = re.compile(r"\\(.)")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749 3.3


@dataclass(frozen=True, slots=True)
class Challenge:
    """The first challenge of the scheme Bearer, as far as we use it. None for what it does not say."""

    resource_metadata: str | None = None
    scope: str | None = None
    error: str | None = None


def parse_challenge(text: str) -> Challenge:
    """The Bearer challenge in a ``WWW-Authenticate`` value; several fields are joined by commas."""
    for scheme, parameters in _challenges(text[:MAX_CHALLENGE]):
        if scheme == "bearer":
            scopes = split_scope(parameters.get("scope", ""))
            return Challenge(
                parameters.get("resource_metadata") or None,
                " ".join(scopes) or None,
                parameters.get("error") or None,
            )
    return Challenge()


def split_scope(text: str) -> tuple[str, ...]:
    """The scopes of a space-delimited text, each once, in order; what can be no scope is left out."""
    found = (scope for scope in text.split(" ") if _SCOPE_TOKEN.fullmatch(scope))
    return tuple(dict.fromkeys(found))[:MAX_SCOPES]


def _challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """Every challenge in order: its scheme in lower case, and its parameters, of which the first of a name counts."""
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while (at := _end(_SEPARATORS, text, at)) < len(text):
        name = _TOKEN.match(text, at)
        if name is None:
            at = max(_end(_NEXT, text, at), at + 1)
            continue
        equals = _EQUALS.match(text, name.end())
        if equals is None:
            found.append((name[0].lower(), {}))
            at = _end(_SPACES, text, name.end())
            at = _end(_TOKEN68, text, at) if at > name.end() else at
            continue
        quoted = _QUOTED.match(text, equals.end())
        value = quoted or _BARE.match(text, equals.end())
        if value is None:
            at = max(_end(_NEXT, text, equals.end()), at + 1)
            continue
        if found:
            shown = _ESCAPE.sub(r"\1", quoted[1]) if quoted is not None else value[0]
            found[-1][1].setdefault(name[0].lower(), shown)
        at = value.end()
    return found


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
