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
OF_ITEM = 50  # bytes: its place in a list, and in a table

Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]
KINDS: tuple[Kind, ...] = ("tools", "prompts", "resources", "resourceTemplates")

# One letter in a cursor, so that one list's is not taken for another's.
_LETTER: Mapping[Kind, str] = {"tools": "t", "prompts": "p", "resources": "r", "resourceTemplates": "m"}


class Item:
    """One item of a list as clients are shown it, rendered once for all lists that it stands in.

    `for_handshake` makes it readable for revisions before 2026-07-28; it gives back the same object where it is.
    """

    __slots__ = ("_for_handshake", "_rendered", "_rendered_for_handshake", "shown")

    def __init__(self, shown: Json, for_handshake: Callable[[Json], Json] | None = None) -> None:
        self.shown = shown
        self._for_handshake = for_handshake
        self._rendered: bytes | None = None
        self._rendered_for_handshake: bytes | None = None

    def __repr__(self) -> str:
        return f"Item({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self.shown == other.shown

    __hash__ = None  # type: ignore[assignment]

    def render(self, *, stateless: bool) -> bytes:
        """It as JSON."""
        if stateless or self._for_handshake is None:
            if self._rendered is None:
                self._rendered = dump(self.shown)
            return self._rendered
        if self._rendered_for_handshake is None:
            readable = self._for_handshake(self.shown)
            self._rendered_for_handshake = self.render(stateless=True) if readable is self.shown else dump(readable)
        return self._rendered_for_handshake


@dataclass(frozen=True, slots=True)
class Paged:
    """One list and its pages, each written once."""

    kind: Kind
    items: tuple[Item, ...]
    _pages: dict[tuple[bool, int], bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def shown(self) -> tuple[Json, ...]:
        return tuple([item.shown for item in self.items])

    @property
    def size(self) -> int:
        """About how many bytes it holds by itself: its pages, and what it takes to find an item."""
        return OF_ITEM * len(self.items) + sum(map(len, self._pages.values()))

    def page(self, revision: str, cursor: str | None, *, ttl: int, server: Json) -> tuple[bytes, bytes]:
        """The result of a list request as JSON, for one revision; `ttl` in milliseconds.

        In two pieces, since a list can be long: the second is kept, and the same for everybody who is shown this list;
        it also closes the message in which the result stands last. A cursor points into the list as it is now: one
        that was made for a longer list gets an empty last page.

        Raises:
            ValueError: if `cursor` is none that we made for this list.
        """
        start = parse_cursor(cursor, self.kind) if cursor else 0
        stateless = is_stateless(revision)
        rest: Json = {} if start + PAGE >= len(self.items) else {"nextCursor": render_cursor(start + PAGE, self.kind)}
        if stateless:
            rest |= {
                "resultType": "complete",
                "ttlMs": ttl,
                "cacheScope": "private",  # what a person sees depends on who they are
                "_meta": {SERVER_INFO_KEY: server},
            }
        return (dump(rest)[:-1] + b"," if rest else b"{"), self._page(stateless, start)

    def _page(self, stateless: bool, start: int) -> bytes:
        if (page := self._pages.get((stateless, start))) is None:
            rendered = [item.render(stateless=stateless) for item in self.items[start : start + PAGE]]
            page = b'"%s":[' % self.kind.encode() + b",".join(rendered) + b"]}}"
            if rendered:  # a cursor can be forged: nothing is kept for pages that do not exist
                self._pages[stateless, start] = page
        return page


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
