from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.uris import (
    Claim,
    Place,
    Uris,
    build_uris,
    has_good_authority,
    parse_own,
    render_own,
    scheme_of,
)

NAMES = ("a", "B", "c.gateway", "d_1")
schemes = st.sampled_from(["ui", "file", "memo", "https", "git+ssh"])
rests = st.sampled_from(
    ["", "//", "///", "//x/y", "///etc//x", "x", "x:y", "/x", "//a.gateway/x", "a.gateway/x", "a.gateway///x"]
)
uris = st.builds(lambda scheme, rest: f"{scheme}:{rest}", schemes, rests)
templates = st.sampled_from(
    ["ui://{x}", "file:///{+path}", "memo:{a}/{b}", "ui://a.gateway/{x}", "git+ssh://h/{x}{?q}", "{+any}"]
)
claims = st.lists(
    st.builds(
        lambda listed, made, offers: (tuple(listed), tuple(made), offers),
        st.lists(uris, max_size=4),
        st.lists(templates, max_size=3),
        st.booleans(),
    ),
    min_size=len(NAMES),
    max_size=len(NAMES),
).map(lambda parts: [Claim(name, *part) for name, part in zip(NAMES, parts, strict=True)])


def table(**listed: list[str]) -> Uris:
    return build_uris(Claim(name, tuple(found)) for name, found in listed.items())


@given(claims)
def test_whatever_is_listed_leads_back_to_the_upstream_that_lists_it(claimed: list[Claim]) -> None:
    found = build_uris(claimed)
    shown: dict[str, tuple[str, str]] = {}
    for claim in claimed:
        for uri in claim.uris:
            text = found.publish(claim.upstream, uri)
            assert found.locate(text) == Place(claim.upstream, uri)
            assert scheme_of(text) == scheme_of(uri), "clients act on the scheme"
            assert shown.setdefault(text, (claim.upstream, uri)) == (claim.upstream, uri), "no text stands for two"


@given(claims)
def test_what_a_template_makes_leads_back_too(claimed: list[Claim]) -> None:
    found = build_uris(claimed)
    for claim in claimed:
        for template in claim.templates:
            if (text := found.publish_template(claim.upstream, template)) is not None:
                made = re.sub(r"\{[^}]*\}", "0", text)
                place = found.locate(made)
                assert place is not None
                assert place.upstream == claim.upstream
                assert place.uri == re.sub(r"\{[^}]*\}", "0", template)


@given(claims, uris)
def test_a_link_leads_back_or_is_left_alone(claimed: list[Claim], uri: str) -> None:
    found = build_uris(claimed)
    for name in NAMES:
        text = found.publish_link(name, uri)
        if uri.startswith("https:"):
            assert text == uri
        else:
            assert found.locate(text) == Place(name, uri)


@given(claims, uris)
def test_one_that_says_whose_it_is_means_the_same_whatever_others_list(claimed: list[Claim], uri: str) -> None:
    assert build_uris(claimed).locate(render_own("B", uri)) == Place("B", uri)
    assert build_uris([]).locate(render_own("B", uri)) is None, "an upstream that is not there has none"


@given(st.sampled_from(NAMES), uris)
def test_the_own_form_comes_back(name: str, uri: str) -> None:
    assert parse_own(render_own(name, uri)) == Place(name, uri)


@given(st.text(max_size=30))
def test_any_text_is_read(text: str) -> None:
    assert parse_own(text) is None or scheme_of(text) is not None
    table(a=["ui://x"], b=["ui://y"]).locate(text)


@pytest.mark.parametrize(
    ("uri", "own"),
    [
        ("ui://weather/map.html", "ui://f.gateway/weather/map.html"),
        ("file:///etc/x", "file://f.gateway//etc/x"),
        ("test://static-text", "test://f.gateway/static-text"),
        ("memo:insights", "memo:f.gateway/insights"),
        ("urn:isbn:1", "urn:f.gateway/isbn:1"),
        ("ui://", "ui://f.gateway/"),
    ],
)
def test_the_scheme_stays_and_the_upstream_stands_where_a_host_does(uri: str, own: str) -> None:
    assert render_own("f", uri) == own
    assert parse_own(own) == Place("f", uri)
    assert parse_own(own.replace("f.gateway", "F.GATEWAY")) == Place("F", uri)


def test_a_uri_stays_as_it_is_until_two_upstreams_use_it() -> None:
    alone = table(a=["ui://x"], b=["ui://y"])
    assert (alone.publish("a", "ui://x"), alone.publish("b", "ui://y")) == ("ui://x", "ui://y")
    both = table(a=["ui://x"], b=["ui://x", "ui://y"])
    assert both.publish("a", "ui://x") == "ui://x", "who is configured first keeps it"
    assert both.publish("b", "ui://x") == "ui://b.gateway/x"
    assert both.publish("b", "ui://y") == "ui://y"


