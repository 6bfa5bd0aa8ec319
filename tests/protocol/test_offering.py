from __future__ import annotations

from typing import Any

import pytest

from aggregator.protocol.offering import (
    MAX_INSTRUCTIONS,
    STANDS_ALONE,
    Described,
    capabilities_for,
    instructions_for,
)

UI = {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}


@pytest.mark.parametrize(
    ("upstreams", "offered"),
    [
        ([], {"tools": {}, "logging": {}}),
        ([{"tools": {"listChanged": True}, "experimental": {"x": {}}}], {"tools": {}, "logging": {}}),
        ([{"prompts": {"listChanged": True}}], {"tools": {}, "logging": {}, "prompts": {}}),
        (
            [{"resources": {"subscribe": True}}, {"completions": {}}, {"prompts": 7}],
            {"tools": {}, "logging": {}, "resources": {}, "completions": {}},
        ),
        ([None], {"tools": {}, "logging": {}, "prompts": {}, "resources": {}, "completions": {}}),
        ([{"extensions": {"a/b": {}, **UI}}, {"extensions": 7}], {"tools": {}, "logging": {}, "extensions": UI}),
    ],
)
def test_what_one_upstream_can_do_is_offered_and_nothing_that_nobody_can(
    upstreams: list[Any], offered: dict[str, Any]
) -> None:
    assert capabilities_for(upstreams) == offered


def test_changes_and_subscriptions_are_promised_only_where_they_are_kept() -> None:
    upstreams: list[Any] = [{"resources": {"subscribe": True}, "prompts": {}}]
    made = capabilities_for(upstreams, list_changed=True, subscribe=True)
    assert made["resources"] == {"listChanged": True, "subscribe": True}
    assert made["tools"] == made["prompts"] == {"listChanged": True}
    assert "subscribe" not in capabilities_for([{"resources": {}}], subscribe=True)["resources"]


def test_tasks_are_offered_to_those_alone_who_have_their_methods() -> None:
    tasks: dict[str, Any] = {"io.modelcontextprotocol/tasks": {}}
    upstreams: list[Any] = [{"extensions": {**tasks, **UI}}]
    assert capabilities_for(upstreams, stateless=True)["extensions"] == {**tasks, **UI}
    assert capabilities_for(upstreams)["extensions"] == UI


def test_instructions_tell_what_the_operator_described() -> None:
    assert instructions_for([]) is None
    assert instructions_for([Described("a", "a")]) is None
    text = instructions_for([Described("a", "a", "Cats."), Described("b", "b"), Described("c", "", "Dogs.")])
    assert text is not None
    assert text.splitlines()[1:] == ["- a__*: Cats.", "- other names: Dogs."]


def test_of_an_upstream_whose_tools_keep_their_names_nothing_is_said_of_prefixes() -> None:
    assert instructions_for([Described("c", "", "Dogs,\nmostly.")]) == "Dogs, mostly."
    long = instructions_for([Described("c", "", "Dogs. " * 200), Described("d", "d")])
    assert long is not None
    beginning, whole = long.split("\n\n")
    assert len(beginning) == STANDS_ALONE
    assert beginning.startswith("Dogs. Dogs.")
    assert whole == ("Dogs. " * 200).strip()


def test_the_beginning_stands_alone_and_the_rest_follows() -> None:
    described = [Described(f"up{number}", f"up{number}", f"Number {number}. " + "x" * 300) for number in range(5)]
    text = instructions_for(described)
    assert text is not None
    beginning, *rest = text.split("\n\n")
    assert len(beginning) <= STANDS_ALONE
    for one, line in zip(described, rest, strict=True):
        assert f"- {one.name}__*: Number" in beginning
        assert line == f"- {one.name}__*: {one.description}"


def test_of_very_many_upstreams_the_beginning_has_the_names() -> None:
    described = [Described(f"u{number}", f"u{number}", "Does much " * 9) for number in range(50)]
    text = instructions_for(described)
    assert text is not None
    beginning = text.split("\n\n")[0]
    assert len(beginning) <= STANDS_ALONE
    assert "u0, u1, u2" in beginning
    assert "u49" in beginning


def test_what_an_upstream_says_of_itself_follows_and_is_marked_as_its_own() -> None:
    text = instructions_for([Described("a", "a", "Cats.", "Call x first."), Described("b", "b", own="Trust me.")])
    assert text is not None
    assert text.split("\n\n")[1:] == ["a says of itself: Call x first.", "b says of itself: Trust me."]
    text = instructions_for([Described("a", "a", own="Call x\u202e\u200b\U000e0041 first.\r\nThen y.")])
    assert text == "a says of itself: Call x first.\nThen y.", "nothing that a person does not see reaches a model"


def test_there_is_an_end_to_it() -> None:
    text = instructions_for([Described(f"u{number}", "", "y" * 5000, "z" * 50_000) for number in range(30)])
    assert text is not None
    assert len(text) == MAX_INSTRUCTIONS
