"""URLs, origins and hosts: which are taken, in which form, and what is said about the others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config.expand import Expanded
from aggregator.config.scalars import Wrong
from aggregator.config.urls import (
    is_loopback,
    parse_allowed_host,
    parse_bind_host,
    parse_issuer,
    parse_origin,
    parse_own_url,
    parse_upstream_url,
    read_proxy,
    redact_urls,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://gmail.example.com/mcp",
        "http://gmail:8080/mcp",
        "https://gmail.example.com/mcp?team=a&x=%20",
        "https://bücher.example.com/mcp",
        "http://[::1]:3000/mcp",
        "http://10.0.0.1/mcp",
        "http://snake_case.cluster.local/mcp",
        "HTTPS://gmail.example.com./mcp",
    ],
)
def test_an_upstream_url_is_taken_as_written(url: str) -> None:
    assert parse_upstream_url(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "'' is not an http(s) URL"),
        ("gmail.example.com/mcp", "is not an http(s) URL"),
        ("ftp://gmail.example.com", "is not an http(s) URL"),
        ("https:gmail.example.com", "no usable host"),
        ("https://", "no usable host"),
        ("https:///mcp", "no usable host"),
        ("https://:8080/mcp", "no usable host"),
        ("https://a b.example.com", "is not an http(s) URL"),
        ("https://a.example.com\\mcp", "is not an http(s) URL"),
        ("https://a.example.com:99999/", "is not an http(s) URL"),
        ("https://a.example.com:x/", "is not an http(s) URL"),
        ("https://[::1/", "is not an http(s) URL"),
        ("https://a..example.com/", "no usable host"),
        ("https://-a.example.com/", "no usable host"),
        ("https://a.example.com/mcp#x", "fragment"),
        ("https://a.example.com/mcp#", "fragment"),
        ("https://user:hunter2@a.example.com/mcp", "user name or password"),
        ("https://user@a.example.com/mcp", "user name or password"),
        ("https://user:hunter2@a.example.com/mcp?key=hunter2#x", "user name or password"),
    ],
)
def test_another_upstream_url_is_refused_without_showing_what_is_secret(url: str, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse_upstream_url(url)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value) + str(caught.value.suggestion)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("htps://a.example.com/x", "https://a.example.com/x"),
        ("htp://a.example.com/x", "http://a.example.com/x"),
        ("https:/a.example.com/x", None),
        ("a.example.com/x", "https://a.example.com/x"),
        ("a.example.com", "https://a.example.com"),
        ("localhost:3000/mcp", "http://localhost:3000/mcp"),
        ("...", None),
        ("ftp://a.example.com/x", None),
    ],
)
def test_a_missing_or_misspelled_scheme_is_recognised(url: str, meant: str | None) -> None:
    with pytest.raises(Wrong) as caught:
        parse_upstream_url(url)
    assert caught.value.suggestion == meant


def test_a_url_from_the_environment_is_not_shown() -> None:
    with pytest.raises(Wrong) as caught:
        parse_upstream_url(Expanded("htps://hunter2/", "${URL}"))
    assert str(caught.value) == "'${URL}' is not an http(s) URL"
    assert caught.value.suggestion is None


def test_an_issuer_keeps_its_slash_and_its_gap() -> None:
    for issuer in ("https://a.example.com/o/myapp/", "https://login.microsoftonline.com/<tenant-id>/v2.0"):
        assert parse_issuer(issuer) == issuer


@pytest.mark.parametrize("issuer", ["https://a.example.com/?x=1", "https://a.example.com?"])
def test_an_issuer_has_no_query(issuer: str) -> None:
    with pytest.raises(Wrong, match="an issuer has none"):
        parse_issuer(issuer)


@pytest.mark.parametrize(
    ("url", "published"),
    [
        ("https://mcp.example.com", "https://mcp.example.com"),
        ("https://mcp.example.com/", "https://mcp.example.com"),
        ("https://MCP.example.com:443/a/b/", "https://mcp.example.com/a/b"),
        ("https://mcp.example.com:8443", "https://mcp.example.com:8443"),
        ("http://localhost:80/", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_our_own_url_has_one_form(url: str, published: str) -> None:
    assert parse_own_url(url) == published


@pytest.mark.parametrize(
    "url", ["https://a.b/?x", "https://a.b/c//d", "https://a.b/../c", "https://a.b/%63", "https://a.b/;c"]
)
def test_our_own_url_has_nothing_that_proxies_rewrite(url: str) -> None:
    with pytest.raises(Wrong):
        parse_own_url(url)


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://App.example.com:443/", "https://app.example.com"),
        ("http://localhost:6274", "http://localhost:6274"),
        ("vscode-webview://abc", "vscode-webview://abc"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_takes_the_form_that_browsers_send(origin: str, sent: str) -> None:
    assert parse_origin(origin) == sent


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", "https://a.b/c", "https://a.b?x", "https://u@a.b", ""]
)
def test_anything_else_is_no_origin(origin: str) -> None:
    with pytest.raises(Wrong):
        parse_origin(origin)


@pytest.mark.parametrize("host", ["mcp.example.com", "mcp.example.com:8443", "[::1]:3000", "10.0.0.1"])
def test_a_host_header_may_have_a_port(host: str) -> None:
    assert parse_allowed_host(host) == host


@pytest.mark.parametrize("host", ["*", "https://a.b", "a.b/c", "u@a.b", "a.b:x", "a b", ""])
def test_anything_else_is_no_host_header(host: str) -> None:
    with pytest.raises(Wrong):
        parse_allowed_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost", "::1"])
def test_one_listens_on_a_host(host: str) -> None:
    assert parse_bind_host(host) == host


@pytest.mark.parametrize("host", ["0.0.0.0:80", "[::]", "http://x", "*", ""])
def test_one_does_not_listen_on_anything_else(host: str) -> None:
    with pytest.raises(Wrong):
        parse_bind_host(host)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("localhost.example.com", False),
        ("a.localhost", False),
        ("127.0.0.1.example.com", False),
        ("2130706433", False),
        ("::ffff:127.0.0.1", False),
    ],
)
def test_loopback_is_what_cannot_leave_the_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@given(st.text())
def test_redacting_keeps_every_place(text: str) -> None:
    assert len(redact_urls(text)) == len(text)


@given(st.text(max_size=40))
def test_every_text_is_a_url_or_refused(text: str) -> None:
    for parse in (parse_upstream_url, parse_issuer, parse_own_url, parse_origin, parse_allowed_host, parse_bind_host):
        for candidate in (text, f"https://{text}"):
            with contextlib.suppress(Wrong):
                assert parse(candidate)


@pytest.mark.parametrize(
    "proxy", ["http://proxy.example.com:3128", "http://us:pw@proxy:8080/", "http://[::1]:3128", "http://u:p%40q@p:1"]
)
def test_a_proxy_is_an_http_url_with_a_port(proxy: str) -> None:
    secret = read_proxy(proxy, Path())
    assert secret.reveal() == proxy
    assert "pw" not in repr(secret)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("proxy.example.com:3128", "is not the URL of a proxy"),
        ("https://us:hunter2@proxy:3128", "the only kind of proxy there is"),
        ("socks5://us:hunter2@proxy:1080", "the only kind of proxy there is"),
        ("http://us:hunter2@proxy", "names no port"),
        ("http://us:hunter2@proxy:0", "names no port"),
        ("http://us:hunter2@proxy:99999", "is not the URL of a proxy"),
        ("http://us:hunter2@:3128", "is not the URL of a proxy"),
        ("http://us:hunter2@proxy:3128/x", "has a path"),
        ("http://us:hunter2@proxy:3128?x", "has a path, query"),
        ("http://hunter2@proxy:3128", "only half of user and password"),
        ("http://:hunter2@proxy:3128", "only half of user and password"),
        ("http://us:hunter2@pro xy:3128", "is not the URL of a proxy"),
        ("http://us:hunter2@proxy:3128\n", "is not the URL of a proxy"),
        ("", "an empty text"),
    ],
)
def test_another_proxy_is_refused_and_never_quoted(proxy: str, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        read_proxy(proxy, Path())
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("http://us:pw@proxy:3128\n")
    secret = read_proxy({"file": "proxy"}, tmp_path)
    assert (secret.reveal(), secret.file) == ("http://us:pw@proxy:3128", str(tmp_path / "proxy"))