def test_a_later_upstream_takes_nothing_that_an_earlier_ones_template_makes() -> None:
    found = build_uris([Claim("a", (), ("mail://thread/{id}",)), Claim("b", ("mail://thread/7",))])
    assert found.locate("mail://thread/7") == Place("a", "mail://thread/7")
    assert found.publish("b", "mail://thread/7") == "mail://b.gateway/thread/7"
    other = build_uris([Claim("b", ("mail://thread/7",)), Claim("a", (), ("mail://thread/{id}",))])
    assert other.locate("mail://thread/7") == Place("b", "mail://thread/7")
    assert other.locate("mail://thread/8") == Place("a", "mail://thread/8")
    assert other.publish_link("a", "mail://thread/7") == "mail://a.gateway/thread/7"


def test_what_nobody_lists_goes_to_whoever_alone_uses_its_scheme() -> None:
    found = build_uris([Claim("a", ("note://1",)), Claim("b", ("ui://1",)), Claim("c", ("ui://2",)), Claim("d")])
    assert found.locate("note://9") == Place("a", "note://9")
    assert found.locate("ui://9") is None
    assert found.locate("other://9") is None
    assert found.publish_link("c", "ui://9") == "ui://c.gateway/9", "so that it can be read"
    assert found.publish_link("c", "https://example.com/9") == "https://example.com/9", "anybody can fetch it"
    assert found.publish_link("c", "not a uri") == "not a uri"
    assert found.leaves_alone("d")
    assert not found.leaves_alone("a")


def test_one_upstream_alone_is_asked_for_everything() -> None:
    found = build_uris([Claim("tools"), Claim("a", offers=True)])
    assert found.leaves_alone("a")
    assert found.leaves_alone("tools")
    assert found.locate("any:thing") == Place("a", "any:thing")
    assert found.publish_template("a", "{+any}") == "{+any}"


def test_a_template_without_a_scheme_of_its_own_claims_nothing_beside_others() -> None:
    found = build_uris([Claim("a", (), ("{+any}", "x{y}:z")), Claim("b", ("ui://1",))])
    assert found.locate("ui://1") == Place("b", "ui://1")
    assert found.publish_template("a", "{+any}") is None
    assert found.publish_template("a", "x{y}:z") is None


def test_two_templates_that_make_the_same_are_told_apart() -> None:
    found = build_uris([Claim("a", (), ("ui://{x}/y",)), Claim("b", (), ("ui://{name}/y", "ui://{name}/z"))])
    assert found.publish_template("a", "ui://{x}/y") == "ui://{x}/y"
    assert found.publish_template("b", "ui://{name}/y") == "ui://b.gateway/{name}/y"
    assert found.publish_template("b", "ui://{name}/z") == "ui://{name}/z"


@pytest.mark.parametrize(
    "text", ["", "x", "/x", "//x/y", "1:x", "a b:c", "ui://a b", "ui://\ud800", "ui://\n", "{x}:y"]
)
def test_what_is_no_absolute_uri_has_no_scheme(text: str) -> None:
    assert scheme_of(text) is None
    with pytest.raises(ValueError, match="absolute"):
        render_own("a", text)


@pytest.mark.parametrize(
    "uri",
    [
        "ssh://git@github.com:owner/name",
        "note://<id>",
        "x://a|b",
        "x://a^b/c",
        "x://[a]/b",
        "db://host:port/x",
        "x://user@",
        "x://:80",
        "http://",
        "https://host:99999/",
        "http://[x",
    ],
)
def test_what_a_clients_parser_would_refuse_a_list_for_is_shown_otherwise(uri: str) -> None:
    """The Python SDK 1.x reads every URI of a list as a URL."""
    for uris in (build_uris([Claim("up", (uri,))]), build_uris([Claim("up", (uri,)), Claim("other", ("y://1",))])):
        shown = uris.publish("up", uri)
        assert shown == render_own("up", uri)
        assert has_good_authority(shown)
        assert uris.locate(shown) == uris.locate(uri) == Place("up", uri)


@pytest.mark.parametrize(
    "uri",
    [
        *("memo:x", "a:", "x://", "x:///a", "file:///C:/a", "docs://{a}/b", "postgres://u:p@h:5432/db", "urn:<x>"),
        *("x://a:/b", "x://a?b", "x://a#b|c", "x://h/<a>|[b]^", "s3://b/k:v@w", "https://a.b", "http://[::1]:80/x"),
    ],
)
def test_what_every_parser_reads_stays(uri: str) -> None:
    assert build_uris([Claim("up", (uri,))]).publish("up", uri) == uri
