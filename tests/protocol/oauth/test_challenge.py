"""Bearer credentials read, and WWW-Authenticate written so that it reads back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.challenge import (
    bearer_token,
    insufficient_scope,
    invalid_token,
    no_credentials,
    render_challenge,
    token_in_two_places,
)
from aggregator.protocol.oauth.site import site_of

from .values import SITE

METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


def challenge(refusal: Refusal) -> str:
    return dict(refusal.headers)["www-authenticate"]


@pytest.mark.requirement("RS7")
@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_may_be_written_in_any_case(scheme: bytes) -> None:
    assert bearer_token(scheme + b" abc", SITE) == "abc"


@pytest.mark.requirement("RS7")
@pytest.mark.parametrize("token", [b"a", b"a.b-c_d~e+f/g", b"abc==", b"a" * 5000])
def test_a_token_is_token68(token: bytes) -> None:
    assert bearer_token(b"Bearer " + token, SITE) == token.decode()
    assert bearer_token(b" Bearer   " + token + b" ", SITE) == token.decode()


@pytest.mark.requirement("RS1", "RS7")
@pytest.mark.parametrize(
    "value", [b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer =a", b"Bearer a,b", b'Bearer "a"', b"Bearer \xff"]
)
def test_anything_else_after_bearer_is_an_invalid_token(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        bearer_token(value, SITE)
    assert caught.value.status == 401
    assert 'error="invalid_token"' in challenge(caught.value)


@pytest.mark.requirement("RS1")
@pytest.mark.parametrize("value", [b"", b"Basic abc", b"DPoP abc", b"abc", b"Bearerabc", b"\xff"])
def test_other_credentials_are_no_bearer_credentials(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        bearer_token(value, SITE)
    assert caught.value.status == 401
    assert "error=" not in challenge(caught.value)


@pytest.mark.requirement("RS1", "RS2", "RS8")
def test_without_credentials_the_challenge_says_where_and_no_error() -> None:
    refusal = no_credentials(SITE)
    assert refusal.status == 401
    assert challenge(refusal) == f'Bearer scope="mcp:tools", resource_metadata="{METADATA}"'


@pytest.mark.requirement("RS1", "RS2")
def test_with_a_bad_token_the_challenge_says_so() -> None:
    assert invalid_token(SITE).status == 401
    assert re.fullmatch(
        r'Bearer error="invalid_token", error_description="[^"]+", scope="mcp:tools", '
        rf'resource_metadata="{re.escape(METADATA)}"',
        challenge(invalid_token(SITE)),
    )


@pytest.mark.requirement("RS1", "RS3")
def test_lack_of_scope_is_403_and_two_tokens_are_400() -> None:
    assert insufficient_scope(SITE).status == 403
    assert challenge(insufficient_scope(SITE)).startswith('Bearer error="insufficient_scope"')
    assert 'scope="mcp:tools"' in challenge(insufficient_scope(SITE))
    assert token_in_two_places(SITE).status == 400
    assert challenge(token_in_two_places(SITE)).startswith('Bearer error="invalid_request"')


@pytest.mark.requirement("RS2")
def test_the_metadata_of_a_path_issuer_stands_between_host_and_path() -> None:
    assert 'resource_metadata="https://h.example/.well-known/oauth-protected-resource/team/mcp"' in challenge(
        no_credentials(site_of("https://h.example/team"))
    )


_PAIR = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:, |$)')


@pytest.mark.requirement("AP6")
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["realm", "scope", "error"]), st.text(st.characters(max_codepoint=126, min_codepoint=32))
        )
    )
)
def test_any_printable_value_reads_back(parameters: list[tuple[str, str]]) -> None:
    rendered = render_challenge("Bearer", parameters).removeprefix("Bearer ")
    assert [(name, re.sub(r"\\(.)", r"\1", value)) for name, value in _PAIR.findall(rendered)] == parameters


@pytest.mark.requirement("AP6")
@given(st.text())
def test_no_value_breaks_out_of_the_header(value: str) -> None:
    rendered = render_challenge("Bearer", [("x", value), ("y", "end")])
    assert rendered.isascii()
    assert "\r" not in rendered
    assert "\n" not in rendered
    assert len(_PAIR.findall(rendered.removeprefix("Bearer "))) == 2


@given(st.binary())
def test_any_header_is_a_token_or_401(value: bytes) -> None:
    try:
        outcome: object = bearer_token(value, SITE)
    except Refusal as exc:
        outcome = exc.status
    assert outcome == 401 or isinstance(outcome, str)
