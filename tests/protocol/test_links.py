from __future__ import annotations

from typing import Any

import pytest

from aggregator.protocol.links import (
    ui_uris,
    with_own_uris,
    with_published_links,
    with_published_notice,
    with_published_ui,
)

Json = dict[str, Any]

LINK = {"type": "resource_link", "uri": "ui://x", "name": "x", "new": 1}
EMBEDDED = {"type": "resource", "resource": {"uri": "ui://x", "text": "ui://x", "new": 1}, "annotations": {}}
TEXT = {"type": "text", "text": "ui://x", "uri": "ui://x"}


def shown(value: Any) -> Any:
    """What is shown of anything that holds ``ui://x`` as a URI."""
    if isinstance(value, dict):
        if value.get("type") == "text":
            return value
        return {key: inner if key == "text" else shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    return "ui://u.gateway/x" if value == "ui://x" else value


def publish(uri: str) -> str:
    return "ui://u.gateway/x" if uri == "ui://x" else uri


RESULTS = [
    ("tools/call", {"content": [TEXT, LINK, EMBEDDED, 7], "new": "ui://x?"}),
    ("tools/call", {"content": [], "_meta": {"ui": {"resourceUri": "ui://x", "csp": {}}, "a/b": 1}}),
    ("tools/call", {"_meta": {"ui/resourceUri": "ui://x", "openai/outputTemplate": "ui://x"}}),
    ("prompts/get", {"messages": [{"role": "user", "content": EMBEDDED}, {"role": "user", "content": [LINK, TEXT]}]}),
    ("resources/read", {"contents": [{"uri": "ui://x", "text": "ui://x", "_meta": {"ui": {}}}], "ttlMs": 5}),
]


@pytest.mark.parametrize(("method", "result"), RESULTS)
def test_each_place_of_a_uri_is_rewritten_and_nothing_else(method: str, result: Json) -> None:
    before = repr(result)
    assert with_published_links(method, result, publish) == shown(result) != result
    assert repr(result) == before, "what came is not changed"


@pytest.mark.parametrize(("method", "result"), RESULTS)
def test_a_result_that_needs_no_other_uri_is_the_same_object(method: str, result: Json) -> None:
    assert with_published_links(method, result, lambda uri: uri) is result


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("tools/call", {"content": "x"}),
        ("tools/call", {"content": [{"type": "resource", "resource": "ui://x"}, {"type": "resource_link"}]}),
        ("tools/call", {"_meta": 7, "structuredContent": {"uri": "ui://x"}}),
        ("tools/call", {"_meta": {"ui": "ui://x"}}),
        ("prompts/get", {"messages": [{"role": "user", "content": 7}, "x"]}),
        ("resources/read", {"contents": [{"uri": 7}, None]}),
        ("completion/complete", {"completion": {"values": ["ui://x"]}}),
    ],
)
def test_what_has_another_form_travels_as_it_came(method: str, result: Json) -> None:
    assert with_published_links(method, result, publish) is result


def test_the_pages_of_a_tool_are_found_wherever_a_tool_may_name_them() -> None:
    tool = {"_meta": {"ui": {"resourceUri": "ui://1"}, "ui/resourceUri": "ui://2", "openai/outputTemplate": "ui://3"}}
    assert sorted(ui_uris(tool)) == ["ui://1", "ui://2", "ui://3"]
    others: list[Json] = [{}, {"_meta": 7}, {"_meta": {"ui": {"resourceUri": 7}}}, {"_meta": {"ui": []}}]
    for other in others:
        assert ui_uris(other) == []
        assert with_published_ui(other, publish) is other


def test_a_notice_names_the_published_uri() -> None:
    assert with_published_notice({"uri": "ui://x", "a": 1}, publish) == {"uri": "ui://u.gateway/x", "a": 1}


def test_an_argument_that_is_a_published_uri_is_the_upstreams_own_again() -> None:
    def own(text: str) -> str:
        return "ui://x" if text == "ui://u.gateway/x" else text

    arguments: Json = {
        "a": "ui://u.gateway/x",
        "b": [{"c": ["ui://u.gateway/x", 1]}],
        "d": "see ui://u.gateway/x",
        "e": {},
    }
    assert with_own_uris(arguments, own) == {
        "a": "ui://x",
        "b": [{"c": ["ui://x", 1]}],
        "d": "see ui://u.gateway/x",
        "e": {},
    }
    assert arguments["a"] == "ui://u.gateway/x", "what the client sent stays what it was"
    plain: Json = {"a": "ui://x", "b": [{"c": [None, 1.5]}]}
    assert with_own_uris(plain, own) is plain
