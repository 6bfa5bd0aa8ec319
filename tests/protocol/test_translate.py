from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.revisions import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    ENVELOPE_KEYS,
    HANDSHAKE,
    LOG_LEVEL_KEY,
    PROTOCOL_VERSION_KEY,
    SERVER_INFO_KEY,
    STATELESS,
)
from aggregator.protocol.translate import (
    DEFAULT_LOG_LEVEL,
    Envelope,
    params_for_upstream,
    read_envelope,
    result_for_client,
    signed,
    text_result,
    tool_error,
)

CLIENT = {"name": "us"}
BOTH = (STATELESS, HANDSHAKE)
texts = st.text(max_size=5)
values = st.recursive(
    st.none() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5
)
objects = st.dictionaries(texts, values, max_size=3)


@given(objects, objects, st.sampled_from(BOTH), st.sampled_from(BOTH), st.none() | st.just("ours"))
def test_whatever_is_not_the_envelopes_travels_as_it_came(
    params: dict[str, Any], meta: dict[str, Any], client: str, upstream: str, token: str | None
) -> None:
    kept = {key: value for key, value in meta.items() if key != "progressToken"}
    envelope = Envelope(client, {"elicitation": {}}, "theirs", None)
    foreign = {PROTOCOL_VERSION_KEY: "x", CLIENT_INFO_KEY: "secret", "progressToken": "theirs"}
    sent = params_for_upstream({**params, "_meta": {**meta, **foreign}}, upstream, envelope, token=token, client=CLIENT)
    sent_meta = sent.pop("_meta", {})
    params.pop("_meta", None)
    assert sent == params
    assert {key: value for key, value in sent_meta.items() if key not in {*ENVELOPE_KEYS, "progressToken"}} == kept
    assert sent_meta.get("progressToken") == token
    if upstream == STATELESS:
        assert (sent_meta[PROTOCOL_VERSION_KEY], sent_meta[CLIENT_INFO_KEY]) == (STATELESS, CLIENT)
        assert sent_meta[CLIENT_CAPABILITIES_KEY] == ({"elicitation": {}} if client == STATELESS else {})
    else:
        assert not ENVELOPE_KEYS & set(sent_meta)


@pytest.mark.parametrize("meta", [None, [], "x", 7])
def test_a_meta_of_another_kind_is_replaced(meta: Any) -> None:
    assert read_envelope({"_meta": meta}, HANDSHAKE, log_level="error") == Envelope(HANDSHAKE, {}, None, "error")
    sent = params_for_upstream({"_meta": meta}, HANDSHAKE, Envelope(HANDSHAKE, {}), token=None, client=CLIENT)
    assert sent == {}


@pytest.mark.parametrize(
    ("token", "read"), [("a", "a"), (0, 0), ("", ""), (True, None), (1.5, None), ([], None), (None, None)]
)
def test_a_progress_token_is_a_text_or_an_integer(token: Any, read: Any) -> None:
    assert read_envelope({"_meta": {"progressToken": token}}, STATELESS).progress_token == read


def test_a_log_level_is_the_requests_or_the_sessions() -> None:
    params = {"_meta": {LOG_LEVEL_KEY: "debug"}}
    assert read_envelope(params, STATELESS, log_level="error").log_level == "debug"
    assert read_envelope(params, HANDSHAKE, log_level="error").log_level == "error"
    assert read_envelope({"_meta": {LOG_LEVEL_KEY: 7}}, STATELESS).log_level is None


@pytest.mark.parametrize(
    ("client", "level", "sent"),
    [
        (STATELESS, None, None),
        (STATELESS, "error", "error"),
        (HANDSHAKE, None, DEFAULT_LOG_LEVEL),
        (HANDSHAKE, "debug", "debug"),
    ],
)
def test_a_stateless_upstream_logs_for_whom_it_may(client: str, level: str | None, sent: str | None) -> None:
    made = params_for_upstream({}, STATELESS, Envelope(client, {}, None, level), token=None, client=CLIENT)
    assert made["_meta"].get(LOG_LEVEL_KEY) == sent


RESULT: dict[str, Any] = {"content": [{"type": "of-tomorrow"}], "x": [1], "_meta": {"a/b": 1}}


@pytest.mark.parametrize(
    ("result", "upstream", "client", "shown"),
    [
        (RESULT, HANDSHAKE, HANDSHAKE, RESULT),
        (RESULT, HANDSHAKE, STATELESS, {**RESULT, "resultType": "complete"}),
        (RESULT, STATELESS, STATELESS, {**RESULT, "resultType": "complete"}),
        (RESULT, STATELESS, HANDSHAKE, RESULT),
        ({**RESULT, "resultType": "task"}, STATELESS, STATELESS, {**RESULT, "resultType": "task"}),
        ({**RESULT, "resultType": "task"}, STATELESS, HANDSHAKE, None),
        ({**RESULT, "resultType": "input_required"}, STATELESS, HANDSHAKE, None),
        ({**RESULT, "resultType": ["complete"]}, STATELESS, HANDSHAKE, None),
        ({**RESULT, "resultType": "input_required"}, HANDSHAKE, STATELESS, {**RESULT, "resultType": "complete"}),
        ({**RESULT, "resultType": "complete", "ttlMs": 1, "cacheScope": "public"}, STATELESS, HANDSHAKE, RESULT),
        ({"_meta": {SERVER_INFO_KEY: {}}}, STATELESS, HANDSHAKE, {"content": []}),
        ({"_meta": {SERVER_INFO_KEY: {}, "a": 1}}, STATELESS, HANDSHAKE, {"content": [], "_meta": {"a": 1}}),
        ({"_meta": 7}, STATELESS, HANDSHAKE, {"content": [], "_meta": 7}),
        ({"structuredContent": {"a": 1}}, STATELESS, HANDSHAKE, {"content": [], "structuredContent": {"a": 1}}),
        ({"structuredContent": 7}, STATELESS, HANDSHAKE, {"content": [{"type": "text", "text": "7"}]}),
        ({**RESULT, "structuredContent": 7}, STATELESS, HANDSHAKE, RESULT),
        ({"structuredContent": 7}, STATELESS, STATELESS, {"structuredContent": 7, "resultType": "complete"}),
    ],
)
def test_a_result_is_shown_in_the_clients_revision(result: Any, upstream: str, client: str, shown: Any) -> None:
    before = dict(result)
    assert result_for_client(result, upstream, client) == shown
    assert result == before, "what came is not changed"


def test_our_signature_takes_the_place_of_an_upstreams() -> None:
    assert signed({"a": 1}, CLIENT) == {"a": 1, "_meta": {SERVER_INFO_KEY: CLIENT}}
    assert signed({"_meta": {SERVER_INFO_KEY: {"name": "them"}, "b": 2}}, CLIENT) == {
        "_meta": {SERVER_INFO_KEY: CLIENT, "b": 2}
    }
    assert signed({"_meta": 7}, CLIENT) == {"_meta": {SERVER_INFO_KEY: CLIENT}}


def test_our_own_results_have_the_form_of_the_revision() -> None:
    block = [{"type": "text", "text": "x"}]
    assert tool_error("x", HANDSHAKE) == {"content": block, "isError": True}
    assert tool_error("x", STATELESS) == {"content": block, "isError": True, "resultType": "complete"}
    assert text_result("x", HANDSHAKE) == {"content": block, "isError": False}
    assert text_result("x", STATELESS)["resultType"] == "complete"
