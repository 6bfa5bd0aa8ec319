"""Protected resource metadata: where it is looked for, and whose it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.errors import ConnectFailed
from aggregator.protocol.brokering.resource import (
    MAX_SERVERS,
    is_same_resource,
    parse_resource_metadata,
    resource_metadata_urls,
)

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("url", "challenge", "urls"),
    [
        ("https://a.example/mcp", None, [f"https://a.example{WELL_KNOWN}/mcp", f"https://a.example{WELL_KNOWN}"]),
        ("https://a.example/a/mcp/", None, [f"https://a.example{WELL_KNOWN}/a/mcp", f"https://a.example{WELL_KNOWN}"]),
        ("https://a.example", None, [f"https://a.example{WELL_KNOWN}"]),
        ("https://a.example/", None, [f"https://a.example{WELL_KNOWN}"]),
        ("https://a.example:8443/", None, [f"https://a.example:8443{WELL_KNOWN}"]),
        (
            "https://a.example/mcp?t=1",
            None,
            [f"https://a.example{WELL_KNOWN}/mcp", f"https://a.example{WELL_KNOWN}"],
        ),
        (
            "https://a.example/mcp",
            "https://a.example/custom.json",
            [
                "https://a.example/custom.json",
                f"https://a.example{WELL_KNOWN}/mcp",
                f"https://a.example{WELL_KNOWN}",
            ],
        ),
        (
            "https://a.example/mcp",
            f"https://a.example{WELL_KNOWN}",
            [f"https://a.example{WELL_KNOWN}", f"https://a.example{WELL_KNOWN}/mcp"],
        ),
    ],
)
@pytest.mark.requirement("UP1")
def test_the_challenge_comes_first_then_the_path_then_the_root(
    url: str, challenge: str | None, urls: list[str]
) -> None:
    assert list(resource_metadata_urls(url, challenge)) == urls


# (upstream, where the document stands, its resource, whether it is taken)
WHOSE = [
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp", True),
    ("https://a.example/mcp", "https://elsewhere.example/doc", "https://a.example/mcp", True),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp/", True),
    ("https://a.example/mcp/", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp", True),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "HTTPS://A.EXAMPLE:443/mcp", True),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/MCP", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp2", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://evil.example/mcp", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "http://a.example/mcp", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example:8443/mcp", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp#x", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}", "https://a.example", True),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}", "https://a.example/", True),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}", "https://a.example/other", False),
    ("https://a.example/a/mcp", f"https://a.example{WELL_KNOWN}/a", "https://a.example/a", True),
    ("https://a.example/ab/mcp", f"https://a.example{WELL_KNOWN}/a", "https://a.example/a", False),
    ("https://a.example/mcp", f"https://evil.example{WELL_KNOWN}", "https://evil.example", False),
    ("https://a.example/mcp", "https://a.example/custom.json", "https://a.example", False),
    ("https://a.example/mcp?t=1", f"https://a.example{WELL_KNOWN}/mcp?t=1", "https://a.example/mcp?t=1", True),
    ("https://a.example/mcp?t=1", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp", True),
    ("https://a.example/mcp?t=1", f"https://a.example{WELL_KNOWN}/mcp", "https://a.example/mcp?t=2", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "not a URL", False),
    ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp", "https://[", False),
]


@pytest.mark.requirement("UP1")
@pytest.mark.parametrize(("upstream", "place", "resource", "taken"), WHOSE)
def test_metadata_counts_only_for_the_resource_that_it_names(
    upstream: str, place: str, resource: str, taken: bool
) -> None:
    body = json.dumps({"resource": resource, "authorization_servers": ["https://as.example"]}).encode()
    if taken:
        assert parse_resource_metadata(body, place, upstream).resource == resource  # sent on as it was published
    else:
        with pytest.raises(ConnectFailed, match="speaks for the resource") as caught:
            parse_resource_metadata(body, place, upstream)
        assert not caught.value.temporary


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b"{}", b'{"resource": 1}', b'{"resource": ""}', b'{"resource":"a","resource":"b"}']
)
def test_what_is_no_metadata_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ConnectFailed, match="resource metadata"):
        parse_resource_metadata(body, "https://a.example/d", "https://a.example/mcp")


def metadata(**fields: Any) -> bytes:
    return json.dumps({"resource": "https://a.example/mcp"} | fields).encode()


def test_servers_and_scopes_are_taken_as_far_as_they_are_any() -> None:
    body = metadata(
        authorization_servers=["https://as.example/", 1, "", None] + ["https://x.example"] * 50,
        scopes_supported=["read", "wri te", 5, '"'],
    )
    read = parse_resource_metadata(body, "https://a.example/d", "https://a.example/mcp")
    assert read.authorization_servers[:2] == ("https://as.example/", "https://x.example")
    assert len(read.authorization_servers) == MAX_SERVERS
    assert read.scopes == ("read", "wri", "te")
    none = parse_resource_metadata(metadata(authorization_servers="x"), "https://a.example/d", "https://a.example/mcp")
    assert (none.authorization_servers, none.scopes) == ((), ())


def test_sameness_is_no_more_than_scheme_host_port_and_slash() -> None:
    assert is_same_resource("https://A.example:443/x", "https://a.example/x/")
    assert not is_same_resource("https://a.example/x//", "https://a.example/x")
    assert not is_same_resource("https://a.example/%78", "https://a.example/x")
