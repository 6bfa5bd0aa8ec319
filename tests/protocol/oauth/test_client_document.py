"""Client ID metadata documents: which URLs are client ids, and what the document must say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal, Unfetchable, Unsealable
from aggregator.protocol.oauth.client_document import (
    LIFETIME,
    MAX_LIFETIME,
    MAX_REDIRECT_URIS,
    MIN_LIFETIME,
    lifetime,
    parse_client_url,
    process_client_document,
    public_client,
)
from aggregator.protocol.oauth.registration import Client

TEXT = "https://client.example/oauth/id.json"
URL = parse_client_url(TEXT)
DOCUMENT: dict[str, Any] = {
    "client_id": TEXT,
    "client_name": "Client",
    "redirect_uris": ["https://client.example/cb", "http://127.0.0.1/cb"],
    "token_endpoint_auth_method": "none",
}


def processed(schemes: tuple[str, ...] = (), **changes: Any) -> Client:
    content = {name: value for name, value in {**DOCUMENT, **changes}.items() if value is not ...}
    return process_client_document(URL, json.dumps(content).encode(), schemes=schemes)


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    "url",
    [
        TEXT,
        "https://client.example/",
        "https://client.example:8443/id",
        "https://client.example/id?v=1",
        "https://xn--bcher-kva.example/id",
    ],
)
def test_an_https_url_with_a_path_is_a_client_id(url: str) -> None:
    assert parse_client_url(url).text == url


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://client.example/id", "not an https URL"),
        ("https://client.example", "no path"),
        ("https://client.example?x=1", "no path"),
        ("https://client.example/id#f", "fragment"),
        ("https://user@client.example/id", "user name"),
        ("https://user:pw@client.example/id", "user name"),
        ("https://client.example/a/../id", "segment"),
        ("https://client.example/./id", "segment"),
        ("https://client.example/%2e%2e/id", "segment"),
        ("https://2130706433/id", "neither a name nor an address"),
        ("https://bücher.example/id", "plain URL"),
        ("https://client.example/" + "i" * 1100, "longer"),
    ],
)
def test_another_url_is_none(url: str, words: str) -> None:
    with pytest.raises(Unsealable) as caught:
        parse_client_url(url)
    assert words in str(caught.value)


@pytest.mark.requirement("CI1")
def test_the_document_becomes_a_public_client_that_the_url_names() -> None:
    assert processed() == Client(
        id=TEXT,
        name="Client",
        redirect_uris=("https://client.example/cb", "http://127.0.0.1/cb"),
        auth_method="none",
        secret_hash=None,
        source="document",
    )
    assert public_client(URL).id == processed().id


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    "client_id",
    [
        ...,
        None,
        "",
        7,
        [TEXT],
        "https://client.example/oauth/id.json/",
        "https://client.example:443/oauth/id.json",
        "https://Client.example/oauth/id.json",
        "HTTPS://client.example/oauth/id.json",
        "https://client.example/oauth/%69d.json",
        "https://client.example/oauth/id.json#",
        " https://client.example/oauth/id.json",
        "https://evil.example/oauth/id.json",
    ],
)
def test_the_client_id_in_it_is_the_url_character_for_character(client_id: Any) -> None:
    with pytest.raises(Unfetchable):
        processed(client_id=client_id)


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b"<html>",
        b"[" * 100_000,
        b"9" * 5000,
        json.dumps(DOCUMENT).encode() + b"x",
        json.dumps(DOCUMENT).encode("utf-16")[3:],
        b'{"client_id": "https://evil.example/id", "client_id": "' + TEXT.encode() + b'"}',
        b'{"client_id": "' + TEXT.encode() + b'", "redirect_uris": ["https://a.example/"], "redirect_uris": []}',
    ],
)
def test_what_is_no_unambiguous_json_object_is_no_document(body: bytes) -> None:
    with pytest.raises(Unfetchable):
        process_client_document(URL, body)


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_secret": "x"}, "client_secret"),
        ({"client_secret": None}, "client_secret"),
        ({"client_secret_expires_at": 0}, "client_secret_expires_at"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "shared secret"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "shared secret"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "shared secret"),
        (
            {"token_endpoint_auth_method": "client_secret_post", "token_endpoint_auth_methods_supported": ["none"]},
            "shared secret",
        ),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "only 'none'"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "only 'none'"),
        ({"token_endpoint_auth_method": None}, "only 'none'"),
        ({"token_endpoint_auth_method": ["none"]}, "only 'none'"),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": "none"},
            "only 'none'",
        ),
        ({"redirect_uris": ...}, "not a list"),
        ({"redirect_uris": None}, "not a list"),
        ({"redirect_uris": "https://client.example/cb"}, "not a list"),
        ({"redirect_uris": [7]}, "not a list"),
        ({"redirect_uris": []}, "it names none"),
        ({"redirect_uris": ["http://client.example/cb", "javascript:alert(1)"]}, "scheme javascript"),
        ({"redirect_uris": ["cursor://x/cb"]}, "scheme cursor"),
        ({"redirect_uris": [f"https://c.example/{n}" for n in range(MAX_REDIRECT_URIS + 1)]}, "more than 50"),
        ({"client_name": 7}, "client_name"),
        ({"grant_types": ["client_credentials"]}, "grant_types"),
        ({"response_types": ["token"]}, "response_types"),
    ],
)
def test_a_document_that_does_not_suit_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as caught:
        processed(**changes)
    assert (caught.value.status, caught.value.error) == (400, "invalid_client_metadata")
    assert words in caught.value.description
    assert all(" " <= c <= "~" and c not in '"\\' for c in caught.value.description)


def test_a_client_that_can_do_without_authentication_is_taken_as_a_public_one() -> None:
    """ChatGPT's document names private_key_jwt first, and none beside it."""
    both = ["none", "private_key_jwt"]
    chatgpt = processed(token_endpoint_auth_method="private_key_jwt", token_endpoint_auth_methods_supported=both)
    assert chatgpt.secret_hash is None
    assert processed(token_endpoint_auth_method=...) == processed()


