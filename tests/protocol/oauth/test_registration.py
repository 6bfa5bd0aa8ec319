"""Dynamic registration: what is accepted, and that the client id carries it all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal, Unsealable
from aggregator.protocol.oauth.registration import (
    MAX_CLIENT_ID,
    Client,
    open_client,
    parse_registration,
    registration_response,
    seal_client,
)
from aggregator.protocol.sealing import KeyRing, Purpose

from .values import CALLBACK, KEYS, LOOPBACK, NOW, OTHER_KEYS, client


def parsed(**metadata: Any) -> Client:
    body = json.dumps({"redirect_uris": [CALLBACK], **metadata}).encode()
    return parse_registration(body, registration_id="reg-1", secret="s3cret", now=NOW)


def refusal(**metadata: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parsed(**metadata)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.requirement("MD3")
def test_a_registration_is_answered_with_all_that_was_registered() -> None:
    registered = parsed(client_name="My app", token_endpoint_auth_method="none", logo_uri="https://x.example/l.png")
    response = registration_response(registered, "the-id", "s3cret")
    assert response == {
        "client_id": "the-id",
        "client_id_issued_at": int(NOW),
        "client_name": "My app",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "mcp:tools",
    }


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", None])
def test_a_confidential_client_gets_a_secret_that_does_not_expire(method: str | None) -> None:
    registered = parsed(**({} if method is None else {"token_endpoint_auth_method": method}))
    response = registration_response(registered, "the-id", "s3cret")
    assert response["token_endpoint_auth_method"] == (method or "client_secret_basic")
    assert (response["client_secret"], response["client_secret_expires_at"]) == ("s3cret", 0)
    assert registered.has_secret("s3cret")
    assert not registered.has_secret("other")
    assert not registered.has_secret("")


def test_a_public_client_has_no_secret_at_all() -> None:
    assert not parsed(token_endpoint_auth_method="none").has_secret("s3cret")
    assert not parsed(token_endpoint_auth_method="none").has_secret("")


@pytest.mark.requirement("MD3")
@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": CALLBACK}, "invalid_redirect_uri"),
        ({"redirect_uris": [1]}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{CALLBACK}{n}" for n in range(11)]}, "invalid_redirect_uri"),
        ({"redirect_uris": [CALLBACK, "http://evil.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["cursor://x/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["\ud800"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://c.example/" + "a" * 900 + str(n) for n in range(10)]}, "invalid_client_metadata"),
        ({"client_name": 7}, "invalid_client_metadata"),
        ({"client_name": {}}, "invalid_client_metadata"),
        ({"client_name": False}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": []}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": 0}, "invalid_client_metadata"),
        ({"client_name": ["x"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": {"a": "\ud800"}}, "invalid_client_metadata"),
        ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"response_types": {}}, "invalid_client_metadata"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused_with_the_rfcs_code(metadata: dict[str, Any], error: str) -> None:
    with pytest.raises(Refusal) as caught:
        seal_client(KEYS, parsed(**metadata), now=NOW)
    assert (caught.value.status, caught.value.error) == (400, error)
    assert all(" " <= c <= "~" and c not in '"\\' for c in caught.value.description)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"1e999", b"[" * 50_000, b'"x"'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_registration(body, registration_id="r", secret="s", now=NOW)
    assert caught.value.error == "invalid_client_metadata"


@pytest.mark.requirement("MD4")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Claude", "Claude"),
        ("  two\n lines\t", "two lines"),
        ("\u202eelgooG\u202c", "elgooG"),
        ("Goo\u200bgle\ufeff", "Google"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("\ud800x", "x"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("Bücher 本", "Bücher 本"),
        ("n" * 500, "n" * 80),
        ("\u200b", ""),
        (None, ""),
        ("", ""),
    ],
)
def test_a_name_is_kept_without_what_hides_or_reorders(name: str | None, shown: str) -> None:
    registered = parsed(client_name=name)
    assert registered.name == shown
    assert open_client(KEYS, seal_client(KEYS, registered, now=NOW), now=NOW).name == shown


@pytest.mark.requirement("MD3", "TK13")
def test_the_client_id_is_the_registration_and_opens_for_ever() -> None:
    registered = client(CALLBACK, LOOPBACK, secret_hash="ab")
    client_id = seal_client(KEYS, registered, now=NOW)
    assert open_client(KEYS, client_id, now=NOW + 10 * 365 * 86400) == registered
    assert not client_id.startswith("https://")
    assert seal_client(KEYS, registered, now=NOW) != client_id


def test_a_secret_still_works_after_the_key_ring_has_turned() -> None:
    old, new = bytes(32), bytes([1] * 32)
    client_id = seal_client(KeyRing([old]), parsed(), now=NOW)
    assert open_client(KeyRing([new, old]), client_id, now=NOW).has_secret("s3cret")


@pytest.mark.parametrize(
    "client_id", ["", "x", "https://client.example/id.json", "a" * (MAX_CLIENT_ID + 1), "ü", "a..b.c.d"]
)
def test_an_id_that_we_did_not_issue_opens_nothing(client_id: str) -> None:
    with pytest.raises(Unsealable):
        open_client(KEYS, client_id, now=NOW)


def test_an_id_of_other_keys_or_another_shape_opens_nothing() -> None:
    for foreign in (
        seal_client(OTHER_KEYS, client(), now=NOW),
        KEYS.seal(Purpose.CLIENT, {"id": "x"}, now=NOW, lifetime=None),
        KEYS.seal(Purpose.ACCESS, {"id": "x"}, now=NOW, lifetime=None),
    ):
        with pytest.raises(Unsealable):
            open_client(KEYS, foreign, now=NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_KEYS = st.sampled_from(
    ["redirect_uris", "client_name", "token_endpoint_auth_method", "grant_types", "response_types", "scope", "other"]
)


@given(st.dictionaries(_KEYS, _JSON))
def test_any_json_registers_a_client_or_is_refused(metadata: dict[str, Any]) -> None:
    try:
        registered = parse_registration(json.dumps(metadata).encode(), registration_id="r", secret="s", now=NOW)
        client_id = seal_client(KEYS, registered, now=NOW)
    except Refusal as exc:
        status = exc.status
    else:
        status = 201
        assert open_client(KEYS, client_id, now=NOW) == registered
    assert status in (201, 400)
