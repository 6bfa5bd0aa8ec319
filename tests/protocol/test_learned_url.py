"""A stranger's URL: what is taken, and how it is read."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.learned_url import MAX_URL, NotPlainUrl, parse_learned_url

# (URL, host, port, what stands on the request line)
TAKEN = [
    ("https://client.example/id.json", "client.example", 443, "/id.json"),
    ("https://client.example", "client.example", 443, "/"),
    ("https://client.example/", "client.example", 443, "/"),
    ("https://client.example:8443/a/b", "client.example", 8443, "/a/b"),
    ("https://client.example:443/a", "client.example", 443, "/a"),
    ("https://Client.Example/a", "Client.Example", 443, "/a"),
    ("https://client.example./a", "client.example.", 443, "/a"),
    ("https://client.example/a?b=c/d?e", "client.example", 443, "/a?b=c/d?e"),
    ("https://client.example?x", "client.example", 443, "/?x"),
    ("https://client.example/a%20b", "client.example", 443, "/a%20b"),
    ("https://client.example/a..b/...", "client.example", 443, "/a..b/..."),
    ("https://xn--bcher-kva.example/a", "xn--bcher-kva.example", 443, "/a"),
    ("https://localhost:1/a", "localhost", 1, "/a"),
    ("https://93.184.216.34/a", "93.184.216.34", 443, "/a"),
    ("https://10.0.0.1/a", "10.0.0.1", 443, "/a"),
    ("https://[2606:4700::1111]:444/a", "[2606:4700::1111]", 444, "/a"),
]

# (URL, a word of the reason)
REFUSED = [
    ("", "not an https URL"),
    ("client.example/a", "not an https URL"),
    ("//client.example/a", "not an https URL"),
    ("http://client.example/a", "not an https URL"),
    ("HTTPS://client.example/a", "not an https URL"),
    ("Https://client.example/a", "not an https URL"),
    ("ftp://client.example/a", "not an https URL"),
    ("file:///etc/passwd", "not an https URL"),
    ("gopher://client.example/a", "not an https URL"),
    ("javascript:alert(1)", "not an https URL"),
    (" https://client.example/a", "not an https URL"),
    ("https:/client.example/a", "not an https URL"),
    ("https:client.example/a", "not an https URL"),
    ("https:\\\\client.example\\a", "not an https URL"),
    ("https://", "plain URL"),
    ("https:///a", "plain URL"),
    ("https://:443/a", "plain URL"),
    ("https://client.example/a#", "fragment"),
    ("https://client.example/a#b", "fragment"),
    ("https://user@client.example/a", "user name"),
    ("https://user:pass@client.example/a", "user name"),
    ("https://client.example@10.0.0.1/a", "user name"),
    ("https://client.example:443@10.0.0.1/a", "user name"),
    ("https://@client.example/a", "user name"),
    ("https://client.example\\@10.0.0.1/a", "user name"),
    ("https://client.example\\.evil.example/a", "plain URL"),
    ("https://client.example/a b", "plain URL"),
    ("https://client.example/a\n", "plain URL"),
    ("https://client.example/a\r\nhost: x", "plain URL"),
    ("https://client.example/\x00", "plain URL"),
    ("https://client.example\t/a", "plain URL"),
    ("https://client.example/<b>", "plain URL"),
    ("https://client.example/%zz", "plain URL"),
    ("https://client.example/%", "plain URL"),
    ("https://bücher.example/a", "plain URL"),
    ("https://client。example/a", "plain URL"),
    ("https://ｃlient.example/a", "plain URL"),
    ("https://①②⑦.0.0.1/a", "plain URL"),
    ("https://client.example/ü", "plain URL"),
    ("https://client%2eexample/a", "plain URL"),
    ("https://client..example/a", "plain URL"),
    ("https://.client.example/a", "plain URL"),
    ("https://-client.example/a", "plain URL"),
    ("https://client_a.example/a", "plain URL"),
    ("https://client.example:/a", "plain URL"),
    ("https://client.example:0/a", "plain URL"),
    ("https://client.example:0443/a", "plain URL"),
    ("https://client.example:65536/a", "port"),
    ("https://client.example:99999/a", "port"),
    ("https://client.example:443x/a", "plain URL"),
    ("https://client.example/.", "segment"),
    ("https://client.example/..", "segment"),
    ("https://client.example/./a", "segment"),
    ("https://client.example/a/../b", "segment"),
    ("https://client.example/a/%2e%2E/b", "segment"),
    ("https://client.example/.%2e/b", "segment"),
    ("https://client.example/%2e", "segment"),
    ("https://127.1/a", "neither a name nor an address"),
    ("https://127.0.1/a", "neither a name nor an address"),
    ("https://2130706433/a", "neither a name nor an address"),
    ("https://0x7f000001/a", "neither a name nor an address"),
    ("https://0x7f.0.0.1/a", "neither a name nor an address"),
    ("https://0177.0.0.1/a", "neither a name nor an address"),
    ("https://127.0.0.1./a", "neither a name nor an address"),
    ("https://256.0.0.1/a", "neither a name nor an address"),
    ("https://1.2.3.4.5/a", "neither a name nor an address"),
    ("https://client.example.0x1/a", "neither a name nor an address"),
    ("https://[::1/a", "plain URL"),
    ("https://::1/a", "plain URL"),
    ("https://[fe80::1%25eth0]/a", "plain URL"),
    ("https://[::g]/a", "plain URL"),
    ("https://[1:2:3]/a", "neither a name nor an address"),
    ("https://client.example/" + "a" * MAX_URL, "longer"),
]


def test_the_tables_are_as_long_as_promised() -> None:
    assert len(TAKEN) + len(REFUSED) >= 60


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize(("text", "host", "port", "target"), TAKEN)
def test_a_plain_https_url_is_read_as_it_stands(text: str, host: str, port: int, target: str) -> None:
    url = parse_learned_url(text)
    assert (url.text, url.host, url.port, url.target) == (text, host, port, target)


@pytest.mark.requirement("CI1", "CI2")
@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_anything_else_is_refused_in_words_that_quote_nothing(text: str, words: str) -> None:
    with pytest.raises(NotPlainUrl) as caught:
        parse_learned_url(text)
    assert words in str(caught.value)
    assert "client" not in str(caught.value)


def test_only_its_own_names_are_this_computer() -> None:
    own = ["https://localhost:1/a", "https://127.0.0.1/a", "https://[::1]/a"]
    others = ["https://LOCALHOST/a", "https://localhost./a", "https://127.0.0.2/a", "https://[0:0:0:0:0:0:0:1]/a"]
    assert [parse_learned_url(text).is_loopback for text in own + others] == [True] * 3 + [False] * 4


def test_the_usual_port_is_not_shown() -> None:
    assert parse_learned_url("https://c.example:443/a").netloc == "c.example"
    assert parse_learned_url("https://c.example:444/a").netloc == "c.example:444"


@given(st.text(max_size=40).map("https://".__add__) | st.text(max_size=40).map("https://c.example".__add__))
def test_what_is_taken_means_the_same_to_the_standard_library(text: str) -> None:
    try:
        url = parse_learned_url(text)
    except NotPlainUrl:
        return
    parts = urlsplit(text)
    assert (parts.hostname, parts.port or 443) == (url.host.strip("[]").lower(), url.port)
    assert (parts.path, parts.username, parts.fragment) == (url.path, None, "")
