from __future__ import annotations

from aggregator.protocol.catalog import Catalog, build_catalog
from aggregator.protocol.revisions import STATELESS
from aggregator.protocol.source import Source
from aggregator.upstream.kept_catalogs import KeptCatalogs, Key


def catalog(tools: int = 10) -> Catalog:
    listed = tuple({"name": f"tool{number}", "description": "x" * 1000} for number in range(tools))
    return build_catalog([Source("up", "up", "Up", listed)], name_length=64)


def key(*numbers: int, version: int = 1, needing: tuple[str, ...] = ()) -> Key:
    return needing, tuple((number, version) for number in numbers)


def read(found: Catalog) -> None:
    found.page(STATELESS, None, ttl=1, server={})


def test_what_is_kept_is_found_by_all_that_it_was_made_of() -> None:
    kept, made = KeptCatalogs(), catalog()
    kept.keep(key(1, 2), made)
    assert kept.find(key(1, 2)) is made
    for other in (key(1), key(1, 2, version=2), key(1, 2, needing=("up",)), key(2, 1)):
        assert kept.find(other) is None


def test_a_listing_that_has_changed_takes_its_catalogs_along() -> None:
    kept = KeptCatalogs()
    for made_of in (key(1, 2), key(1, 3), key(2, 3)):
        kept.keep(made_of, catalog())
    kept.forget(1)
    kept.forget(1)
    assert [kept.find(made_of) is None for made_of in (key(1, 2), key(1, 3), key(2, 3))] == [True, True, False]
    kept.forget(3)
    assert (len(kept), kept.size, kept._keys, kept._sizes) == (0, 0, {}, {})


def test_the_longest_unused_go_when_there_is_no_room() -> None:
    kept = KeptCatalogs(limit=4 * catalog().size)
    for number in range(4):
        kept.keep(key(number), catalog())
    assert kept.find(key(0)) is not None
    kept.keep(key(4), catalog())
    assert [kept.find(key(number)) is not None for number in range(5)] == [True, False, True, True, True]


def test_pages_count_once_they_were_asked_for() -> None:
    kept, one = KeptCatalogs(limit=20_000), catalog()
    kept.keep(key(1), one)
    kept.keep(key(2), catalog())
    before = kept.size
    read(one)
    assert kept.find(key(1)) is one
    assert before + 10_000 < kept.size < 20_000
    other = kept.find(key(2))
    assert other is not None
    read(other)
    assert kept.find(key(2)) is other
    assert kept.find(key(1)) is None


def test_one_that_is_too_large_is_kept_alone() -> None:
    kept, large = KeptCatalogs(limit=10), catalog()
    kept.keep(key(1), catalog())
    kept.keep(key(2), large)
    assert kept.find(key(1)) is None
    assert kept.find(key(2)) is large
    read(large)
    assert kept.find(key(2)) is large
