"""Clients of the configuration: what may be one, and that the protocol takes every redirect URI the file may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config import clients
from aggregator.config.clients import parse_client_id, parse_redirect_uri, parse_scheme
from aggregator.config.model import KnownClient, Secret
from aggregator.config.scalars import Wrong
from aggregator.errors import Refusal
from aggregator.protocol.oauth import redirects
from tests.protocol.oauth.test_redirects import PRIVATE_USE, REFUSED, REGISTRABLE

from .loading import load, problems_of, with_top

CLIENT = {"clientId": "desktop", "redirectUris": ["http://127.0.0.1/cb"]}


def with_client(**changes: Any) -> str:
    return with_top(clients=[{**CLIENT, **changes}])


def is_taken_by_the_file(text: str) -> bool:
    try:
        assert parse_redirect_uri(text) == text
    except Wrong:
        return False
    return True


def is_taken_by_the_protocol(text: str) -> bool:
    try:
        redirects.parse_proven_redirect_uri(text)
    except Refusal:
        return False
    return True


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize("uri", [*REGISTRABLE, *REFUSED, *(uri for uri, _ in PRIVATE_USE)])
def test_the_file_takes_what_the_protocol_takes(uri: str) -> None:
    assert is_taken_by_the_file(uri) is is_taken_by_the_protocol(uri)


_PARTS = st.sampled_from(
    r"""http https cursor javascript com.app X : / // /// . .. ? # @ %2e %41 %zz [::1] [:: 127.0.0.1 127.1 0x7f
    localhost client.example cb code state ? = :1 :0 :65536 - _ ü \ " ; = & + ~ ' ( $""".split()
)


@given(st.lists(_PARTS, max_size=8).map("".join) | st.text(max_size=20))
def test_the_file_takes_what_the_protocol_takes_whatever_it_is(text: str) -> None:
    assert is_taken_by_the_file(text) is is_taken_by_the_protocol(text)


def test_both_have_the_same_bounds() -> None:
    assert clients.NEVER_SCHEMES == redirects.NEVER_SCHEMES
    assert clients.MAX_REDIRECT_URI == redirects.MAX_REDIRECT_URI
    assert clients.ANSWER_PARAMETERS == redirects.ANSWER_PARAMETERS


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("javascript:/x", "belongs to browsers"),
        ("http://client.example/cb", "use https"),
        ("https://127.1/cb", "no usable host"),
        ("https://c.example:70000/", "no usable host or port"),
        ("https://c.example/#x", "not a redirect URI"),
        ("cb", "not a redirect URI"),
        ("cursor:", "leads nowhere"),
        ("", "an empty text"),
    ],
)
def test_a_redirect_uri_that_cannot_be_is_a_problem_at_its_place(uri: str, words: str) -> None:
    (problem,) = problems_of(with_client(redirectUris=["https://c.example/cb", uri]))
    assert problem.path == "clients[0].redirectUris[1]"
    assert words in problem.message


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize(
    ("scheme", "meant"),
    [("cursor://", "cursor"), ("Cursor", "cursor"), ("cursor:", "cursor"), ("1a", None), ("a_b", "a"), ("*", None)],
)
def test_a_scheme_is_written_plainly(scheme: str, meant: str | None) -> None:
    (problem,) = problems_of(with_top(clientSchemes=[scheme]))
    assert problem.path == "clientSchemes[0]"
    assert problem.suggestion == meant


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize("scheme", sorted(clients.NEVER_SCHEMES))
def test_no_list_can_allow_what_a_browser_acts_on_itself(scheme: str) -> None:
    with pytest.raises(Wrong, match="can never be allowed"):
        parse_scheme(scheme)


@pytest.mark.parametrize("client_id", ["desktop", "https://client.example/id.json", "a:b", "~", "x" * 255])
def test_a_client_id_is_any_printable_text(client_id: str) -> None:
    assert parse_client_id(client_id) == client_id


@pytest.mark.parametrize("client_id", ["", " ", "a b", "ü", "x" * 256, 7, None])
def test_another_client_id_is_not(client_id: Any) -> None:
    with pytest.raises(Wrong):
        parse_client_id(client_id)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"redirectUris": []}, "clients[0].redirectUris"),
        ({"clientId": 7}, "clients[0].clientId"),
        ({"clientSecret": "short"}, "clients[0].clientSecret"),
        ({"clientSecret": "change-me-change-me"}, "clients[0].clientSecret"),
        ({"redirectURIs": []}, "clients[0].redirectURIs"),
    ],
)
def test_other_mistakes_are_problems_too(changes: dict[str, Any], path: str) -> None:
    (problem,) = problems_of(with_client(**changes))
    assert problem.path == path


def test_two_clients_cannot_have_one_id() -> None:
    (problem,) = problems_of(with_top(clients=[CLIENT, {**CLIENT, "name": "Other"}]))
    assert (problem.path, problem.message) == ("clients[1].clientId", "'desktop' is the id of clients[0] already")


def test_a_secret_may_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("a secret of the client\n")
    loaded = load(with_client(clientSecret={"file": "client"}), cwd=tmp_path)
    assert loaded.config.clients == (
        KnownClient("desktop", "desktop", ("http://127.0.0.1/cb",), Secret("a secret of the client")),
    )
    assert "a secret of" not in repr(loaded.config)
    shown = load(with_client(clientSecret="a secret of the client")).text
    assert "a secret of" not in shown
    assert '["http://127.0.0.1/cb"]' in shown
