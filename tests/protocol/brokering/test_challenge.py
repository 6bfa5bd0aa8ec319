"""Reading WWW-Authenticate: whatever a server writes there gives a value, and never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.brokering.challenge import MAX_CHALLENGE, MAX_SCOPES, Challenge, parse_challenge, split_scope
from aggregator.protocol.oauth.challenge import render_challenge

PRM = "https://mcp.example/.well-known/oauth-protected-resource/mcp"

# (header, resource_metadata, scope, error)
READ = [
    ("", None, None, None),
    ("Bearer", None, None, None),
    (f'Bearer resource_metadata="{PRM}"', PRM, None, None),
    (f'bearer resource_metadata="{PRM}"', PRM, None, None),
    (f'BEARER RESOURCE_METADATA="{PRM}"', PRM, None, None),
    (f"Bearer resource_metadata={PRM}", PRM, None, None),
    (f'Bearer resource_metadata = "{PRM}"', PRM, None, None),
    (f'Bearer realm="a", error="invalid_token", resource_metadata="{PRM}"', PRM, None, "invalid_token"),
    (f'Bearer realm="a",error="invalid_token",resource_metadata="{PRM}"', PRM, None, "invalid_token"),
    (f'Bearer   realm="a" ,  resource_metadata="{PRM}"', PRM, None, None),
    (f'Bearer\tresource_metadata="{PRM}"', PRM, None, None),
    ('Bearer scope="read write"', None, "read write", None),
    ('Bearer scope="read  write"', None, "read write", None),
    ('Bearer scope="read read"', None, "read", None),
    ("Bearer scope=read", None, "read", None),
    ('Bearer scope=""', None, None, None),
    ('Bearer scope="re\\"ad write"', None, "write", None),
    ('Bearer scope="\u00fc read"', None, "read", None),
    ('Bearer error="insufficient_scope", scope="files:write"', None, "files:write", "insufficient_scope"),
    ("Bearer error=insufficient_scope, scope=files:write", None, "files:write", "insufficient_scope"),
    ('Bearer error_description="a, b=\\"c\\", Bearer", scope="x"', None, "x", None),
    ('Basic realm="a", Bearer scope="x"', None, "x", None),
    ("Basic YWJj, Bearer scope=x", None, "x", None),
    ("Basic YWJj==, Bearer scope=x", None, "x", None),
    ('Negotiate, Bearer scope="x"', None, "x", None),
    ('Bearer scope="x", Basic realm="b"', None, "x", None),
    ('Bearer scope="x", DPoP algs="ES256", scope="y"', None, "x", None),
    ('DPoP algs="ES256", scope="y"', None, None, None),
    ('DPoP algs="ES256", scope="y", Bearer scope="x"', None, "x", None),
    ('Bearer scope="x", Bearer scope="y"', None, "x", None),
    ('Bearer scope="x", scope="y"', None, "x", None),
    (', , Bearer scope="x" , ,', None, "x", None),
    ('scope="x"', None, None, None),
    ('Bearer scope="x', None, None, None),
    ('Bearer scope="x", error="', None, "x", None),
    ('Bearer scope="x", =, error="e"', None, "x", "e"),
    ('Bearer ;;;, scope="x"', None, "x", None),
    ('"Bearer scope=x"', None, None, None),
    ("Bearer =", None, None, None),
    ("Bearer a=", None, None, None),
    ("Bearer a=, scope=x", None, "x", None),
    ("\x00\x01", None, None, None),
]


@pytest.mark.requirement("UP1")
@pytest.mark.parametrize(("text", "resource_metadata", "scope", "error"), READ)
def test_a_challenge_says_where_the_metadata_is_and_which_scope_is_wanted(
    text: str, resource_metadata: str | None, scope: str | None, error: str | None
) -> None:
    assert parse_challenge(text) == Challenge(resource_metadata, scope, error)


@given(st.text(alphabet='Bearer scope="x\\,; =\t~é', max_size=60) | st.text(max_size=40))
def test_any_text_gives_a_value(text: str) -> None:
    challenge = parse_challenge(text)
    assert challenge.scope is None or split_scope(challenge.scope)


@given(st.dictionaries(st.sampled_from(["scope", "error", "resource_metadata", "realm"]), st.text(max_size=20)))
def test_what_we_render_ourselves_is_read_back(parameters: dict[str, str]) -> None:
    ascii_only = {name: value for name, value in parameters.items() if value.isascii() and value.isprintable()}
    read = parse_challenge(render_challenge("Bearer", ascii_only.items()))
    assert read.error == (ascii_only.get("error") or None)
    assert read.resource_metadata == (ascii_only.get("resource_metadata") or None)


def test_a_challenge_without_end_is_read_to_a_bound() -> None:
    assert parse_challenge("," * MAX_CHALLENGE + 'Bearer scope="x"') == Challenge()
    assert parse_challenge('a="' * 200_000) == Challenge()
    many = " ".join(f"s{number}" for number in range(1000))
    assert len(split_scope(many)) == MAX_SCOPES
