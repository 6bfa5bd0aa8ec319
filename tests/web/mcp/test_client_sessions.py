from __future__ import annotations

import pytest

from aggregator.errors import Refusal
from aggregator.protocol.principal import Principal
from aggregator.protocol.revisions import HANDSHAKE
from aggregator.protocol.sealing import KeyRing, Purpose
from aggregator.store.session_rows import SetLevel
from aggregator.web.mcp.client_sessions import LIFETIME, REMEMBERED
from aggregator.web.mcp.session_states import REMEMBERED as STATES

from ...fakes.sessions import open_sessions, open_states

NOW = 1_800_000_000.0
KEYS = KeyRing([bytes(32)])
ALICE, BOB = Principal("https://idp", "alice"), Principal("https://idp", "bob")

pytestmark = pytest.mark.requirement("RS6")


def test_any_instance_with_the_keys_opens_a_session_and_sees_the_same() -> None:
    text = open_sessions(KEYS).begin(ALICE, HANDSHAKE, {"sampling": {}, "x" * 99: {}}, now=NOW)
    sessions = open_sessions(KeyRing([bytes(range(32)), bytes(32)]))
    found = sessions.find(text, ALICE, now=NOW + 1)
    assert found == sessions.find(text, ALICE, now=NOW + 2)
    assert (found.revision, found.capabilities, found.owner) == ("2025-11-25", {"sampling": {}}, ALICE.key)


def test_sessions_differ_and_fit_into_a_header() -> None:
    sessions = open_sessions(KEYS)
    huge = {f"capability-{i}": {"deep": "x" * 1000} for i in range(500)}
    texts = {sessions.begin(ALICE, HANDSHAKE, huge, now=NOW) for _ in range(10)}
    assert len(texts) == 10
    assert all(text.isascii() and text.isprintable() and len(text) < 2000 for text in texts)
    assert len({sessions.find(text, ALICE, now=NOW).id for text in texts}) == 10


@pytest.mark.parametrize("first", [ALICE, BOB])
def test_a_session_is_its_owners_only_whoever_came_first(first: Principal) -> None:
    sessions = open_sessions(KEYS)
    text = sessions.begin(ALICE, HANDSHAKE, {}, now=NOW)
    strangers = [BOB, Principal("https://other", "alice"), Principal("https://idp", "Alice")]
    for who in (first, *strangers, ALICE, *strangers):
        if who == ALICE:
            sessions.find(text, who, now=NOW)
        else:
            with pytest.raises(Refusal) as refused:
                sessions.find(text, who, now=NOW)
            assert refused.value.status == 404


@pytest.mark.parametrize("payload", [{}, {"id": "a", "rev": "b", "caps": []}, {"id": "a", "who": "me", "caps": None}])
def test_a_session_that_another_version_sealed_is_none(payload: dict[str, object]) -> None:
    text = KEYS.seal(Purpose.SESSION, payload, now=NOW, lifetime=60)
    with pytest.raises(Refusal) as refused:
        open_sessions(KEYS).find(text, ALICE, now=NOW)
    assert refused.value.status == 404


def test_what_we_did_not_seal_as_a_session_is_none() -> None:
    sessions = open_sessions(KEYS)
    text = sessions.begin(ALICE, HANDSHAKE, {}, now=NOW)
    other_purpose = KEYS.seal(Purpose.CURSOR, {"who": ["https://idp", "alice"]}, now=NOW, lifetime=60)
    other_keys = open_sessions(KeyRing([bytes(range(32))])).begin(ALICE, HANDSHAKE, {}, now=NOW)
    for wrong in (
        "",
        "x",
        "é",
        text[:-1],
        text + "A",
        text.swapcase(),
        "." + text,
        other_purpose,
        other_keys,
        "a" * 99_999,
    ):
        with pytest.raises(Refusal) as refused:
            sessions.find(wrong, ALICE, now=NOW)
        assert refused.value.status == 404


def test_a_session_ends_even_where_it_is_remembered() -> None:
    sessions = open_sessions(KEYS)
    text = sessions.begin(ALICE, HANDSHAKE, {}, now=NOW)
    sessions.find(text, ALICE, now=NOW + LIFETIME - 1)
    with pytest.raises(Refusal):
        sessions.find(text, ALICE, now=NOW + LIFETIME)
    with pytest.raises(Refusal):
        open_sessions(KEYS).find(text, ALICE, now=NOW + LIFETIME)


async def test_a_level_belongs_to_its_session() -> None:
    sessions = open_sessions(KEYS)
    one, two = (sessions.find(sessions.begin(ALICE, HANDSHAKE, {}, now=NOW), ALICE, now=NOW) for _ in range(2))
    assert await sessions.change(one, SetLevel("error"))
    assert (sessions.level(one), sessions.level(two), sessions.level(None)) == ("error", None, None)


def test_what_is_remembered_is_bounded() -> None:
    sessions = open_sessions(KEYS)
    for _ in range(REMEMBERED + 10):
        sessions.find(sessions.begin(ALICE, HANDSHAKE, {}, now=NOW), ALICE, now=NOW)
    assert len(sessions._opened) == REMEMBERED


async def test_states_are_bounded_and_those_of_open_streams_stay() -> None:
    held = open_states()
    await held.change("mine", ALICE.key, SetLevel("info"), expires_at=NOW + 60)
    with held.watched("mine", lambda: None):
        for i in range(STATES + 10):
            held.begun(str(i))
        assert len(held) == STATES
        assert held.find("mine").level == "info"


def test_a_session_of_a_dropped_key_has_ended_even_where_it_is_remembered() -> None:
    old, new = bytes(32), bytes(range(32))
    keys = KeyRing([old])
    sessions = open_sessions(keys)
    text = sessions.begin(ALICE, HANDSHAKE, {}, now=NOW)
    sessions.find(text, ALICE, now=NOW)
    keys.replace([new, old])
    sessions.find(text, ALICE, now=NOW)
    keys.replace([new])
    with pytest.raises(Refusal) as refused:
        sessions.find(text, ALICE, now=NOW)
    assert refused.value.status == 404
