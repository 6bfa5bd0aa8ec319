"""Where an upstream's words may lead us: its own host as configured, the public internet, and nowhere else."""

from __future__ import annotations

import pytest

from aggregator.protocol.brokering.reach import Reach, is_public_https
from aggregator.protocol.learned_url import NotPlainUrl

PUBLIC = Reach(("https://mcp.example/mcp",))
PORT = Reach(("https://mcp.example:8443/mcp",))
PLAIN = Reach(("http://my_server:8080/mcp",))
LOCAL = Reach(("http://127.0.0.1:9000/mcp",))
NAMED = Reach(("https://mcp.example/mcp", "http://idp.corp:8080/realm"))
OPEN = Reach(("https://mcp.example/mcp",), allow_private_network=True)

# (reach, URL, True for inside, False for outside, None for nowhere)
WAYS = [
    (PUBLIC, "https://mcp.example/a", True),
    (PUBLIC, "https://MCP.example:443/a", True),
    (PUBLIC, "http://mcp.example/a", None),
    (PUBLIC, "https://mcp.example:8443/a", False),  # then its port is refused: it is not 443
    (PUBLIC, "https://as.example/token", False),
    (PUBLIC, "https://mcp.example.evil.example/a", False),
    (PUBLIC, "http://as.example/token", None),
    (PUBLIC, "https://169.254.169.254/latest", False),  # then its address is refused
    (PUBLIC, "http://169.254.169.254/latest", None),
    (PUBLIC, "http://localhost/token", None),
    (PUBLIC, "https://my_server/token", None),
    (PUBLIC, "javascript:alert(1)", None),
    (PUBLIC, "data:text/html,x", None),
    (PUBLIC, "file:///etc/passwd", None),
    (PUBLIC, "https://user@mcp.example/a", None),
    (PUBLIC, "https://mcp.example/a#b", None),
    (PUBLIC, "https://mcp.example/../a", None),
    (PUBLIC, "", None),
    (PORT, "https://mcp.example:8443/token", True),
    (PORT, "https://mcp.example/token", False),
    (PLAIN, "http://my_server:8080/token", True),
    (PLAIN, "https://my_server:8080/token", True),
    (PLAIN, "http://my_server/token", None),
    (PLAIN, "http://other:8080/token", None),
    (PLAIN, "http://localhost:8080/token", None),
    (LOCAL, "http://127.0.0.1:9000/token", True),
    (LOCAL, "http://localhost:9001/token", True),
    (LOCAL, "http://[::1]:9001/token", True),
    (LOCAL, "http://10.0.0.1:9001/token", None),
    (LOCAL, "http://localhost.evil.example/token", None),
    (LOCAL, "https://as.example/token", False),
    (NAMED, "http://idp.corp:8080/realm/token", True),
    (NAMED, "http://idp.corp:8081/realm/token", None),
    (NAMED, "https://mcp.example/a", True),
    (OPEN, "http://10.0.0.1:9001/token", True),
    (OPEN, "http://as_1:80/token", True),
    (OPEN, "https://as.example/token", True),
    (OPEN, "javascript:alert(1)", None),
]


@pytest.mark.requirement("UP7", "UP8")
@pytest.mark.parametrize(("reach", "url", "way"), WAYS)
def test_a_learned_url_goes_by_the_way_that_the_operator_opened(reach: Reach, url: str, way: bool | None) -> None:
    if way is None:
        with pytest.raises(NotPlainUrl):
            reach.destination(url)
        assert not reach.is_allowed(url)
    else:
        assert reach.destination(url).is_inside is way


def test_an_address_that_no_two_parsers_read_alike_vouches_for_nothing() -> None:
    assert not Reach(("https://bücher.example/mcp",)).is_allowed("https://bücher.example/mcp")


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://mcp.example.com/.well-known/oauth-client", True),
        ("https://93.184.216.34/x", True),
        ("https://[2606:4700::1111]/x", True),
        ("http://mcp.example.com/x", False),
        ("https://localhost/x", False),
        ("https://127.0.0.1/x", False),
        ("https://10.0.0.1/x", False),
        ("https://[::1]/x", False),
        ("https://mcp/x", False),
        ("https://mcp.local/x", False),
        ("https://mcp.corp.internal/x", False),
    ],
)
def test_a_document_of_ours_counts_only_where_others_can_fetch_it(url: str, public: bool) -> None:
    assert is_public_https(url) is public
