from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.protocol.paging import KINDS, PAGE, Item, Kind, Paged, parse_cursor, render_cursor
from aggregator.protocol.revisions import HANDSHAKE, STATELESS

SERVER = {"name": "us"}


def read(paged: Paged, revision: str = HANDSHAKE, cursor: str | None = None) -> dict[str, Any]:
    beginning, rest = paged.page(revision, cursor, ttl=5, server=SERVER)
    message: dict[str, dict[str, Any]] = json.loads(b'{"result":' + beginning + rest)
    return message["result"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1])
def test_pages_cover_the_list_once(kind: Kind, count: int) -> None:
    paged = Paged(kind, tuple(Item({"name": f"t{i}"}) for i in range(count)))
    found: list[str] = []
    cursor = None
    for _ in range(5):
        page = read(paged, cursor=cursor)
        assert len(page[kind]) <= PAGE
        found += [item["name"] for item in page[kind]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert found == [f"t{i}" for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cursor_into_a_list_that_has_become_shorter_ends_it(kind: Kind) -> None:
    assert read(Paged(kind, (Item({"name": "a"}),)), cursor=render_cursor(PAGE * 7, kind)) == {kind: []}


def test_an_empty_cursor_is_none() -> None:
    assert read(Paged("tools", (Item({"name": "a"}),)), cursor="") == {"tools": [{"name": "a"}]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stateless_client_is_told_for_how_long_and_for_whom_a_page_is_good(kind: Kind) -> None:
    page = read(Paged(kind, (Item({"name": "a"}),)), STATELESS)
    assert (page["ttlMs"], page["cacheScope"], page["resultType"]) == (5, "private", "complete")
    assert set(read(Paged(kind, (Item({"name": "a"}),)))) == {kind}


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "\ud800",
        "t1000",
        "dDA=",
        "dC0xMDAw",
        "dDk5OQ==",
        "dDEwMDA",
        "dDEwMDA=\n",
        "dCAxMDAw",
        "dDEwXzAw",
        "A" * 9999,
    ],
)
def test_a_cursor_that_we_did_not_make_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="none of ours"):
        parse_cursor(cursor)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cursor_comes_back_and_is_good_for_lists_of_its_kind_only(kind: Kind) -> None:
    assert parse_cursor(render_cursor(3 * PAGE, kind), kind) == 3 * PAGE
    for other in KINDS:
        if other != kind:
            with pytest.raises(ValueError, match="none of ours"):
                parse_cursor(render_cursor(3 * PAGE, kind), other)
