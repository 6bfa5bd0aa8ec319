"""What one listener keeps of what it heard; streams as such are shown in tests/web/mcp/test_listening.py."""

from __future__ import annotations

import pytest

from aggregator.upstream.streams import MAX_UPDATED, Ear


def ear_for(*uris: str) -> Ear:
    return Ear(frozenset(), lambda: None, {("up", uri) for uri in uris})


@pytest.mark.parametrize("uri", ["mem://a", "mem://a/part", "mem://a?part", "mem://a#part"])
def test_a_resource_and_its_parts_are_heard(uri: str) -> None:
    ear = ear_for("mem://a")
    ear.hear_update("up", uri)
    assert ear.take() == (frozenset(), frozenset({("up", uri)}))
    assert ear.take() == (frozenset(), frozenset())


@pytest.mark.parametrize(("upstream", "uri"), [("up", "mem://ab"), ("up", "mem://"), ("other", "mem://a")])
def test_what_nobody_asked_for_is_not_heard(upstream: str, uri: str) -> None:
    ear = ear_for("mem://a")
    ear.hear_update(upstream, uri)
    assert ear.take() == (frozenset(), frozenset())


def test_an_upstream_that_invents_parts_without_end_takes_little_memory() -> None:
    ear = ear_for("mem://a")
    for number in range(3 * MAX_UPDATED):
        ear.hear_update("up", f"mem://a/{number}")
    _, updated = ear.take()
    assert len(updated) == MAX_UPDATED + 1
    assert ("up", "mem://a") in updated
