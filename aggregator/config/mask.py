"""The configuration's text with its secrets blanked, for the excerpts of a report.

Every character keeps its place, so that a caret still points right. What is
shown is an allow-list: values of keys that are known and harmless. This file
must not know kinds, defaults or rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .document import Document, Path
from .urls import redact_urls

# Keys whose values may be seen. A misspelled or unknown key may hold anything, so its value is blanked as a secret is.
SHOWN = frozenset(
    "$schema auth issuer clientId scopes userClaim allow allowHttpIssuer reloginAfter upstreams name url displayName "
    "description enabled prefix type tools include exclude discoveryTimeout toolTimeout cwd instructions "
    "sendResource callbackPath allowPrivateNetwork authorizationServer issuerUrl host port storage tokens access "
    "refresh refreshIdle code allowedOrigins allowedHosts drain limits body nameLength callsPerPerson "
    "inputTimeout startOnUse idleStop socket clients redirectUris clientSchemes clientDocuments tls certFile "
    "keyFile".split()
)
_SUSPECT = re.compile(r"secret|token|passw|key|authoriz|bearer|credential|header|env|command|value", re.IGNORECASE)
_ITEM = re.compile(r"\s*-\s+[^:]*$")  # of a list that began further up


def mask_document(
    document: Document,
    *,
    shown: frozenset[str] = SHOWN,
    source: str | None = None,
    origin: Callable[[int], int] = lambda index: index,
) -> str:
    """`document.text`, of the same length and with the same lines, safe to show; `shown` are the keys that may be.

    If the document was made from another text, that is `source`, and `origin` leads each position back to it.
    """
    text = document.text if source is None else source
    if document.broken:
        return _mask_broken(text)
    pieces: list[str] = []
    end = 0
    spans = ((place.span, path) for path, place in document.places.items() if path in document.scalars)
    for (first, last), path in sorted(spans):
        start, stop = max(end, origin(first)), max(end, origin(last))
        pieces.append(text[end:start])
        piece = text[start:stop]
        pieces.append(redact_urls(piece) if _is_shown(path, shown) else _blank(piece))
        end = stop
    # What stands between the values is keys, punctuation and comments; a comment may hold an old secret.
    return re.sub(r"(?m)(^|\s)#.*$", lambda found: _blank(found[0]), "".join([*pieces, text[end:]]))


def _is_shown(path: Path, shown: frozenset[str]) -> bool:
    steps = [step for step in path if isinstance(step, str)]
    return steps[:2] == ["auth", "allow"] or all(step in shown for step in steps)


def _mask_broken(text: str) -> str:
    """Without its structure, a line is shown only if it is no item and neither it nor the one before speaks of anything
    like a secret."""
    lines = text.split("\n")
    return "\n".join(
        _blank(line)
        if _SUSPECT.search(line) or _ITEM.match(line) or (index and _SUSPECT.search(lines[index - 1]))
        else redact_urls(line)
        for index, line in enumerate(lines)
    )


def _blank(text: str) -> str:
    return re.sub(r"[^\s]", "*", text)
