from __future__ import annotations

import json
from typing import Any

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.protocol.jsonrpc import (
    MAX_BATCH,
    MAX_DEPTH,
    MAX_TOKENS,
    PARSE_ERROR,
    Call,
    Failure,
    Message,
    Notice,
    Success,
    Unreadable,
    failure,
    parse_loose,
    parse_strict,
    render,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=4)
ids = st.integers() | texts
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Call, ids, texts, objects),
    st.builds(Notice, texts, objects),
    st.builds(Success, ids, objects),
    st.builds(failure, st.none() | ids, st.integers(), texts, st.none() | objects),
)


@given(messages)
def test_what_is_rendered_parses_back(message: Message) -> None:
    assert parse_loose(render(message)) == (message,)
    assert b"\n" not in render(message)


def spaced(value: Any, space: str) -> str:
    return json.dumps(value, ensure_ascii=len(space) % 2 == 0, indent=space or None)


@pytest.mark.requirement("AP5")
@given(ids, texts, objects, st.sampled_from(["", " ", "\t", "  "]))
def test_what_was_inspected_is_what_a_second_parser_reads_of_what_we_send(
    id: str | int, method: str, params: dict[str, Any], space: str
) -> None:
    """A-P 5, on messages that are well formed."""
    body = spaced({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, space).encode()
    try:
        call = parse_strict(body)
    except Unreadable:
        return  # a key that differs from a known one in case only
    assert isinstance(call, Call)
    assert pydantic_core.from_json(render(call), allow_inf_nan=False) == {
        "jsonrpc": "2.0",
        "id": call.id,
        "method": call.method,
        "params": call.params,
    }


FRAGMENTS = rb"""
" { } [ ] : , \ \u \ud800 \udc00 \u0000 NaN Infinity -Infinity 1e400 -0 1E5 0.1 7 null true "jsonrpc" "2.0" "id" "ID"
"method" "params" "name" "Name" "arguments" {"a":1,"a":2} [[[[
""".split()
fragments = st.sampled_from([*FRAGMENTS, b" ", b"\n", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80"])
WELL_FORMED = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[1,"\xc3\xa9"]}}}'


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = WELL_FORMED
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 12)))
        body = body[:start] + draw(fragments) + body[end:]
    return body


@settings(max_examples=500)
@given(damaged())
def test_a_damaged_message_is_refused_or_means_the_same_to_two_parsers(body: bytes) -> None:
    """A-P 5: whatever arrives, what goes on is what was inspected, and nothing but `Unreadable` is raised."""
    try:
        message = parse_strict(body)
    except Unreadable:
        return
    if isinstance(message, tuple):
        return
    original = pydantic_core.from_json(body, allow_inf_nan=False)
    sent = pydantic_core.from_json(render(message), allow_inf_nan=False)
    assert all(sent[key] == original.get(key, {}) for key in sent)


@given(st.binary())
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    for parse in (parse_strict, parse_loose):
        try:
            parse(body)
        except Unreadable:
            pass


@pytest.mark.parametrize("parse", [parse_strict, parse_loose])
def test_depth_is_bounded_where_everybody_can_still_read(parse: Any) -> None:
    def nested(depth: int) -> bytes:
        return b'{"jsonrpc":"2.0","method":"m","params":' + b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1) + b"}"

    deepest = only(parse(nested(MAX_DEPTH - 1)))
    assert pydantic_core.from_json(render(deepest))["method"] == "m"
    for depth in (MAX_DEPTH, 500, 900, 990, 1000, 5000, 100_000):
        with pytest.raises(Unreadable, match="nested too deeply") as refused:
            parse(nested(depth))
        assert refused.value.code == PARSE_ERROR
    wide = b'{"jsonrpc":"2.0","method":"m","params":{"a":[' + b"[[]]," * 50_000 + b"1]}}"
    assert isinstance(only(parse(wide)), Notice)
    braces = b'{"jsonrpc":"2.0","method":"m","params":{"a":"' + b"[{" * 50_000 + b'"}}'
    assert isinstance(only(parse(braces)), Notice)


