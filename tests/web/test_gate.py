from __future__ import annotations

import pytest

from aggregator.config.model import Auth, Config, Listen, Secret
from aggregator.errors import Refusal
from aggregator.web.gate import Gate

pytestmark = pytest.mark.requirement("TR1")


def gate(
    issuer_url: str = "https://mcp.example.com", *, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()
) -> Gate:
    return Gate(Config(Auth("https://idp.example.com"), (), issuer_url, allowed_hosts=hosts, allowed_origins=origins))


@pytest.mark.parametrize("host", ["mcp.example.com", "MCP.Example.COM", "mcp.example.com:443", "internal:3000"])
def test_our_own_hosts_may_knock(host: str) -> None:
    gate(hosts=("Internal:3000",)).check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",  # DNS rebinding: its name resolves to us
        "mcp.example.com.attacker.example",
        "attacker.example/mcp.example.com",
        "mcp.example.com:3000",
        "mcp.example.com:80",
        "mcp.example.com.",
        "xmcp.example.com",
        "mcp.example.com@attacker.example",
        "mcp.example.com,attacker.example",
        " mcp.example.com",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "",
    ],
)
def test_a_page_of_a_foreign_name_does_not_reach_us(host: str) -> None:
    with pytest.raises(Refusal) as refused:
        gate().check_host(host)
    assert refused.value.status == 421
    assert "https://mcp.example.com" in refused.value.description
    assert not host.strip() or host.strip() == "mcp.example.com" or host not in refused.value.description


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        gate().check_host(None)
    assert refused.value.status == 400


@pytest.mark.parametrize("issuer", ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000"])
def test_a_loopback_deployment_answers_to_every_loopback_name_on_its_port(issuer: str) -> None:
    local = gate(issuer)
    for host in ("localhost:3000", "127.0.0.1:3000", "[::1]:3000"):
        local.check_host(host)
        local.check_origin(f"http://{host}")
    for host in ("localhost", "localhost:3001", "attacker.example:3000", "127.0.0.2:3000"):
        with pytest.raises(Refusal):
            local.check_host(host)
        with pytest.raises(Refusal):
            local.check_origin(f"http://{host}")


@pytest.mark.parametrize(
    ("issuer", "host", "home"),
    [
        ("http://localhost:3000", "127.0.0.1:3000", "http://localhost:3000"),
        ("http://127.0.0.1:3000", "LocalHost:3000", "http://127.0.0.1:3000"),
        ("http://[::1]:3000", "localhost:3000", "http://[::1]:3000"),
        ("http://localhost:3000/team", "127.0.0.1:3000", "http://localhost:3000"),
        ("http://localhost", "127.0.0.1", "http://localhost"),
        ("http://localhost:3000", "localhost:3000", None),
        ("http://localhost:80", "localhost", None),
        (
            "http://localhost:3000",
            "[::1]:3000",
            None,
        ),  # the operator's word: a proxy writes it, whatever the browser has
        ("http://localhost:3000", "internal:3000", None),
        ("https://mcp.example.com", "mcp.example.com:443", None),
    ],
)
def test_a_page_has_one_home_among_the_names_of_this_computer(issuer: str, host: str, home: str | None) -> None:
    assert gate(issuer, hosts=("internal:3000", "[::1]:3000")).home_of_pages(host) == home


@pytest.mark.parametrize("origin", [None, "https://mcp.example.com", "https://App.example.com"])
def test_programs_our_own_pages_and_allowed_pages_may_call(origin: str | None) -> None:
    gate(origins=("https://app.example.com/",)).check_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://attacker.example",
        "http://mcp.example.com",
        "https://mcp.example.com:3000",
        "https://mcp.example.com.attacker.example",
        "https://app.example.com",
        "file://",
        "*",
        "https://mcp.example.com https://attacker.example",
    ],
)
def test_other_pages_may_not(origin: str) -> None:
    with pytest.raises(Refusal) as refused:
        gate().check_origin(origin)
    assert refused.value.status == 403


def test_an_address_with_the_default_port_written_out_is_the_same_address() -> None:
    gate("http://mcp.example.com").check_host("mcp.example.com:80")
    gate("https://mcp.example.com:443").check_host("mcp.example.com")
    gate("https://mcp.example.com:443").check_origin("https://mcp.example.com")


@pytest.mark.parametrize("listen", [Listen(allow_unauthenticated=True), Listen(token=Secret("3f1c9a0d5e7b42861f0e"))])
def test_where_other_machines_may_come_in_an_address_is_a_host_and_a_foreign_name_is_none(listen: Listen) -> None:
    """A page can have its own name resolved to our address, but an address resolves to nothing else."""
    open_gate = Gate(Config(Auth("https://idp.example.com"), (), "http://localhost:3000", listen=listen))
    for host in ("192.168.1.5:3000", "192.168.1.5", "[fe80::1]:3000", "localhost:3000"):
        open_gate.check_host(host)
    for host in ("evil.example:3000", "192.168.1.5.evil.example", "", "[", "1", "192.168.1.5@evil.example"):
        with pytest.raises(Refusal):
            open_gate.check_host(host)
    for origin in ("http://evil.example", "http://192.168.1.5:3000"):
        with pytest.raises(Refusal):
            open_gate.check_origin(origin)


def test_on_loopback_alone_an_address_of_the_network_is_no_host() -> None:
    with pytest.raises(Refusal):
        gate("http://localhost:3000").check_host("192.168.1.5:3000")
