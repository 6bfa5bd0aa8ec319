"""Becoming known to an authorization server: in which way, as what, and what its answers mean."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from aggregator.errors import ConnectFailed
from aggregator.protocol.brokering.registration import (
    Client,
    RegistrationNeeded,
    application_type,
    choose_client,
    client_authentication,
    client_document,
    client_metadata,
    fits,
    process_registration_response,
    secret_method,
)
from aggregator.protocol.brokering.server import ServerMetadata, default_server
from aggregator.protocol.learned_url import parse_learned_url
from aggregator.protocol.oauth.client_document import process_client_document

from .values import server

DOCUMENT = "https://agg.example/.well-known/oauth-client"
CALLBACK = "https://agg.example/upstream-auth/callback/mail"


def choose(at: ServerMetadata, **changes: Any) -> Client | RegistrationNeeded:
    return choose_client(at, **({"client_id": None, "client_secret": None, "document_url": DOCUMENT} | changes))


def test_what_the_operator_registered_comes_before_our_document_and_that_before_registering() -> None:
    both = server(takes_client_documents=True)
    assert choose(both, client_id="c") == Client("c")
    assert choose(both) == Client(DOCUMENT)
    assert choose(both, document_url=None) == RegistrationNeeded("https://as.example/register")
    assert choose(server()) == RegistrationNeeded("https://as.example/register")
    with pytest.raises(ConnectFailed, match="sets the upstream's 'clientId'"):
        choose(server(registration_endpoint=None))


@pytest.mark.parametrize(
    ("supported", "method"),
    [
        (("client_secret_basic",), "client_secret_basic"),
        (("client_secret_post",), "client_secret_post"),
        (("client_secret_basic", "client_secret_post"), "client_secret_post"),
        (("private_key_jwt", "client_secret_basic"), "client_secret_basic"),
        (("none",), "client_secret_basic"),
        (("private_key_jwt",), None),
        (("tls_client_auth",), None),
    ],
)
def test_a_secret_is_shown_in_a_way_that_the_server_takes(supported: tuple[str, ...], method: str | None) -> None:
    if method is None:
        with pytest.raises(ConnectFailed, match=supported[0]):
            secret_method(supported)
    else:
        assert secret_method(supported) == method
        assert choose(server(auth_methods=supported), client_id="c", client_secret="s") == Client("c", "s", method)


@pytest.mark.requirement("UP6")
@pytest.mark.parametrize(
    ("issuer_url", "kind"),
    [
        ("https://agg.example", "web"),
        ("https://agg.example/tools", "web"),
        ("http://10.0.0.1:3000", "web"),
        ("http://localhost:3000", "native"),
        ("http://127.0.0.1:3000", "native"),
        ("http://[::1]:3000", "native"),
        ("https://localhost", "native"),
    ],
)
def test_a_registration_says_what_kind_of_application_we_are(issuer_url: str, kind: str) -> None:
    assert application_type(issuer_url) == kind
    metadata = client_metadata(server(), redirect_uri=CALLBACK, issuer_url=issuer_url, scope="read write")
    assert metadata["application_type"] == kind
    assert metadata["scope"] == "read write"
    assert metadata["redirect_uris"] == [CALLBACK]
    assert metadata["grant_types"] == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize(
    ("supported", "asked"),
    [
        (("none", "client_secret_basic"), "none"),
        (("client_secret_basic", "client_secret_post"), "client_secret_post"),
        (("client_secret_basic",), "client_secret_basic"),
    ],
)
def test_a_registration_asks_for_the_method_that_we_prefer(supported: tuple[str, ...], asked: str) -> None:
    at = server(auth_methods=supported)
    metadata = client_metadata(at, redirect_uri=CALLBACK, issuer_url="https://agg.example", scope=None)
    assert metadata["token_endpoint_auth_method"] == asked
    assert "scope" not in metadata
    with pytest.raises(ConnectFailed, match="private_key_jwt"):
        client_metadata(
            server(auth_methods=("private_key_jwt",)), redirect_uri=CALLBACK, issuer_url="https://a.example", scope=None
        )


def registered(
    fields: Any, *, status: int = 201, at: ServerMetadata | None = None, method: str = "none", wait: str = ""
) -> Client:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return process_registration_response(at or server(), status, {"retry-after": wait}, body, method=method, now=1000.0)


BOTH = server(auth_methods=("none", "client_secret_basic"))


@pytest.mark.parametrize(
    ("fields", "at", "method", "client"),
    [
        ({"client_id": "c"}, BOTH, "none", Client("c")),
        ({"client_id": "c", "token_endpoint_auth_method": "none"}, BOTH, "none", Client("c")),
        ({"client_id": "c", "client_secret": "s"}, BOTH, "none", Client("c")),
        (
            {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_basic"},
            BOTH,
            "none",
            Client("c", "s", "client_secret_basic"),
        ),
        ({"client_id": "c", "client_secret": "s"}, BOTH, "client_secret_post", Client("c", "s", "client_secret_post")),
        (
            {"client_id": "c", "client_secret": "s", "client_secret_expires_at": 5000},
            BOTH,
            "client_secret_post",
            Client("c", "s", "client_secret_post", 5000.0),
        ),
        (
            {"client_id": "c", "client_secret": "s", "client_secret_expires_at": 0},
            BOTH,
            "client_secret_post",
            Client("c", "s", "client_secret_post"),
        ),
        (
            {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "none"},
            server(auth_methods=("client_secret_basic",)),
            "client_secret_basic",
            Client("c", "s", "client_secret_basic"),
        ),
    ],
)
def test_the_server_may_make_another_client_of_us_than_we_asked_for(
    fields: dict[str, Any], at: ServerMetadata, method: str, client: Client
) -> None:
    assert registered(fields, at=at, method=method) == client


@pytest.mark.parametrize(
    ("status", "fields", "words", "temporary"),
    [
        (201, {}, "without a client_id", False),
        (201, {"client_id": ""}, "without a client_id", False),
        (201, {"client_id": 5}, "without a client_id", False),
        (201, {"client_id": "c" * 3000}, "without a client_id", False),
        (201, {"client_id": "c", "client_secret": 5}, "that is none", False),
        (
            201,
            {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "private_key_jwt"},
            "private_key_jwt",
            False,
        ),
        (201, b"<html>", "not JSON", True),
        (400, {"error": "invalid_redirect_uri"}, "invalid_redirect_uri", False),
        (403, b"", "403", False),
        (404, b"<html>", "'clientId'", False),
        (302, b"", "302", False),
        (429, b"", "in 7 s", True),
        (503, b"<html>", "503", True),
        (408, b"", "408", True),
    ],
)
def test_a_refused_registration_says_whether_trying_again_helps(
    status: int, fields: Any, words: str, temporary: bool
) -> None:
    with pytest.raises(ConnectFailed) as caught:
        registered(fields, status=status, wait="7")
    assert words in str(caught.value)
    assert caught.value.temporary is temporary


def test_where_nobody_spoke_of_a_server_and_none_is_there_the_upstream_has_none() -> None:
    """The operator of one that works without an account has nothing to set up."""
    with pytest.raises(ConnectFailed, match="names no authorization server") as caught:
        process_registration_response(default_server("https://up.example"), 404, {}, b"", method="none", now=0.0)
    assert "'clientId'" not in str(caught.value)
    with pytest.raises(ConnectFailed, match="does not register us"):
        process_registration_response(default_server("https://up.example"), 403, {}, b"", method="none", now=0.0)


def test_a_servers_own_words_are_not_quoted() -> None:
    with pytest.raises(ConnectFailed) as caught:
        registered({"error": "invalid_client_metadata", "error_description": "Call +1 555 0100"}, status=400)
    assert "(400 invalid_client_metadata)" in str(caught.value)
    assert "555" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"client_id": "a\r\nb"}, {"client_id": "c", "client_secret": "\x00"}])
def test_credentials_are_of_the_characters_that_they_may_have(fields: dict[str, str]) -> None:
    with pytest.raises(ConnectFailed, match="registered us with"):
        registered(fields)


@pytest.mark.parametrize(
    ("uri", "scope", "until", "fit"),
    [
        (CALLBACK, "read write", None, True),
        (CALLBACK, "write read more", None, True),
        (CALLBACK, "read", None, False),
        (CALLBACK, None, None, False),
        ("https://old.example/callback", "read write", None, False),
        (CALLBACK, "read write", 1001.0, True),
        (CALLBACK, "read write", 1000.0, False),
    ],
)
def test_a_registration_serves_as_long_as_it_covers_the_login(
    uri: str, scope: str | None, until: float | None, fit: bool
) -> None:
    assert fits(uri, scope, until, redirect_uri=CALLBACK, scope="read write", now=1000.0) is fit


def test_without_a_scope_any_registration_covers_the_login() -> None:
    assert fits(CALLBACK, None, None, redirect_uri=CALLBACK, scope=None, now=0.0)


def test_a_client_proves_itself_by_the_method_of_its_registration() -> None:
    assert client_authentication(Client("c"))[1] == {"client_id": "c"}
    assert client_authentication(Client("c", "s", "client_secret_post"))[1] == {"client_id": "c", "client_secret": "s"}
    headers, form = client_authentication(Client("c:1 ä", "s%&", "client_secret_basic"))
    assert form == {}
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"c%3A1+%C3%A4:s%25%26"


def test_our_own_document_is_one_that_we_would_take() -> None:
    document = client_document(DOCUMENT, [CALLBACK], "https://agg.example")
    client = process_client_document(parse_learned_url(DOCUMENT), json.dumps(document).encode())
    assert (client.id, client.redirect_uris) == (DOCUMENT, (CALLBACK,))
    assert document["application_type"] == "web"


def test_no_secret_is_shown() -> None:
    assert "s3cret" not in repr(Client("c", "s3cret"))
