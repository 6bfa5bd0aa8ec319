"""Redirect URIs: what may be registered, and which request matches what was."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import Refusal
from aggregator.protocol.oauth.redirects import (
    MAX_REDIRECT_URI,
    allowed_redirect,
    parse_redirect_uri,
    with_parameters,
)

REGISTRABLE = [
    "https://client.example/cb",
    "https://client.example",
    "https://client.example/",
    "https://client.example:8443/cb?tenant=1",
    "https://client.example/a/b/c",
    "https://client.example/a%20b",
    "https://client.example/.well-known/cb",
    "https://client.example/a..b",
    "https://Client.Example/cb",
    "https://xn--bcher-kva.example/cb",
    "https://203.0.113.7/cb",
    "https://[2001:db8::1]/cb",
    "https://localhost/cb",
    "https://vscode.dev/redirect",
    "https://claude.ai/api/mcp/auth_callback",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:33418",
    "http://127.0.0.1:33418/",
    "http://[::1]:8080/cb",
    "http://localhost:3334/oauth/callback",
    "http://localhost/cb?x=y",
]

REFUSED = [
    "",
    "cb",
    "/cb",
    "//client.example/cb",
    "https:client.example/cb",
    "https:/client.example/cb",
    "https:///cb",
    "https://",
    "https://client.example/cb#",
    "https://client.example/cb#fragment",
    "https://user@client.example/cb",
    "https://user:pass@client.example/cb",
    "https://client.example:0/cb",
    "https://client.example:/cb",
    "https://client.example:080/cb",
    "https://client.example:65536/cb",
    "https://client.example:443x/cb",
    "https://client..example/cb",
    "https://-client.example/cb",
    "https://client_a.example/cb",
    "https://client.example/a/../b",
    "https://client.example/..",
    "https://client.example/./cb",
    "https://client.example/%2e%2e/cb",
    "https://client.example/.%2E/cb",
    "https://client.example/%zz",
    "https://client.example/cb?code=attackers",
    "https://client.example/cb?a=b&%73tate",
    "http://127.0.0.1/cb?iss=https://evil.example",
    "https://client.example\\@evil.example/cb",
    "https://client.example/c b",
    "https://client.example/cb\n",
    "https://client.example/\tcb",
    " https://client.example/cb",
    "https://client.example/<script>",
    'https://client.example/"',
    "https://bücher.example/cb",
    "https://client.example/ü",
    "https://client%2eexample/cb",
    "https://client.example。evil.example/cb",
    "https://[::1/cb",
    "https://[not::an::address]/cb",
    "https://[fe80::1%25eth0]/cb",
    "https://127.1/cb",
    "https://2130706433/cb",
    "https://0x7f000001/cb",
    "https://0x7f.1/cb",
    "https://256.256.256.256/cb",
    "http://client.example/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://127.0.0.1@evil.example/cb",
    "http://evil.example@127.0.0.1/cb",
    "http://0.0.0.0/cb",
    "http://127.1/cb",
    "http://127.0.0.2/cb",
    "http://2130706433/cb",
    "http://0x7f.0.0.1/cb",
    "http://127.0.0.1./cb",
    "http://localhost./cb",
    "http://LOCALHOST/cb",
    "http://localhost.evil.example/cb",
    "http://[::]/cb",
    "http://[0:0:0:0:0:0:0:1]/cb",
    "http://[::ffff:127.0.0.1]/cb",
    "HTTP://127.0.0.1/cb",
    "HTTPS://client.example/cb",
    "javascript:alert(1)",
    "javascript://client.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "vbscript:msgbox(1)",
    "blob:https://client.example/1",
    "about:blank",
    "ftp://client.example/cb",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "com.example.app:/cb",
    "myapp:cb",
    "urn:ietf:wg:oauth:2.0:oob",
    "https://client.example/" + "a" * MAX_REDIRECT_URI,
]

# (URI of an app's own scheme, whether it may be registered where cursor and com.example.app are listed)
PRIVATE_USE = [
    ("cursor://anysphere.cursor-mcp/oauth/callback", True),
    ("cursor://anysphere.cursor-retrieval/oauth/user-x/callback?a=b/c", True),
    ("cursor://host", True),
    ("cursor:/cb", True),
    ("com.example.app:/oauth2redirect/provider", True),
    ("com.example.app:/", True),
    ("com.example.app://host/a%20b", True),
    ("cursor:", False),
    ("cursor:cb", False),
    ("cursor://", False),
    ("cursor:///cb", False),
    ("cursor:?x", False),
    ("cursor://host/cb#f", False),
    ("cursor://user@host/cb", False),
    ("cursor://host:80/cb", False),
    ("cursor://host/../cb", False),
    ("cursor://host/%2E%2e/cb", False),
    ("cursor://host/c b", False),
    ("cursor://host/cb?code=attackers", False),
    ("cursor://host/<b>", False),
    ("cursor://host/\n", False),
    ("cursor://hüst/cb", False),
    ("cursor://host\\x/cb", False),
    ("Cursor://host/cb", False),
    ("CURSOR:/cb", False),
    ("cursors:/cb", False),
    ("vscode://host/cb", False),
    ("javascript:/alert(1)", False),
    ("javascript://host/%0aalert(1)", False),
    ("data:/text/html", False),
    ("file:/etc/passwd", False),
    ("blob:/x", False),
    ("cursor:/" + "a" * MAX_REDIRECT_URI, False),
]

# (registered, requested, accepted)
MATCHES = [
    ("https://client.example/cb", "https://client.example/cb", True),
    ("https://client.example/cb", "https://client.example/cb/", False),
    ("https://client.example/cb", "https://client.example/CB", False),
    ("https://client.example/cb", "https://Client.example/cb", False),
    ("https://client.example/cb", "https://client.example/cb?x=1", False),
    ("https://client.example/cb?x=1", "https://client.example/cb", False),
    ("https://client.example/cb?x=1", "https://client.example/cb?x=1", True),
    ("https://client.example/cb", "https://client.example/cb#f", False),
    ("https://client.example/cb", "https://client.example/cb/../cb", False),
    ("https://client.example/cb", "https://client.example/%63b", False),
    ("https://client.example/cb", "https://client.example:443/cb", False),
    ("https://client.example/cb", "https://client.example:8443/cb", False),
    ("https://client.example/cb", "https://client.example./cb", False),
    ("https://client.example/cb", "https://client.example@evil.example/cb", False),
    ("https://client.example/cb", "https://evil.example/cb", False),
    ("https://client.example/cb", "https://client.example.evil.example/cb", False),
    ("https://client.example/cb", "http://client.example/cb", False),
    ("https://xn--bcher-kva.example/cb", "https://bücher.example/cb", False),
    ("https://localhost:8443/cb", "https://localhost:9443/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", True),
    ("http://127.0.0.1:1234/cb", "http://127.0.0.1:49152/cb", True),
    ("http://127.0.0.1:1234/cb", "http://127.0.0.1/cb", True),
    ("http://[::1]/cb", "http://[::1]:49152/cb", True),
    ("http://localhost:1/cb", "http://localhost:65535/cb", True),
    ("http://localhost:1/cb", "http://localhost:65536/cb", False),
    ("http://127.0.0.1/cb", "http://localhost/cb", False),
    ("http://127.0.0.1/cb", "http://[::1]/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb/", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb?x", False),
    ("http://127.0.0.1/cb", "https://127.0.0.1:49152/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1@evil.example/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb", False),
    ("http://127.0.0.1/cb", "http://127.1/cb", False),
    ("http://127.0.0.1/cb", "http://2130706433/cb", False),
    ("http://127.0.0.1/cb", "http://0.0.0.0/cb", False),
    ("http://127.0.0.1", "http://127.0.0.1:7777", True),
    ("http://127.0.0.1", "http://127.0.0.1:7777/", False),
    ("cursor://x/cb", "cursor://x/cb", True),
    ("cursor://x/cb", "cursor://x/cb/", False),
    ("cursor://x/cb", "cursor://X/cb", False),
    ("cursor://x/cb", "Cursor://x/cb", False),
    ("cursor://x/cb", "cursor://x:1/cb", False),
    ("cursor:/cb", "cursor://x/cb", False),
    ("javascript:/cb", "javascript:/cb", False),
]


def test_the_tables_are_as_long_as_promised() -> None:
    assert len(REGISTRABLE) + len(REFUSED) + len(MATCHES) >= 120


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize("uri", REGISTRABLE)
def test_https_anywhere_and_http_on_this_computer_may_be_registered(uri: str) -> None:
    assert parse_redirect_uri(uri).text == uri


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize("uri", REFUSED)
def test_everything_else_is_refused_and_never_quoted_raw(uri: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_redirect_uri(uri)
    assert (caught.value.status, caught.value.error) == (400, "invalid_redirect_uri")
    assert all(" " <= c <= "~" and c not in '"\\' for c in caught.value.description)


@pytest.mark.requirement("AZ4")
@pytest.mark.parametrize(("uri", "taken"), PRIVATE_USE)
def test_an_apps_own_scheme_may_be_registered_if_it_is_listed(uri: str, taken: bool) -> None:
    listed = {"cursor", "com.example.app", "javascript", "data", "file", "blob"}
    if taken:
        parsed = parse_redirect_uri(uri, listed)
        assert parsed.text == uri
        assert parsed.is_private_use
        assert not parsed.is_loopback
    else:
        with pytest.raises(Refusal):
            parse_redirect_uri(uri, listed)
    with pytest.raises(Refusal):
        parse_redirect_uri(uri)


def test_an_apps_own_scheme_is_shown_as_such() -> None:
    uri = parse_redirect_uri("cursor://anysphere.cursor-mcp/oauth/callback", {"cursor"})
    assert (uri.netloc, uri.csp_source) == ("cursor://anysphere.cursor-mcp", "cursor:")
    assert parse_redirect_uri("com.example.app:/cb", {"com.example.app"}).netloc == "com.example.app:"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("cursor://x/cb", "the scheme cursor is not accepted; use https, or http on 127.0.0.1"),
        ("http://client.example/cb", "http is only for 127.0.0.1, [::1] and localhost; use https"),
        ("https://client.example/cb#x", "it has a fragment"),
        ("https://me@client.example/cb", "it has a user name"),
        ("https://client.example/a/../b", "'.' or '..' segment"),
        ("nothing", "not an absolute URI"),
        ("https://client.example/" + "a" * 2000, "longer than 1024 characters"),
    ],
)
def test_a_refused_uri_is_told_why(uri: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_redirect_uri(uri)
    assert words in caught.value.description


@pytest.mark.requirement("AZ2", "AZ3")
@pytest.mark.parametrize(("registered", "requested", "accepted"), MATCHES)
def test_a_requested_uri_is_the_registered_one_but_for_a_loopback_port(
    registered: str, requested: str, accepted: bool
) -> None:
    assert (allowed_redirect([registered], requested) is not None) is accepted


def test_a_request_matches_any_of_several_registered_uris() -> None:
    registered = ["https://a.example/cb", "https://b.example/cb"]
    assert allowed_redirect(registered, "https://b.example/cb") == parse_redirect_uri("https://b.example/cb")
    assert allowed_redirect([], "https://b.example/cb") is None


_HOSTS = st.sampled_from(
    ["127.0.0.1", "[::1]", "localhost", "client.example", "127.0.0.1.evil.example", "127.1", "x@y"]
)
_URIS = st.builds(
    lambda scheme, host, port, rest: f"{scheme}://{host}{port}{rest}",
    st.sampled_from(["http", "https", "HTTP"]),
    _HOSTS,
    st.sampled_from(["", ":1", ":49152", ":65535", ":0", ":"]),
    st.sampled_from(["", "/", "/cb", "/cb?x=1", "/cb#f", "/../cb", "/%2e/cb"]),
)


@pytest.mark.requirement("AP4")
@pytest.mark.requirement("AZ2", "AZ3")
@given(_URIS, _URIS)
def test_an_accepted_uri_equals_the_registered_one_or_differs_in_a_loopback_port(
    registered: str, requested: str
) -> None:
    if allowed_redirect([registered], requested) is None:
        return
    one, other = urlsplit(registered), urlsplit(requested)
    loopback = one.scheme == "http" and one.hostname in ("127.0.0.1", "::1", "localhost")
    same = (one.scheme, one.hostname, one.path, one.query) == (other.scheme, other.hostname, other.path, other.query)
    assert registered == requested or (loopback and same)


@given(st.text())
def test_any_text_is_a_redirect_uri_or_refused(text: str) -> None:
    try:
        assert parse_redirect_uri(text).text == text
    except Refusal:
        pass


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.sampled_from(["https://c.example/cb", "https://c.example/cb?a=b", "https://c.example?"]), _TEXT, _TEXT)
def test_an_answer_is_appended_and_reads_back_exactly(uri: str, code: str, state: str) -> None:
    location = with_parameters(uri, [("code", code), ("state", state)])
    assert location.startswith(uri)
    assert location.isascii()
    query = parse_qsl(urlsplit(location).query, keep_blank_values=True)
    assert query == [*parse_qsl(urlsplit(uri).query), ("code", code), ("state", state)]


def test_only_http_on_loopback_counts_as_this_computer() -> None:
    assert parse_redirect_uri("http://127.0.0.1:1/cb").is_loopback
    assert not parse_redirect_uri("https://localhost/cb").is_loopback


def test_the_form_action_of_an_ipv6_host_is_its_scheme() -> None:
    assert parse_redirect_uri("http://[::1]:8080/cb").csp_source == "http:"
    assert parse_redirect_uri("http://127.0.0.1:8080/cb").csp_source == "http://127.0.0.1:8080"
    assert parse_redirect_uri("https://c.example/cb").csp_source == "https://c.example"
