from __future__ import annotations

from typing import Any

import pytest

from aggregator.protocol.older_content import for_older_client
from aggregator.protocol.revisions import FOR_CLIENTS

LINK = {"type": "resource_link", "uri": "x://1", "name": "one", "title": "One", "description": "The first"}
AUDIO = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
OTHER = [{"type": "text", "text": "x"}, {"type": "of-tomorrow"}, {"type": 7}, 7, None]


@pytest.mark.parametrize(
    ("revision", "kinds"),
    [
        ("2024-11-05", ["text", "text"]),
        ("2025-03-26", ["text", "audio"]),
        ("2025-06-18", ["resource_link", "audio"]),
        ("2025-11-25", ["resource_link", "audio"]),
        ("2026-07-28", ["resource_link", "audio"]),
    ],
)
def test_a_block_that_the_revision_lacks_becomes_words(revision: str, kinds: list[str]) -> None:
    result: dict[str, Any] = {"content": [LINK, AUDIO, *OTHER], "isError": False, "new": 1}
    shown = for_older_client("tools/call", result, revision)
    assert [block["type"] for block in shown["content"][:2]] == kinds
    assert (shown["content"][2:], shown["isError"], shown["new"]) == (OTHER, False, 1)
    if kinds[0] == "text":
        assert shown["content"][0]["text"] == "[resource x://1: One, one, The first]"
    messages: dict[str, Any] = {"messages": [{"role": "user", "content": block} for block in (LINK, AUDIO)]}
    got = for_older_client("prompts/get", messages, revision)["messages"]
    assert [(message["role"], message["content"]["type"]) for message in got] == [("user", kind) for kind in kinds]


@pytest.mark.parametrize("revision", FOR_CLIENTS)
@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("tools/call", {"content": OTHER}),
        ("tools/call", {"content": "x"}),
        ("prompts/get", {"messages": [7, {"content": OTHER[0]}, {"content": [LINK]}]}),
        ("resources/read", {"contents": [LINK]}),
    ],
)
def test_what_every_revision_can_read_is_the_same_object(revision: str, method: str, result: dict[str, Any]) -> None:
    assert for_older_client(method, result, revision) is result
