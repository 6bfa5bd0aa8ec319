"""Texts of others, made fit to be repeated. This file knows characters, not where they are shown."""

from __future__ import annotations

import unicodedata

MAX_NAME = 80
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, bidi and zero-width marks, surrogates


def plain(text: str, limit: int = 80) -> str:
    """`text` in the characters of ``error_description`` (OAuth 2.1 4.1.2.1: %x20-21 / %x23-5B / %x5D-7E), cut."""
    cut = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text[:limit])
    return cut if len(text) <= limit else cut + "..."


def display_name(text: str, limit: int = MAX_NAME) -> str:
    """A self-asserted name for a page: without what hides or reorders characters, at most `limit` long."""
    visible = "".join(" " if c in "\t\r\n" else c for c in text)
    visible = "".join(c for c in visible if unicodedata.category(c) not in _HIDDEN)
    return " ".join(visible.split())[:limit].rstrip()
