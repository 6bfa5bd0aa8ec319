"""Pages of the merged lists, rendered once each, and the cursors between them.

It does not know what the items are, beyond the name of the list.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .jsonrpc import Json, dump
from .revisions import SERVER_INFO_KEY, is_stateless

PAGE = 1000  # items; many clients never ask for a second page

Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]
KINDS: tuple[Kind, ...] = ("tools", "prompts", "resources", "resourceTemplates")

# One letter in a cursor, so that one list's is not taken for another's.
_LETTER: Mapping[Kind, str] = {"tools": "t", "prompts": "p", "resources": "r", "resourceTemplates": "m"}


@dataclass(frozen=True, slots=True)
class Paged:
    """One list and its rendered pages. `for_handshake` makes an item readable for revisions before 2026-07-28."""

    kind: Kind
    items: tuple[Json, ...]
    for_handshake: Callable[[Json], Json] | None = None
    _pages: dict[tuple[bool, int], bytes] = field(default_factory=dict, compare=False, repr=False)

    def page(self, revision: str, cursor: str | None, *, ttl: int, server: Json) -> tuple[bytes, ...]:
        """The result of a list request as JSON, for one revision; `ttl` in milliseconds.

        In pieces: a list can be long, and whoever writes it copies it once. A cursor points into the list as it is
        now: one that was made for a longer list gets an empty last page.

        Raises:
            ValueError: if `cursor` is none that we made for this list.
        """
        start = 0 if cursor is None else parse_cursor(cursor, self.kind)
        stateless = is_stateless(revision)
        plain = stateless or self.for_handshake is None  # then both kinds of client are shown the same
        if (rendered := self._pages.get((plain, start))) is None:
            items = self.items[start : start + PAGE]
            if not plain and self.for_handshake is not None:
                items = tuple(self.for_handshake(item) for item in items)
            rendered = dump(items)
            if items:  # a cursor can be forged: nothing is kept for pages that do not exist
                self._pages[plain, start] = rendered
        rest: Json = {} if start + PAGE >= len(self.items) else {"nextCursor": render_cursor(start + PAGE, self.kind)}
        if stateless:
            rest |= {
                "resultType": "complete",
                "ttlMs": ttl,
                "cacheScope": "private",  # what a person sees depends on who they are
                "_meta": {SERVER_INFO_KEY: server},
            }
        tail = b"," + dump(rest)[1:] if rest else b"}"
        return b'{"%s":' % self.kind.encode(), rendered, tail


def render_cursor(start: int, kind: Kind = "tools") -> str:
    return base64.urlsafe_b64encode(f"{_LETTER[kind]}{start}".encode()).decode()


def parse_cursor(cursor: str, kind: Kind = "tools") -> int:
    """Raises:
    ValueError: if `cursor` is none that we made for lists of this kind.
    """
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
        start = int(text[1:])
    except (binascii.Error, ValueError):
        raise ValueError("the cursor is none of ours; start again without one") from None
    if start <= 0 or start % PAGE or render_cursor(start, kind) != cursor:
        raise ValueError("the cursor is none of ours; start again without one")
    return start
