"""Which headers a message of stdio has as the body of a POST."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.bridging import Session, annotated_tools, post_headers, stateless_revision
from aggregator.protocol.headers import check_envelope, check_parameters
from aggregator.protocol.jsonrpc import Call, Notice, Success

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
SESSION = Session("s1", "2025-11-25")
HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def call(method: str, **params: Any) -> Call:
    return Call(1, method, params)


@pytest.mark.parametrize(
    ("message", "revision"),
    [
        (call("tools/call", _meta=META), "2026-07-28"),
        (call("tools/call", _meta={**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}), "2099-01-01"),
        (call("tools/call", _meta={"progressToken": 1}), None),
        (call("tools/call", _meta={"io.modelcontextprotocol/protocolVersion": 7}), None),
        (call("tools/call", _meta=None), None),
        (call("ping"), None),
        (Notice("notifications/initialized", {"_meta": META}), None),
        (Success(1, {}), None),
    ],
)
def test_only_a_request_names_a_revision_in_itself(message: Any, revision: str | None) -> None:
    assert stateless_revision(message) == revision


def test_a_message_of_a_session_names_it_and_its_revision() -> None:
    for message in (call("ping"), Notice("notifications/cancelled", {}), Success(1, {})):
        headers = post_headers(message, SESSION, {})
        assert (headers["mcp-session-id"], headers["mcp-protocol-version"]) == ("s1", "2025-11-25")
        assert "mcp-method" not in headers


def test_before_a_session_nothing_is_named_and_without_ids_only_the_revision() -> None:
    assert set(post_headers(call("initialize"), None, {})) == {"content-type", "accept"}
    assert Session(None, "2025-03-26").headers == {"mcp-protocol-version": "2025-03-26"}


def test_only_good_annotations_of_a_page_are_remembered() -> None:
    def tool(name: Any, header: Any) -> dict[str, Any]:
        properties = {"a": {"type": "string", "x-mcp-header": header}}
        return {"name": name, "inputSchema": {"type": "object", "properties": properties}}

    found = annotated_tools(
        {"tools": [tool("good", "A"), tool("bad", "no token"), tool(7, "A"), "x", {"name": "plain"}]}
    )
    assert found == {"good": ((("a",), "A", "string"),), "plain": ()}
    assert annotated_tools({"tools": "none"}) == {}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


@given(name=TEXTS, value=st.one_of(TEXTS, st.booleans(), st.integers(-(2**53), 2**53), st.none()))
def test_whatever_is_called_the_headers_agree_with_the_body_and_are_headers(name: str, value: Any) -> None:
    kind = "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    tools = {name: ((("a",), "A", kind),)}
    message = call("tools/call", name=name, arguments={"a": value}, _meta=META)
    headers = post_headers(message, SESSION, tools)
    check_envelope(message.method, message.params, headers)
    check_parameters(tools[name], message.params["arguments"], headers)
    assert all(HEADER_VALUE.fullmatch(text) for text in headers.values())


@given(method=TEXTS, revision=TEXTS)
def test_no_text_of_a_client_or_a_server_breaks_a_header(method: str, revision: str) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": revision}
    for headers in (post_headers(call(method, _meta=meta), None, {}), Session("s", revision).headers):
        assert all(HEADER_VALUE.fullmatch(text) for text in headers.values())
