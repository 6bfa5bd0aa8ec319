"""Merged catalogs that somebody may ask for again, as many as fit. People whose listings are the same share one.

What a listing is, and when one has changed, is not known here; a number stands for it.
"""

from __future__ import annotations

from collections import OrderedDict

from ..protocol.catalog import Catalog

# Pages of 2,500 tools are a megabyte: that is room for some seventy people who all see as many of their own, and for
# thousands who share what they see or have less. Whoever has no room is merged again at each list, in milliseconds.
KEPT_BYTES = 64 * 2**20

# The upstreams that wait for the person's login; number and version of each listing.
Key = tuple[tuple[str, ...], tuple[tuple[int, int], ...]]


class KeptCatalogs:
    """The catalogs used last, of at most `limit` bytes together, or one."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._catalogs: OrderedDict[Key, Catalog] = OrderedDict()
        self._sizes: dict[Key, int] = {}  # as they were counted; a catalog grows with the pages that are asked for
        self._keys: dict[int, set[Key]] = {}  # by the number of a listing
        self.size = 0

    def __repr__(self) -> str:
        return f"<KeptCatalogs {len(self)}, {self.size} bytes>"

    def __len__(self) -> int:
        return len(self._catalogs)

    def find(self, key: Key) -> Catalog | None:
        if (catalog := self._catalogs.get(key)) is not None:
            self._catalogs.move_to_end(key)
            self._count(key, catalog)
        return catalog

    def keep(self, key: Key, catalog: Catalog) -> None:
        self._catalogs[key] = catalog
        for number, _ in key[1]:
            self._keys.setdefault(number, set()).add(key)
        self._count(key, catalog)

    def forget(self, number: int) -> None:
        """Drop every catalog that was made of this listing."""
        for key in tuple(self._keys.get(number, ())):
            self._drop(key)

    def _count(self, key: Key, catalog: Catalog) -> None:
        size = catalog.size
        self.size += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        while self.size > self._limit and len(self._catalogs) > 1:
            self._drop(next(iter(self._catalogs)))

    def _drop(self, key: Key) -> None:
        del self._catalogs[key]
        self.size -= self._sizes.pop(key)
        for number, _ in key[1]:
            keys = self._keys[number]
            keys.discard(key)
            if not keys:
                del self._keys[number]
