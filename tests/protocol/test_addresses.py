"""Which addresses are outside: by table, and against the standard library's own opinion."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.protocol.addresses import first_inside, why_inside

OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001::1",
    "2001:200::1",
    "2620:4f:8000::1",
    "3ffe:ffff::1",
    "64:ff9b::808:808",
    "64:ff9b::1.1.1.1",
    "2606:4700::5efe:8.8.8.8",
    "2606:4700::200:5efe:8.8.8.8",
    "2606:4700::5eff:10.0.0.1",  # not quite ISATAP's form
]

INSIDE = [
    ("0.0.0.0", "this network"),
    ("0.255.255.255", "this network"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "shared"),
    ("100.100.100.200", "shared"),
    ("100.127.255.255", "shared"),
    ("127.0.0.1", "loopback"),
    ("127.1.2.3", "loopback"),
    ("127.255.255.255", "loopback"),
    ("168.63.129.16", "Azure"),
    ("169.254.169.254", "link-local"),
    ("169.254.170.2", "link-local"),
    ("172.16.0.1", "private"),
    ("172.17.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "IETF"),
    ("192.0.0.192", "IETF"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.0.1", "private"),
    ("192.168.255.255", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "not global"),
    ("::1", "loopback"),
    ("::2", "not global"),
    # IPv4-mapped, -compatible, -translated
    ("::ffff:127.0.0.1", "not global"),
    ("::ffff:169.254.169.254", "not global"),
    ("::ffff:8.8.8.8", "not global"),
    ("::127.0.0.1", "not global"),
    ("::8.8.8.8", "not global"),
    ("::ffff:0:7f00:1", "not global"),
    ("::ffff:0:808:808", "not global"),
    # NAT64, both prefixes
    ("64:ff9b::7f00:1", "IPv4: loopback"),
    ("64:ff9b::10.0.0.1", "IPv4: private"),
    ("64:ff9b::169.254.169.254", "IPv4: link-local"),
    ("64:ff9b::100.64.0.1", "IPv4: shared"),
    ("64:ff9b:1::169.254.169.254", "not global"),
    ("64:ff9b:1:a9fe:a9:fe00::", "not global"),
    ("64:ff9b:1::8.8.8.8", "not global"),
    ("64:ff9b:0:1::8.8.8.8", "not global"),
    # 6to4, Teredo and what else the IETF keeps
    ("2002:7f00:1::1", "6to4"),
    ("2002:a9fe:a9fe::1", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2001::1", "IETF"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "IETF"),
    ("2001:2::1", "IETF"),
    ("2001:10::1", "IETF"),
    ("2001:1ff:ffff::1", "IETF"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    # ISATAP
    ("2606:4700::5efe:192.168.1.1", "IPv4: private"),
    ("2606:4700::5efe:127.0.0.1", "IPv4: loopback"),
    ("2606:4700::200:5efe:169.254.169.254", "IPv4: link-local"),
    ("fe80::5efe:10.0.0.1", "not global"),
    # others
    ("100::1", "not global"),
    ("1fff:ffff::1", "not global"),
    ("4000::1", "not global"),
    ("5f00::1", "not global"),
    ("fc00::1", "not global"),
    ("fd00:ec2::254", "not global"),
    ("fdff:ffff::1", "not global"),
    ("fe80::1", "not global"),
    ("fec0::1", "not global"),
    ("ff02::1", "not global"),
    ("ff0e::1", "not global"),
    ("2606:4700::1%eth0", "one interface"),
    ("fe80::1%1", "one interface"),
]


def test_the_tables_are_as_long_as_promised() -> None:
    assert len(OUTSIDE) + len(INSIDE) >= 100


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize("address", OUTSIDE)
def test_the_public_internet_may_be_connected_to(address: str) -> None:
    assert why_inside(ipaddress.ip_address(address)) is None


@pytest.mark.requirement("CI2")
@pytest.mark.parametrize(("address", "words"), INSIDE)
def test_everything_else_may_not(address: str, words: str) -> None:
    why = why_inside(ipaddress.ip_address(address))
    assert why is not None
    assert words in why


@pytest.mark.requirement("CI2")
def test_one_address_inside_spoils_them_all() -> None:
    addresses = [ipaddress.ip_address(text) for text in ("8.8.8.8", "2606:4700::1", "10.0.0.1", "127.0.0.1")]
    assert first_inside(addresses) == (addresses[2], "private")
    assert first_inside(addresses[:2]) is None
    assert first_inside([]) is None


@pytest.mark.requirement("CI2")
@given(st.ip_addresses())
def test_whatever_is_outside_is_global_to_the_standard_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if why_inside(address) is None:
        assert address.is_global
        assert not address.is_multicast


_V4 = st.ip_addresses(v=4).map(int)


@pytest.mark.requirement("CI2")
@given(_V4, st.integers(0, 2**48 - 1))
def test_no_way_around_through_ipv6_leads_inside(number: int, noise: int) -> None:
    """Every known form that holds an IPv4 address: it is refused whenever the address itself is."""
    inside = why_inside(ipaddress.IPv4Address(number)) is not None
    global_prefix = 0x26064700 << 96
    forms = [
        0xFFFF << 32 | number,
        number,
        0xFFFF << 48 | number,
        0x64FF9B << 96 | number,
        0x64FF9B0001 << 80 | number,
        0x2002 << 112 | number << 80 | noise,
        0x20010000 << 96 | noise << 32 | (number ^ 0xFFFFFFFF),
        global_prefix | 0x5EFE << 32 | number,
        global_prefix | 0x02005EFE << 32 | number,
    ]
    for form in forms:
        if inside:
            assert why_inside(ipaddress.IPv6Address(form)) is not None