@pytest.mark.parametrize("parse", [parse_strict, parse_loose])
@pytest.mark.parametrize("many", [b"[],", b"{},", b"1,", b'"",', rb'"\\","\"",', b'{"a":1},'])
def test_what_would_keep_everybody_waiting_is_not_read(parse: Any, many: bytes) -> None:
    """16 MiB of empty lists stopped the whole process for three seconds and took 400 MB."""

    def message(value: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","method":"m","params":{"a":' + value + b"}}"

    few = MAX_TOKENS // len(many)
    assert isinstance(only(parse(message(b"[" + many * few + b"1]"))), Notice)
    with pytest.raises(Unreadable, match=f"more than {MAX_TOKENS}") as refused:
        parse(message(b"[" + many * MAX_TOKENS + b"1]"))
    assert refused.value.code == PARSE_ERROR
    as_text = json.dumps((many * MAX_TOKENS).decode()).encode()
    assert isinstance(only(parse(message(as_text))), Notice)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity", b"-Infinity", b"1" * 5000])
@pytest.mark.parametrize("parse", [parse_strict, parse_loose])
def test_a_number_that_cannot_be_written_again_is_not_read(parse: Any, number: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(b'{"jsonrpc":"2.0","id":1,"result":{"a":' + number + b"}}")


def test_an_upstreams_half_characters_stay_escaped_as_they_came() -> None:
    (message,) = parse_loose(b'{"jsonrpc":"2.0","id":1,"result":{"a":"\\ud800 \\u00e9"}}')
    assert render(message) == b'{"jsonrpc":"2.0","id":1,"result":{"a":"\\ud800 \\u00e9"}}'


def test_only_keys_that_we_act_on_may_not_vary_in_case() -> None:
    call = parse_strict(
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"arguments":{"a":1,"A":2,"ID":3},"x":1,"X":2}}'
    )
    assert isinstance(call, Call)
    assert call.params == {"arguments": {"a": 1, "A": 2, "ID": 3}, "x": 1, "X": 2}


@pytest.mark.parametrize(
    "error", ["x", [], {}, {"code": 1}, {"message": "m"}, {"code": "1", "message": "m"}, {"code": True, "message": "m"}]
)
def test_an_error_without_code_and_words_is_none(error: Any) -> None:
    with pytest.raises(Unreadable):
        parse_loose(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode())


def test_an_errors_unknown_fields_stay() -> None:
    (message,) = parse_loose(b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":null,"x":[]}}')
    assert message == Failure(1, {"code": -1, "message": "m", "data": None, "x": []})


def only(parsed: Any) -> Any:
    """The one message of what an upstream or a client sent."""
    return parsed[0] if isinstance(parsed, tuple) else parsed


def test_a_batch_is_read_part_by_part() -> None:
    parts = parse_strict(b'[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"},7,{"id":2}]')
    assert isinstance(parts, tuple)
    assert parts[:2] == (Call(1, "a", {}), Notice("b", {}))
    assert [type(part) for part in parts[2:]] == [Unreadable, Unreadable]


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_a_batch_is_bounded_and_not_empty(count: int) -> None:
    with pytest.raises(Unreadable, match="a batch holds"):
        parse_strict(json.dumps([{"jsonrpc": "2.0", "method": "m"}] * count).encode())


def test_an_upstream_may_answer_with_an_array() -> None:
    body = b'[{"jsonrpc":"2.0","method":"m"},{"jsonrpc":"2.0","id":1,"result":{}}]'
    assert parse_loose(body) == (Notice("m", {}), Success(1, {}))
    for bad in (b"[]", b"[1]", b'[{"jsonrpc":"2.0","id":1,"result":{}},{}]'):
        with pytest.raises(Unreadable):
            parse_loose(bad)