def test_what_a_document_offers_to_other_servers_is_left_out() -> None:
    uris = ["cursor://x/cb", "http://client.example/cb", "https://client.example/cb", "myapp:cb"]
    assert processed(redirect_uris=uris).redirect_uris == ("https://client.example/cb",)
    listed = processed(("cursor",), redirect_uris=uris)
    assert listed.redirect_uris == ("cursor://x/cb", "https://client.example/cb")


@pytest.mark.requirement("MD4")
@pytest.mark.parametrize(
    ("name", "shown"), [("\u202eevil\u2028", "evil"), ("x" * 500, "x" * 80), (None, ""), (..., ""), ("\ud800a", "a")]
)
def test_its_name_is_cleaned_and_cut(name: Any, shown: str) -> None:
    assert processed(client_name=name).name == shown


@pytest.mark.requirement("MD4", "CI2")
def test_nothing_that_a_document_links_to_is_even_looked_at() -> None:
    inside = "http://169.254.169.254/"
    assert processed(logo_uri=inside, jwks_uri=inside, client_uri=inside, tos_uri=inside, policy_uri=7) == processed()


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", LIFETIME),
        ("public", LIFETIME),
        ("max-age=600", 600),
        ("public, MAX-AGE=600, must-revalidate", 600),
        ('max-age="600"', 600),
        ("max-age=0", MIN_LIFETIME),
        ("max-age=5", MIN_LIFETIME),
        ("no-store", MIN_LIFETIME),
        ("no-cache, max-age=600", MIN_LIFETIME),
        ("max-age=600,no-store", MIN_LIFETIME),
        ("max-age=31536000, immutable", MAX_LIFETIME),
        ("max-age=99999999999999999999", LIFETIME),
        ("max-age=-1", LIFETIME),
        ("max-age=1e9", LIFETIME),
        ("s-max-age=600", LIFETIME),
    ],
)
def test_it_is_kept_as_long_as_it_says_within_bounds(cache_control: str, seconds: float) -> None:
    assert lifetime(cache_control) == seconds


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_KEYS = st.sampled_from([*DOCUMENT, "grant_types", "response_types", "token_endpoint_auth_methods_supported"])


@given(st.dictionaries(_KEYS, _JSON))
def test_any_document_is_a_client_or_refused(changes: dict[str, Any]) -> None:
    try:
        client: Client | None = processed(**changes)
    except (Refusal, Unfetchable):
        client = None
    assert client is None or (client.id == TEXT and client.redirect_uris)
